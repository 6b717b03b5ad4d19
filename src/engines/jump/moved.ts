/**
 * Text that was moved with our jumps in it (mremap): at another address they lead nowhere. The rows say what was written,
 * and the file what was there.
 */

import { address, type Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { readMany } from '../../process/read-many.ts';
import type { ControlBlock } from './block.ts';
import { isFileOf, isPlaceThere } from './gone.ts';
import { jumpBytes, paddingOf, patchOf } from './patches.ts';
import type { RestoreTarget } from './restore.ts';

/** Bytes that we wrote into a file's text, by file offset. */
interface Written {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * Gives moved text the file's bytes back, wherever in the process exactly that stands which was written. To be called
 * before the sites that have gone lose their rows.
 */
export function restoreMoved(target: RestoreTarget, block: ControlBlock): void {
  const { maps } = target;
  const gone = [...block.sites.values()].filter(
    (site) => site.state === 'live' && !isPlaceThere(maps, site),
  );
  if (gone.length === 0) return;
  for (const mapping of maps) {
    const sites = gone.filter((site) => isFileOf(mapping, site) && lies(mapping, site.fileOffset));
    if (sites.length > 0 && !mapping.shared) restoreIn(target, mapping, sites);
  }
}

function restoreIn(
  { stopped, original }: RestoreTarget,
  mapping: MemoryMapping,
  sites: readonly SiteRow[],
): void {
  const descending = sites.toSorted((one, other) => other.fileOffset - one.fileOffset);
  const written = descending.flatMap(writtenBy).filter(({ offset }) => lies(mapping, offset));
  const expected = new Map<number, number>();
  // From above: the lower one wins.
  for (const { offset, bytes } of written) {
    bytes.forEach((byte, at) => expected.set(offset + at, byte));
  }
  const places = written.map(({ offset, bytes }) => {
    return { address: addressIn(mapping, offset), length: bytes.byteLength };
  });
  const found = readMany(stopped, places);
  written.forEach(({ offset }, index) => {
    const place = places[index];
    const bytes = found[index];
    if (place === undefined || bytes?.byteLength !== place.length) return;
    if (!bytes.every((byte, at) => byte === expected.get(offset + at))) return;
    const file = original({ address: place.address, inode: mapping.inode }, place.length);
    if (file !== undefined) stopped.write(place.address, file);
  });
}

/** The site's own bytes, and its jump in padding. */
function writtenBy(site: SiteRow): Written[] {
  const own = { offset: site.fileOffset, bytes: patchOf(site) };
  const padding = paddingOf(site);
  if (padding === undefined) return [own];
  const offset = site.fileOffset + Number(padding - site.address);
  return [own, { offset, bytes: jumpBytes(padding, site.stub) }];
}

function addressIn({ start, offset }: MemoryMapping, fileOffset: number): Address {
  return address(start + BigInt(fileOffset) - offset);
}

function lies({ start, end, offset }: MemoryMapping, fileOffset: number): boolean {
  const at = BigInt(fileOffset) - offset;
  return at >= 0n && at < end - start;
}
