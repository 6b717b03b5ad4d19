/** Where a task that is in the stub of one site comes back into the bytes that another replaces. */

import { address } from '../../base/brand.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import { patchRange, type PatchMap } from './patches.ts';
import type { OriginalBytes } from './restore.ts';
import { copiersOf, exitsOf, slotsIn } from './slots.ts';

/** Code of a stub that goes on inside the bytes that a site replaces: behind the slot that leads others to it. */
export interface Passage<Site> {
  readonly site: Site;
  readonly range: AddressRange;
}

/** The passages of sites that are about to be made. No task may stand in one when they are. */
export function findPassages<Site extends { readonly row: SiteRow }>(
  sites: readonly Site[],
  stubs: PatchMap,
  original: OriginalBytes,
): Passage<Site>[] {
  return sites.flatMap((site) => {
    const { start, end } = patchRange(site.row);
    return copiersOf(start, stubs).flatMap((from): Passage<Site>[] => {
      const displaced = original(from, from.displacedBytes) ?? new Uint8Array();
      const goesInside = exitsOf(displaced, from.address).some(
        (exit) => exit > start && exit < end,
      );
      if (!goesInside) return [];
      const slot = slotsIn(from, original).find(({ boundary }) => boundary === start);
      const first = address((slot?.at ?? from.displaced) + 1n);
      return [{ site, range: { start: first, end: address(from.stub + BigInt(from.stubBytes)) } }];
    });
  });
}
