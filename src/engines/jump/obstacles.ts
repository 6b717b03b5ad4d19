/** What is in the way of a change: other people's bytes, tasks that stand inside, and whose stacks will come back there. */

import { address, hex, type Address } from '../../base/brand.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { readMany } from '../../process/read-many.ts';
import { findWords } from '../../process/stacks.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { StoppedTask } from '../../process/stopped-task.ts';
import type { ExpectedBytes, IntendedChange } from './intended.ts';
import {
  goalOf,
  JUMP_BYTES,
  jumpBytes,
  patchRange,
  restOf,
  restsOn,
  type PatchMap,
} from './patches.ts';
import type { NewSite, Repunned } from './site-preparation.ts';
import { placeInCopy } from './slots.ts';

/** A site that could not be patched in this stop. */
export interface FailedSite {
  readonly site: NewSite;
  /** `busy`: a task is in the way, a later stop may do. `foreign`: somebody else's bytes are there. */
  readonly kind: 'busy' | 'foreign';
  readonly reason: string;
}

/** What stands in the way of a change of the text. */
export interface Obstacles {
  /** The sites that can't be patched now. */
  readonly failed: readonly FailedSite[];
  /** The puns that can be led anew without them. */
  readonly repunned: readonly Repunned[];
  /** The tasks that stand inside the bytes to be replaced. */
  readonly inside: readonly InsideTask[];
}

/** A task that stands behind the first of a site's bytes to be replaced, before the last. */
export interface InsideTask {
  readonly task: StoppedTask;
  readonly site: NewSite;
}

/**
 * Rule 5: memory must equal the file, but for what sites have written, and nobody may be about to return into
 * the middle.
 */
export function findObstacles(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  change: IntendedChange,
): Obstacles {
  const { sites, repunned, before, watched } = change;
  const failed = new Map<NewSite, FailedSite>();
  findForeign(stopped, change.expected, failed);
  const inside = tasksInside(stopped, sites);
  for (const { task, site } of inside) {
    if (failed.has(site) || placeInStub(task, site) !== undefined) continue;
    const reason = `task ${task.tid} stands at ${hex(address(task.registers.get('rip')))}, not at the start of an instruction`;
    failed.set(site, { site, kind: 'busy', reason });
  }
  const lost = new Set<Repunned>();
  for (const { value, reason } of whereTasksAre(stopped, maps, watched)) {
    for (const { start, end, site, pun } of watched) {
      if (value < start || value >= end) continue;
      if (pun !== undefined) lost.add(pun);
      // What stands in the bytes themselves was looked at: it is moved.
      const isMoved = site !== undefined && reason === STANDS && start === site.row.address + 1n;
      if (site === undefined || isMoved || failed.has(site)) continue;
      failed.set(site, { site, kind: 'busy', reason });
    }
  }
  failDependents(sites, repunned, failed, lost);
  for (const site of misledPuns(sites, repunned, before, failed, lost)) {
    const reason = 'the bytes on which its jump rests are not those that it was made for';
    failed.set(site, { site, kind: 'foreign', reason });
  }
  failDependents(sites, repunned, failed, lost);
  return {
    failed: [...failed.values()],
    repunned: repunned.filter((pun) => !lost.has(pun)),
    inside,
  };
}

const STANDS = 'a task stands in code that goes on inside the bytes to be replaced';

/** Where tasks stand, and what their stacks hold, of some ranges. */
function whereTasksAre(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  ranges: readonly AddressRange[],
): { readonly value: bigint; readonly reason: string }[] {
  if (ranges.length === 0) return [];
  return [
    ...stopped.tasks.map(({ registers }) => ({ value: registers.get('rip'), reason: STANDS })),
    ...findWords(stopped, ranges, maps).map(({ tid, value }) => {
      const reason = `the stack of task ${tid} holds an address inside the bytes to be replaced`;
      return { value, reason };
    }),
  ];
}

/** Puns about to be written that would not lead where their rows say: those of a tracer that was killed. */
function misledPuns(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  before: PatchMap,
  failed: ReadonlyMap<NewSite, FailedSite>,
  lost: ReadonlySet<Repunned>,
): NewSite[] {
  const left = sites.filter((site) => !failed.has(site));
  const puns = left.filter(({ row }) => row.method === 'pun');
  if (puns.length === 0) return [];
  const then = before.copy();
  for (const { row } of left) then.add(row);
  for (const pun of repunned) {
    if (lost.has(pun)) continue;
    then.delete(pun.before);
    then.add(pun.after);
  }
  return puns.filter(({ row, plan }) => {
    const rest = restOf(row);
    if (rest === undefined) return false;
    const from = Number(rest.start - row.address);
    const original = plan.bytes.subarray(from, Number(rest.end - row.address));
    const needed = jumpBytes(row.address, goalOf(row), row.prefixBytes).subarray(from);
    return Buffer.compare(then.overlay(rest.start, original, row.address + 1n), needed) !== 0;
  });
}

function findForeign(
  stopped: StoppedProcess,
  expected: readonly ExpectedBytes[],
  failed: Map<NewSite, FailedSite>,
): void {
  const found = readMany(
    stopped,
    expected.map(({ address: at, bytes }) => ({ address: at, length: bytes.byteLength })),
  );
  expected.forEach(({ site, bytes }, index) => {
    const there = found[index] ?? bytes.subarray(0, 0);
    if (Buffer.compare(there, bytes) === 0) return;
    failed.set(site, { site, kind: 'foreign', reason: describeForeign(there, bytes) });
  });
}

/**
 * A pun leads where the bytes that it rests on let it: it fails with a site that would have written some. A pun
 * that stays as it was keeps sites from being, and other puns from being led anew, that would have changed what it
 * rests on.
 */
export function failDependents(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  failed: Map<NewSite, FailedSite>,
  lost: Set<Repunned>,
): void {
  for (let known = 0; known !== failed.size + lost.size;) {
    known = failed.size + lost.size;
    const missing = [
      ...[...failed.keys()].map(({ row }) => row),
      ...[...lost].map((pun) => pun.after),
    ];
    for (const pun of repunned) {
      const isLost =
        missing.some((row) => restsOn(pun.after, row)) ||
        [...lost].some((stays) => restsOn(stays.before, pun.after));
      if (isLost) lost.add(pun);
    }
    const [cause] = failed.values();
    for (const site of sites) {
      const isLost =
        missing.some((row) => restsOn(site.row, row)) ||
        [...lost].some((pun) => restsOn(pun.before, site.row));
      if (!isLost || failed.has(site)) continue;
      const reason = `a site beside it: ${cause?.reason ?? 'a task is about to pass it'}`;
      failed.set(site, { site, kind: cause?.kind ?? 'busy', reason });
    }
  }
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
export function moveTasks(inside: readonly InsideTask[]): void {
  for (const { task, site } of inside) {
    const place = placeInStub(task, site);
    if (place !== undefined) task.setRegisters(task.registers.set('rip', place));
  }
}

function tasksInside(stopped: StoppedProcess, sites: readonly NewSite[]): InsideTask[] {
  return stopped.tasks.flatMap((task) => {
    const rip = task.registers.get('rip');
    // Two comparisons rule out nearly all of thousands.
    const lowest = rip - BigInt(JUMP_BYTES);
    return sites
      .filter(({ row }) => row.address < rip && row.address > lowest && rip < patchRange(row).end)
      .map((site) => ({ task, site }));
  });
}

/** Where a task goes on that stands inside; undefined when it is in the middle of an instruction. */
function placeInStub(task: StoppedTask, { row, map, plan }: NewSite): Address | undefined {
  const inside = Number(task.registers.get('rip') - row.address);
  const place = placeInCopy(map, plan.bytes, inside);
  return place === undefined ? undefined : address(row.displaced + BigInt(place));
}
