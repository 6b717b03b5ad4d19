/** Makes a prepared change in a stopped address space: code first, rows next, the five bytes last. */

import { address, hex, type Address } from '../../base/brand.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { readMany } from '../../process/read-many.ts';
import { findWords } from '../../process/stacks.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { StoppedTask } from '../../process/stopped-task.ts';
import { writeCode } from '../../process/patch.ts';
import type { ControlBlock } from './block.ts';
import { JUMP_BYTES } from './planner.ts';
import type { ListChange, NewSite, PreparedChange } from './prepare.ts';

/** A site that could not be patched in this stop. */
export interface FailedSite {
  readonly site: NewSite;
  /** `busy`: a task is in the way, a later stop may do. `foreign`: somebody else's bytes are there. */
  readonly kind: 'busy' | 'foreign';
  readonly reason: string;
}

/**
 * Makes the change. Every step leaves a target that runs as before if we die behind it: code that nobody
 * jumps to, rows that describe it, then one write a site.
 * @returns the sites that were not patched; their rows are taken out again.
 */
export function applyChange(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  block: ControlBlock,
  change: PreparedChange,
): FailedSite[] {
  const jumpless = change.adopted.filter((site) => !hasJump(stopped, site));
  const sites = [...change.newSites, ...jumpless];
  const failed = findObstacles(stopped, maps, sites);
  for (const write of change.code) stopped.write(write.address, write.bytes);
  // Taken out of the block, not of the memory: the code lies where the next change may write.
  for (const { site } of failed) dropSite(block, change, site);
  const dropped = new Set(failed.map(({ site }) => site.row.index));
  writeRows(stopped, block);
  for (const list of change.listChanges) {
    if (!dropped.has(list.site.index)) prependProgram(stopped, list);
  }
  const patched = dropped.size === 0 ? sites : sites.filter(({ row }) => !dropped.has(row.index));
  moveTasks(stopped, patched);
  writeCode(
    stopped,
    patched.map(({ row, plan, jump }) => ({
      address: row.address,
      expected: plan.displaced.subarray(0, JUMP_BYTES),
      bytes: jump,
    })),
  );
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

function hasJump(stopped: StoppedProcess, { row, jump }: NewSite): boolean {
  return Buffer.compare(stopped.read(row.address, JUMP_BYTES), jump) === 0;
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

/** Rule 5: memory must equal the file, and nobody may be about to return into the middle. */
function findObstacles(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  sites: readonly NewSite[],
): FailedSite[] {
  const failed = new Map<NewSite, FailedSite>();
  const inner: (AddressRange & { readonly site: NewSite })[] = [];
  const places = sites.map(({ row, plan }) => {
    return { address: row.address, length: plan.displaced.byteLength };
  });
  const found = readMany(stopped, places);
  sites.forEach((site, index) => {
    const { displaced, innerBoundaries } = site.plan;
    const bytes = found[index] ?? displaced.subarray(0, 0);
    if (Buffer.compare(bytes, displaced) !== 0) {
      const reason = describeForeign(bytes, displaced);
      failed.set(site, { site, kind: 'foreign', reason });
    } else if (innerBoundaries.length > 0) {
      inner.push({ ...insideOf(site), site });
    }
  });
  for (const { task, site } of tasksInside(stopped, sites)) {
    if (failed.has(site) || placeInStub(task, site) !== undefined) continue;
    const reason = `task ${task.tid} stands at ${hex(address(task.registers.get('rip')))}, not at the start of an instruction`;
    failed.set(site, { site, kind: 'busy', reason });
  }
  if (inner.length > 0) {
    for (const word of findWords(stopped, inner, maps)) {
      const range = inner.find(({ start, end }) => word.value >= start && word.value < end);
      if (range === undefined || failed.has(range.site)) continue;
      const reason = `the stack of task ${word.tid} holds an address inside the bytes to be replaced`;
      failed.set(range.site, { site: range.site, kind: 'busy', reason });
    }
  }
  return [...failed.values()];
}

function describeForeign(found: Uint8Array, expected: Uint8Array): string {
  const at = found.findIndex((byte, index) => byte !== expected[index]);
  const bytes = Buffer.from(found)
    .toString('hex')
    .replaceAll(/(..)(?=.)/g, '$1 ');
  if (found[at] === 0xcc) {
    return `somebody else's breakpoint is there (${bytes}): a debugger or a kernel uprobe`;
  }
  return `the bytes in memory (${bytes}) are not the file's: somebody else has changed them`;
}

/** A task that stands before an inner instruction goes on before that instruction's copy. */
function moveTasks(stopped: StoppedProcess, sites: readonly NewSite[]): void {
  for (const { task, site } of tasksInside(stopped, sites)) {
    const place = placeInStub(task, site);
    if (place !== undefined) task.setRegisters(task.registers.set('rip', place));
  }
}

/** The tasks that stand behind the first of the bytes to be replaced, before the last. */
function tasksInside(
  stopped: StoppedProcess,
  sites: readonly NewSite[],
): { readonly task: StoppedTask; readonly site: NewSite }[] {
  return stopped.tasks.flatMap((task) => {
    const rip = task.registers.get('rip');
    return sites
      .filter(({ row }) => rip > row.address && rip < row.address + BigInt(JUMP_BYTES))
      .map((site) => ({ task, site }));
  });
}

/** Where a task goes on that stands inside; undefined when it is in the middle of an instruction. */
function placeInStub(task: StoppedTask, { row, map }: NewSite): Address | undefined {
  const inside = task.registers.get('rip') - row.address;
  const place = map.find(({ from }) => BigInt(from) === inside);
  return place === undefined ? undefined : address(row.displaced + BigInt(place.to));
}

/** Behind the first byte to be replaced, to the last. */
function insideOf({ row }: NewSite): AddressRange {
  return { start: address(row.address + 1n), end: address(row.address + BigInt(JUMP_BYTES)) };
}
