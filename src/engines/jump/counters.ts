/**
 * Counters behind places: a program that has costly arguments to work out for a probe looks first whether a counter
 * of its own is above zero (`sys/sdt.h`: semaphores; the kernel: ref_ctr_offset, kernel/events/uprobes.c).
 *
 * The row says that a counter is raised after it was, and that it is not before it is lowered: whoever dies
 * between leaves it too high, which costs the program its look, and never below what others have made of it.
 */

import type { Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { ControlBlock } from './block.ts';

/** `short`, at an even offset, never below zero: what is not so is no counter (kernel/events/uprobes.c, update_ref_ctr). */
export const COUNTER_BYTES = 2;
const MOST = 0x7fff;

/** Raises the counters of sites that have one and are not counted there yet. The caller writes the rows. */
export function raiseCounters(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  block: ControlBlock,
  sites: readonly SiteRow[],
): void {
  for (const site of sites) {
    const row = block.sites.get(site.index);
    if (row?.counter === undefined || row.isRaised) continue;
    if (!changeCounter(stopped, maps, row, row.counter, 1)) continue;
    block.putSite({ ...row, isRaised: true });
  }
}

/** Says of sites that their counters are not raised. The caller writes the rows, and lowers what is returned. */
export function releaseCounters(block: ControlBlock, sites: readonly SiteRow[]): SiteRow[] {
  return sites.flatMap((site) => {
    const row = block.sites.get(site.index);
    if (row?.counter === undefined || !row.isRaised) return [];
    block.putSite({ ...row, isRaised: false });
    return [row];
  });
}

/** Lowers counters that {@link releaseCounters} gave. */
export function lowerCounters(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  rows: readonly SiteRow[],
): void {
  for (const row of rows) {
    if (row.counter !== undefined) changeCounter(stopped, maps, row, row.counter, -1);
  }
}

/** @returns false where nothing was changed: unloaded, or at its end. */
function changeCounter(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  { inode }: SiteRow,
  at: Address,
  by: 1 | -1,
): boolean {
  const mapping = findMapping(maps, at);
  // Not believed: whoever wrote the row may have meant any memory.
  if (mapping?.inode !== inode || !mapping.writable || mapping.shared) return false;
  const bytes = stopped.read(at, COUNTER_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset, COUNTER_BYTES);
  const value = view.getInt16(0, true) + by;
  if (value < 0 || value > MOST) return false;
  view.setInt16(0, value, true);
  stopped.write(at, bytes);
  return true;
}
