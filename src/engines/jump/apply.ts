/**
 * Makes a prepared change in a stopped address space: code first, rows next, then what leads to it, from the
 * inside out. Every step leaves a target that runs as before if we die behind it.
 */

import { address, type Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { writeCode } from '../../process/patch.ts';
import type { ControlBlock } from './block.ts';
import { raiseCounters } from './counters.ts';
import { findObstacles, moveTasks, type FailedSite } from './obstacles.ts';
import { intend, patchesFor, type IntendedChange } from './intended.ts';
import { MAX_REACH } from './patches.ts';
import type { ListChange, PreparedChange } from './prepare.ts';
import type { NewSite } from './site-preparation.ts';
import { findAbsent } from './presence.ts';
import { slotBytes } from './slots.ts';

/**
 * Makes the change: code that nobody jumps to, rows that describe it, the slots of other stubs, then one write
 * a site, from the highest address down.
 * @returns the sites that were not patched; their rows are taken out again.
 */
export function applyChange(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  block: ControlBlock,
  change: PreparedChange,
): readonly FailedSite[] {
  const { intended, adopted } = change;
  const absent = findAbsent(stopped, intended.before, placesOf(change));
  const text = absent.size === 0 ? intended : withoutAbsent(change, absent);
  const { sites, before } = text;
  const { failed, repunned, inside } = findObstacles(stopped, maps, text);
  const dropped = new Set(failed.map(({ site }) => site.row));
  const patched = sites.filter(({ row }) => !dropped.has(row));
  const isClear = failed.length === 0 && repunned.length === text.repunned.length;
  const patches = isClear ? text.patches : patchesFor(patched, repunned, before);
  for (const write of change.code) stopped.write(write.address, write.bytes);
  writeCode(stopped, patches.out);
  // Taken out of the block, not of the memory: the code lies where the next change may write.
  for (const { site } of failed) dropSite(block, change, site);
  for (const { after } of repunned) block.putSite(after);
  writeRows(stopped, block);
  for (const { from, to, address: at } of change.slots) {
    if (!dropped.has(from) && !dropped.has(to)) stopped.write(at, slotBytes(at, to));
  }
  for (const list of change.listChanges) {
    if (!dropped.has(list.site)) prependProgram(stopped, list);
  }
  moveTasks(inside.filter(({ site }) => !dropped.has(site.row)));
  writeCode(stopped, patches.paddings);
  writeCode(stopped, patches.into);
  const used = [...patched, ...adopted].map(({ row }) => row);
  raiseCounters(stopped, maps, block, used);
  writeRows(stopped, block);
  return failed;
}

/** Writes what changed in the block, which is mapped if something changed. */
export function writeRows(stopped: StoppedProcess, block: ControlBlock): void {
  for (const write of block.takeWrites()) stopped.write(write.address, write.bytes);
}

/** Reads a pointer word of the target. */
export function readWord(stopped: StoppedProcess, at: Address): bigint {
  const bytes = stopped.read(at, 8);
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
}

/** Writes a pointer word: aligned, by one write, so that a stub sees the old or the new one. */
export function writeWord(stopped: StoppedProcess, at: Address, value: bigint): void {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  stopped.write(at, bytes);
}

/** Puts a program in front of its site's list. */
function prependProgram(stopped: StoppedProcess, change: ListChange): void {
  writeWord(stopped, change.next, readWord(stopped, change.site.list));
  writeWord(stopped, change.site.list, change.program);
}

/** Takes the rows of a site out again; of one that was there before, only those of the change. */
function dropSite(block: ControlBlock, change: PreparedChange, site: NewSite): void {
  if (change.newSites.includes(site)) {
    for (const program of block.programsOf(site.row)) block.remove('programs', program.index);
    block.remove('sites', site.row.index);
    return;
  }
  for (const list of change.listChanges) {
    if (list.site === site.row) block.remove('programs', list.row.index);
  }
}

/** Where the change looks at the text. */
function placesOf({ newSites, adopted, intended }: PreparedChange): AddressRange[] {
  if (intended.before.isEmpty) return [];
  const rows = [
    ...[...newSites, ...adopted].map(({ row }) => row),
    ...intended.repunned.map(({ before: row }) => row),
  ];
  return rows.map(({ address: start }) => {
    return { start, end: address(start + BigInt(MAX_REACH)) };
  });
}

/** The change, where some that should have been patched were not: their maker was killed before. */
function withoutAbsent(
  { newSites, adopted, intended }: PreparedChange,
  absent: ReadonlySet<SiteRow>,
): IntendedChange {
  const before = intended.before.copy();
  for (const row of absent) before.delete(row);
  const unpatched = adopted.filter(({ row }) => absent.has(row));
  return intend({ ...intended, sites: [...newSites, ...unpatched], before });
}
