/** Makes a prepared change in a stopped address space: code first, rows next, the five bytes last. */

import { address, hex, type Address } from '../../base/brand.ts';
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
  block: ControlBlock,
  change: PreparedChange,
): FailedSite[] {
  const jumpless = change.adopted.filter((site) => !hasJump(stopped, site));
  const failed = findObstacles(stopped, [...change.newSites, ...jumpless]);
  for (const write of change.code) stopped.write(write.address, write.bytes);
  // Taken out of the block, not of the memory: the code lies where the next change may write.
  for (const { site } of failed) dropSite(block, change, site);
  const dropped = new Set(failed.map(({ site }) => site.row.index));
  writeRows(stopped, block);
  for (const list of change.listChanges) {
    if (!dropped.has(list.site.index)) prependProgram(stopped, list);
  }
  for (const site of [...change.newSites, ...jumpless]) {
    if (dropped.has(site.row.index)) continue;
    moveTasks(stopped, site);
    const { address: at } = site.row;
    writeCode(stopped, at, site.plan.displaced.subarray(0, JUMP_BYTES), site.jump);
  }
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
function findObstacles(stopped: StoppedProcess, sites: readonly NewSite[]): FailedSite[] {
  const failed = new Map<NewSite, FailedSite>();
  const inner: { start: Address; end: Address; site: NewSite }[] = [];
  for (const site of sites) {
    const { displaced, innerBoundaries } = site.plan;
    const found = stopped.read(site.row.address, displaced.byteLength);
    if (Buffer.compare(found, displaced) !== 0) {
      failed.set(site, { site, kind: 'foreign', reason: describeForeign(found, displaced) });
      continue;
    }
    const astray = stopped.tasks.find((task) => placeInStub(task, site) === 'none');
    if (astray !== undefined) {
      const reason = `task ${astray.tid} stands at ${hex(address(astray.registers.get('rip')))}, not at the start of an instruction`;
      failed.set(site, { site, kind: 'busy', reason });
    } else if (innerBoundaries.length > 0) {
      const start = address(site.row.address + 1n);
      inner.push({ start, end: address(site.row.address + BigInt(JUMP_BYTES)), site });
    }
  }
  inner.sort((left, right) => (left.start < right.start ? -1 : 1));
  if (inner.length > 0) {
    for (const word of findWords(stopped, inner)) {
      const range = inner.find(({ start, end }) => word.value >= start && word.value < end);
      if (range === undefined) continue;
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
function moveTasks(stopped: StoppedProcess, site: NewSite): void {
  for (const task of stopped.tasks) {
    const place = placeInStub(task, site);
    if (typeof place === 'bigint') {
      task.setRegisters(task.registers.set('rip', place));
    }
  }
}

/**
 * Where a task goes on that stands inside the bytes to be replaced; `none` when it is in the middle of
 * an instruction, undefined when it stands elsewhere.
 */
function placeInStub(task: StoppedTask, site: NewSite): Address | 'none' | undefined {
  const inside = task.registers.get('rip') - site.row.address;
  if (inside <= 0n || inside >= BigInt(JUMP_BYTES)) return undefined;
  const place = site.map.find(({ from }) => BigInt(from) === inside);
  return place === undefined ? 'none' : address(site.row.displaced + BigInt(place.to));
}
