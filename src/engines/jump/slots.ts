/**
 * Slots: in front of each instruction in a stub's copy of what it displaces, but the first, a nop of five bytes
 * lies in wait. Where a site is made at that instruction, the slot becomes a jump to its stub: nobody comes to
 * the instruction in the text any more, who comes from before it.
 */

import { address, type Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import { Assembler } from '../../x64/assembler.ts';
import { decodeAll, neverGoesOn } from '../../x64/decode.ts';
import { relocate, SLOT_BYTES } from '../../x64/relocate.ts';
import type { OriginalBytes } from './restore.ts';
import { jumpBytes, MAX_REACH, type PatchMap } from './patches.ts';

/** A slot of a stub. */
export interface Slot {
  /** Where it lies. */
  readonly at: Address;
  /** The place in the text whose instruction's copy is behind it. */
  readonly boundary: Address;
}

/** A stub's copy of the displaced instructions: where each of them begins at the site and in the copy. */
export type CopyMap = readonly { readonly from: number; readonly to: number }[];

/** The slots of a stub, by its site's row and its copy's map. */
export function slotsOf(
  { address: site, displaced }: Pick<SiteRow, 'address' | 'displaced'>,
  map: CopyMap,
): Slot[] {
  return map.slice(1).map(({ from, to }) => ({
    at: address(displaced + BigInt(to)),
    boundary: address(site + BigInt(from)),
  }));
}

/**
 * The map of a copy that was made before, by the bytes that it was made of.
 * @returns undefined where these can't have been copied there: somebody else wrote the row.
 */
export function copyMapOf(
  { address: site, displaced, displacedBytes }: SiteRow,
  original: Uint8Array,
): CopyMap | undefined {
  const bytes = original.subarray(0, displacedBytes);
  if (bytes.byteLength !== displacedBytes) return undefined;
  const moved = relocate(bytes, site, displaced, { slots: true });
  return moved.kind === 'relocated' ? moved.map : undefined;
}

/** The slots of a stub that was made before; none where the file can't be read. */
export function slotsIn(row: SiteRow, original: OriginalBytes): Slot[] {
  const bytes = original(row, row.displacedBytes);
  return slotsOf(row, (bytes && copyMapOf(row, bytes)) ?? []);
}

/**
 * Where in a copy a task goes on that stands so many bytes behind the site; undefined in the middle of an
 * instruction. Behind a system call that is right behind its copy, and not behind filler that a page's end asks for:
 * the kernel repeats an interrupted call by going two bytes back (arch/x86/kernel/signal.c).
 */
export function placeInCopy(
  map: CopyMap,
  original: Uint8Array,
  inside: number,
): number | undefined {
  const index = map.findIndex(({ from }) => from === inside);
  const place = map[index];
  const before = map[index - 1];
  const isBehindCall = original[inside - 2] === 0x0f && original[inside - 1] === 0x05;
  if (place === undefined || before === undefined || !isBehindCall) return place?.to;
  const slot = index > 1 ? SLOT_BYTES : 0;
  return before.to + slot + (place.from - before.from);
}

/** Where the stub of a site goes back to in the text: behind what it displaces, and by its branches. */
export function exitsOf(displaced: Uint8Array, at: Address): bigint[] {
  const end = at + BigInt(displaced.byteLength);
  const instructions = decodeAll(displaced, at);
  const exits = instructions.flatMap(({ flow, target }) =>
    target !== undefined && flow !== 'call' && (target < at || target >= end) ? [target] : [],
  );
  const last = instructions.at(-1)?.flow ?? 'next';
  return neverGoesOn(last) ? exits : [...exits, end];
}

/** What a slot holds that leads to a site's stub; or to the instruction behind it. */
export function slotBytes(at: Address, site: Pick<SiteRow, 'stub'> | undefined): Uint8Array {
  return site === undefined ? new Assembler(at).nop(SLOT_BYTES).finish() : jumpBytes(at, site.stub);
}

/** The sites whose stubs may have a copy of the instruction at `at`, which is not their own first. */
export function copiersOf<Site extends SiteRow>(at: Address, sites: PatchMap<Site>): Site[] {
  return sites
    .between(at - BigInt(MAX_REACH), at)
    .filter((site) => site.address + BigInt(site.displacedBytes) > at);
}
