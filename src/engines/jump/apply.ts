/**
 * Makes a prepared change in a stopped address space: code first, rows next, then what leads to it, from the
 * inside out. Every step leaves a target that runs as before if we die behind it.
 */

import { address, type Address } from '../../base/brand.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { writeCode, type CodePatch } from '../../process/patch.ts';
import type { ControlBlock } from './block.ts';
import { raiseCounters } from './counters.ts';
import { findObstacles, moveTasks, type FailedSite } from './obstacles.ts';
import { JUMP_BYTES, jumpBytes, MAX_REACH, PatchMap, patchOf } from './patches.ts';
import type { ListChange, PreparedChange } from './prepare.ts';
import type { NewSite, Repunned } from './site-preparation.ts';
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
  const rows = [
    ...[...change.newSites, ...change.adopted].map(({ row }) => row),
    ...change.repunned.map(({ before: row }) => row),
  ];
  const places = rows.map(({ address: start }) => {
    return { start, end: address(start + BigInt(MAX_REACH)) };
  });
  const absent = findAbsent(stopped, new PatchMap(change.before), places);
  const unpatched = change.adopted.filter(({ row }) => absent.has(row));
  const sites = [...change.newSites, ...unpatched].sort((one, other) =>
    one.row.address > other.row.address ? -1 : 1,
  );
  const before = new PatchMap(change.before.filter((row) => !absent.has(row)));
  const { failed, repunned } = findObstacles(stopped, maps, { ...change, sites, before });
  for (const write of change.code) stopped.write(write.address, write.bytes);
  writeCode(stopped, takeOut(repunned, before));
  // Taken out of the block, not of the memory: the code lies where the next change may write.
  for (const { site } of failed) dropSite(block, change, site);
  for (const { after } of repunned) block.putSite(after);
  const dropped = new Set(failed.map(({ site }) => site.row));
  writeRows(stopped, block);
  for (const { from, to, address: at } of change.slots) {
    if (!dropped.has(from) && !dropped.has(to)) stopped.write(at, slotBytes(at, to));
  }
  for (const list of change.listChanges) {
    if (!dropped.has(list.site)) prependProgram(stopped, list);
  }
  const patched = sites.filter(({ row }) => !dropped.has(row));
  moveTasks(stopped, patched);
  writeCode(stopped, paddingPatches(patched));
  writeCode(stopped, putIn(patched, repunned, before));
  const used = [...patched, ...change.adopted].map(({ row }) => row);
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

/** Takes puns out that are about to lead elsewhere, the lowest first: one may rest on the next. */
function takeOut(repunned: readonly Repunned[], before: PatchMap): CodePatch[] {
  const ascending = repunned.toSorted((one, other) =>
    one.before.address < other.before.address ? -1 : 1,
  );
  return ascending.map(({ before: row, original }) => {
    const bytes = original.subarray(0, row.patchBytes);
    const expected = before.overlay(row.address, bytes);
    before.delete(row);
    return { address: row.address, expected, bytes: before.overlay(row.address, bytes) };
  });
}

/** The jumps in padding. */
function paddingPatches(sites: readonly NewSite[]): CodePatch[] {
  return sites.flatMap(({ row: { method, via, stub }, padding }) => {
    if (method !== 'short-jump' || via === undefined || padding === undefined) return [];
    return [{ address: via, expected: padding, bytes: jumpBytes(via, stub) }];
  });
}

/** The patches of sites and of puns that lead elsewhere, the highest first. */
function putIn(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  before: PatchMap,
): CodePatch[] {
  const now = before;
  const then = before.copy();
  const all = [
    ...sites.map(({ row, plan }) => ({ row, original: plan.bytes })),
    ...repunned.map(({ after, original }) => ({ row: after, original })),
  ].sort((one, other) => (one.row.address > other.row.address ? -1 : 1));
  return all.map(({ row, original }) => {
    const bytes = original.subarray(0, row.patchBytes);
    const expected = now.overlay(row.address, bytes);
    then.add(row);
    // From the highest down: only what was there before can lie over it.
    const isOpen = now.between(row.address - BigInt(JUMP_BYTES), row.address).length === 0;
    const patch = isOpen ? patchOf(row) : then.overlay(row.address, bytes);
    return { address: address(row.address), expected, bytes: patch };
  });
}
