/**
 * Sites whose text has gone: the file was unmapped, and perhaps something else lies there now. What was written
 * went with it; what a row says of the place counts no more.
 */

import type { Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import type { ControlBlock } from './block.ts';
import type { ConsumerRequest } from './prepare.ts';

/** What tells the place of a file in memory. */
export type MappedPlace = Pick<
  SiteRow,
  'address' | 'fileOffset' | 'deviceMajor' | 'deviceMinor' | 'inode'
>;

/** Whether the file's byte that a place is about is mapped there, executable at the moment or not. */
export function isPlaceThere(maps: readonly MemoryMapping[], place: MappedPlace): boolean {
  const mapping = findMapping(maps, place.address);
  if (mapping === undefined || !isFileOf(mapping, place)) return false;
  return place.address - mapping.start + mapping.offset === BigInt(place.fileOffset);
}

/** Whether a mapping is of a place's file. */
export function isFileOf(
  { device, inode }: MemoryMapping,
  place: Pick<SiteRow, 'deviceMajor' | 'deviceMinor' | 'inode'>,
): boolean {
  if (inode !== place.inode) return false;
  const [major, minor] = device.split(':').map((part) => Number.parseInt(part, 16));
  return major === place.deviceMajor && minor === place.deviceMinor;
}

/** The same of another byte of a site's file: its padding. */
export function isThereToo(maps: readonly MemoryMapping[], site: SiteRow, at: Address): boolean {
  const fileOffset = site.fileOffset + Number(at - site.address);
  return isPlaceThere(maps, { ...site, address: at, fileOffset });
}

/** Whether the place of a request is where it says. */
export function isRequestThere(
  maps: readonly MemoryMapping[],
  { address, file, plan }: ConsumerRequest,
): boolean {
  return isPlaceThere(maps, { ...file, address, fileOffset: plan.offset });
}

/**
 * Retires live sites whose text has gone, whoever made them: their stubs are given back when quiet, and their rows
 * with them. The caller writes the rows.
 */
export function retireGone(block: ControlBlock, maps: readonly MemoryMapping[]): void {
  for (const site of block.sites.values()) {
    if (site.state === 'live' && !isPlaceThere(maps, site)) {
      block.putSite({ ...site, state: 'retired' });
    }
  }
}
