/** What is in the way of a change: other people's bytes, tasks that stand inside, and whose stacks will come back there. */

import { address, hex, type Address } from '../../base/brand.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { readMany } from '../../process/read-many.ts';
import { findWords } from '../../process/stacks.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { StoppedTask } from '../../process/stopped-task.ts';
import { SLOT_BYTES } from '../../x64/relocate.ts';
import {
  JUMP_BYTES,
  goalOf,
  jumpBytes,
  PatchMap,
  patchRange,
  restOf,
  restsOn,
  SPRINGBOARD_BYTES,
} from './patches.ts';
import type { Passage } from './passages.ts';
import type { NewSite, Repunned } from './site-preparation.ts';

/** A site that could not be patched in this stop. */
export interface FailedSite {
  readonly site: NewSite;
  /** `busy`: a task is in the way, a later stop may do. `foreign`: somebody else's bytes are there. */
  readonly kind: 'busy' | 'foreign';
  readonly reason: string;
}

/** What is asked about. */
export interface IntendedChange {
  readonly sites: readonly NewSite[];
  readonly repunned: readonly Repunned[];
  readonly passages: readonly Passage<NewSite>[];
  /** What is patched now. */
  readonly before: PatchMap;
}

/**
 * Rule 5: memory must equal the file, but for what sites have written, and nobody may be about to return into
 * the middle.
 * @returns the sites that can't be patched now, and the puns that can be led anew without them
 */
export function findObstacles(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  { sites, repunned, passages, before }: IntendedChange,
): { readonly failed: readonly FailedSite[]; readonly repunned: readonly Repunned[] } {
  const failed = new Map<NewSite, FailedSite>();
  findForeign(stopped, sites, before, failed);
  for (const { task, site } of tasksInside(stopped, sites)) {
    if (failed.has(site) || placeInStub(task, site) !== undefined) continue;
    const reason = `task ${task.tid} stands at ${hex(address(task.registers.get('rip')))}, not at the start of an instruction`;
    failed.set(site, { site, kind: 'busy', reason });
  }
  const lost = new Set<Repunned>();
  const watched = [
    ...sites
      .filter((site) => site.way.innerBoundaries.length > 0)
      .map((site) => ({ ...insideOf(site), site, pun: undefined })),
    ...passages.map(({ range, site }) => ({ ...range, site, pun: undefined })),
    ...repunned.flatMap((pun) => boardOf(pun).map((range) => ({ ...range, site: undefined, pun }))),
  ];
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
  return { failed: [...failed.values()], repunned: repunned.filter((pun) => !lost.has(pun)) };
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

/** The jump to which a pun leads that is to lead elsewhere: its memory is free afterwards. */
function boardOf({ before: { via } }: Repunned): AddressRange[] {
  return via === undefined ? [] : [{ start: via, end: address(via + BigInt(SPRINGBOARD_BYTES)) }];
}

/** Puns about to be written that would not lead where their rows say: those of a tracer that was killed. */
function misledPuns(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  before: PatchMap,
  failed: ReadonlyMap<NewSite, FailedSite>,
  lost: ReadonlySet<Repunned>,
): NewSite[] {
  const then = before.copy();
  const left = sites.filter((site) => !failed.has(site));
  for (const { row } of left) then.add(row);
  for (const pun of repunned) {
    if (lost.has(pun)) continue;
    then.delete(pun.before);
    then.add(pun.after);
  }
  return left.filter(({ row, plan }) => {
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
  sites: readonly NewSite[],
  before: PatchMap,
  failed: Map<NewSite, FailedSite>,
): void {
  const ranges = sites.map(({ row, way }) => {
    const end = restOf(row)?.end ?? row.address;
    const rest = Number(end - row.address);
    return {
      address: row.address,
      length: Math.max(way.displaced.byteLength, row.patchBytes, rest),
    };
  });
  const paddings = sites.flatMap((site) => {
    const { via } = site.row;
    return site.padding === undefined || via === undefined
      ? []
      : [{ site, address: via, bytes: site.padding, length: site.padding.byteLength }];
  });
  const found = readMany(stopped, [...ranges, ...paddings]);
  const refuse = (site: NewSite, bytes: Uint8Array, expected: Uint8Array): void => {
    if (Buffer.compare(bytes, expected) === 0) return;
    failed.set(site, { site, kind: 'foreign', reason: describeForeign(bytes, expected) });
  };
  sites.forEach((site, index) => {
    const original = site.plan.bytes.subarray(0, ranges[index]?.length ?? 0);
    refuse(
      site,
      found[index] ?? original.subarray(0, 0),
      before.overlay(site.row.address, original),
    );
  });
  paddings.forEach(({ site, bytes }, index) => {
    refuse(site, found[sites.length + index] ?? bytes.subarray(0, 0), bytes);
  });
}

/**
 * A pun leads where the bytes that it rests on let it: it fails with a site that would have written some. A pun
 * that stays as it was keeps sites from being that would have changed what it rests on.
 */
function failDependents(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  failed: Map<NewSite, FailedSite>,
  lost: Set<Repunned>,
): void {
  for (let known = -1; known !== failed.size + lost.size;) {
    known = failed.size + lost.size;
    const missing = [
      ...[...failed.keys()].map(({ row }) => row),
      ...[...lost].map((pun) => pun.after),
    ];
    for (const pun of repunned) {
      if (missing.some((row) => restsOn(pun.after, row))) lost.add(pun);
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
export function moveTasks(stopped: StoppedProcess, sites: readonly NewSite[]): void {
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
    // Two comparisons rule out nearly all of thousands.
    const lowest = rip - BigInt(JUMP_BYTES);
    return sites
      .filter(({ row }) => row.address < rip && row.address > lowest && rip < patchRange(row).end)
      .map((site) => ({ task, site }));
  });
}

/**
 * Where a task goes on that stands inside; undefined when it is in the middle of an instruction, or where the
 * kernel would not find the system call right before it that it has to repeat.
 */
function placeInStub(task: StoppedTask, { row, map, plan }: NewSite): Address | undefined {
  const inside = Number(task.registers.get('rip') - row.address);
  const index = map.findIndex(({ from }) => from === inside);
  const place = map[index];
  if (place === undefined) return undefined;
  const before = map[index - 1];
  const isBehindCall = plan.bytes[inside - 2] === 0x0f && plan.bytes[inside - 1] === 0x05;
  if (before !== undefined && isBehindCall) {
    const copied = place.to - before.to - (index > 1 ? SLOT_BYTES : 0);
    if (copied !== place.from - before.from) return undefined;
  }
  return address(row.displaced + BigInt(place.to));
}

/** Behind the first byte to be replaced, to the last. */
function insideOf({ row }: NewSite): AddressRange {
  return { start: address(row.address + 1n), end: patchRange(row).end };
}
