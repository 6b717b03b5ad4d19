/** What is in the way of a change: other people's bytes, tasks that stand inside, and whose stacks will come back there. */

import { address, hex, type Address } from '../../base/brand.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { readMany } from '../../process/read-many.ts';
import { findWords } from '../../process/stacks.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { StoppedTask } from '../../process/stopped-task.ts';
import { PatchMap, patchRange, restOf, restsOn } from './patches.ts';
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
  { sites, repunned, before }: IntendedChange,
): { readonly failed: readonly FailedSite[]; readonly repunned: readonly Repunned[] } {
  const failed = new Map<NewSite, FailedSite>();
  findForeign(stopped, sites, before, failed);
  const inner = sites
    .filter((site) => site.way.innerBoundaries.length > 0 && !failed.has(site))
    .map((site) => ({ ...insideOf(site), site }));
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
  const left = failDependents(sites, repunned, failed);
  return { failed: [...failed.values()], repunned: left };
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
    return { address: row.address, length: Math.max(way.displaced.byteLength, rest) };
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
 * @returns the puns that can be led anew
 */
function failDependents(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  failed: Map<NewSite, FailedSite>,
): Repunned[] {
  const lost = new Set<Repunned>();
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
    if (cause === undefined) break;
    for (const site of sites) {
      const isLost =
        missing.some((row) => restsOn(site.row, row)) ||
        [...lost].some((pun) => restsOn(pun.before, site.row));
      if (!isLost || failed.has(site)) continue;
      failed.set(site, { site, kind: cause.kind, reason: `a site beside it: ${cause.reason}` });
    }
  }
  return repunned.filter((pun) => !lost.has(pun));
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
    return sites
      .filter(({ row }) => rip > row.address && rip < patchRange(row).end)
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
  return { start: address(row.address + 1n), end: patchRange(row).end };
}
