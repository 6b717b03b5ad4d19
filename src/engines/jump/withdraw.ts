/**
 * Takes consumers, sites and whole sessions out of a stopped address space again. What a task may
 * still be in is kept until a later stop finds it quiet.
 */

import { address, type Address } from '../../base/brand.ts';
import type { BlobPlace } from '../../process/blob-place.ts';
import {
  OWN_PROBE,
  type ProgramRow,
  type SessionRow,
  type SiteRow,
} from '../../process/control-rows.ts';
import { CONTROL_BYTES, CONTROL_NAME, LIVENESS_NAME, SEGMENT_NAME } from '../../process/control.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { findWords } from '../../process/stacks.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { readWord, writeRows, writeWord } from './apply.ts';
import type { ControlBlock } from './block.ts';
import { lowerCounters, releaseCounters } from './counters.ts';
import { retireGone } from './gone.ts';
import { joinAreas, unmapAreas } from './injection.ts';
import { restoreMoved } from './moved.ts';
import { restorePadding, restoreSites, type RestoreTarget } from './restore.ts';
import { JUMP_BYTES, paddingOf, SPRINGBOARD_BYTES } from './patches.ts';
import { isTracer } from './spaces.ts';
import { isCache } from './verify.ts';

const OUR_PATHS = new Set(
  [CONTROL_NAME, SEGMENT_NAME, LIVENESS_NAME].map((name) => `/memfd:${name}`),
);

/** What a withdrawal came to. */
export interface Withdrawal {
  /** Places of probes; those of sessions' own are not counted. */
  readonly sitesRestored: number;
  /** False when a task may still be in what was taken out: a later stop gives it back. */
  readonly isQuiet: boolean;
  /** What could not be taken out, for people. */
  readonly problems: readonly string[];
}

/**
 * Takes programs out of their lists, and restores the sites that are left without any, whoever left them
 * so. Their code is given back if nobody is in it.
 */
export function withdrawPrograms(
  target: RestoreTarget,
  block: ControlBlock,
  programs: readonly ProgramRow[],
): Withdrawal {
  const { stopped } = target;
  restoreMoved(target, block);
  retireGone(block, target.maps);
  const leaving = new Set(programs.map(({ index }) => index));
  const lists = listsOf(block);
  const isLeft = (site: SiteRow): boolean =>
    (lists.get(site.index) ?? []).every(({ index }) => leaving.has(index));
  const left = [...block.sites.values()].filter((site) => site.state === 'live' && isLeft(site));
  const { restored, problems } = restoreSites(target, [...block.sites.values()], left);
  for (const site of restored) block.putSite({ ...site, state: 'retired' });
  const counted = releaseCounters(block, left);
  const released = releaseQuiet(target, block, programs);
  // A stub that stays must not lead into a program that does not; one that goes is not led any more.
  const staying = [...block.sites.values()].filter(({ index }) =>
    lists.get(index)?.some((program) => leaving.has(program.index)),
  );
  relink(stopped, staying, lists, leaving);
  writeRows(stopped, block);
  lowerCounters(stopped, target.maps, counted);
  return {
    sitesRestored: restored.filter(({ index }) => !isOwn(lists.get(index))).length,
    isQuiet: released.isQuiet,
    problems: [...problems, ...released.problems],
  };
}

/**
 * Gives back the code of programs that left their lists and of retired sites, as far as no task is in it.
 * @returns whether none of the programs, and no stub that they belonged to, is left; if not, a later stop
 * tries again.
 */
export function releaseQuiet(
  target: RestoreTarget,
  block: ControlBlock,
  programs: readonly ProgramRow[],
): Pick<Withdrawal, 'isQuiet' | 'problems'> {
  const { stopped, maps } = target;
  const retired = [...block.sites.values()].filter(({ state }) => state === 'retired');
  const given = programs.filter((program) => holds(block, program));
  const candidates = new Map(given.map((program) => [program.index, program]));
  const retiredSites = new Set(retired.map(({ index }) => index));
  for (const program of block.programs.values()) {
    if (retiredSites.has(program.site)) candidates.set(program.index, program);
  }
  // Its slow path goes back into the program that called it.
  const runtimes = new Map(
    [...candidates.values()].map(({ session }) => [session, runtimeOf(block, session)]),
  );
  const isBusy = findBusy(stopped, maps, [
    ...[...candidates.values()].map(({ code, codeBytes }) => range(code, codeBytes)),
    ...retired.map(({ stub, stubBytes }) => range(stub, stubBytes)),
    ...retired.flatMap(viaRange),
    ...runtimes.values(),
  ]);
  for (const { index, code, session } of candidates.values()) {
    const runtime = runtimes.get(session);
    if (isBusy(code) || (runtime !== undefined && isBusy(runtime.start))) continue;
    block.remove('programs', index);
  }
  // The last program goes on in the stub.
  const used = new Set([...block.programs.values()].map(({ site }) => site));
  const problems: string[] = [];
  for (const site of retired) {
    const { index, stub, via } = site;
    if (used.has(index) || isBusy(stub) || (via !== undefined && isBusy(via))) continue;
    const problem = restorePadding(target, site);
    if (problem === undefined) block.remove('sites', index);
    else problems.push(problem);
  }
  const isReleased = given.every(
    ({ index, site }) => !block.programs.has(index) && block.sites.get(site)?.state !== 'retired',
  );
  return { isQuiet: isReleased, problems };
}

/** Whether a program's row is still there: since the last stop its index may have been given to another session's. */
function holds(block: ControlBlock, { index, session, consumer, code }: ProgramRow): boolean {
  const now = block.programs.get(index);
  return now?.session === session && now.consumer === consumer && now.code === code;
}

/**
 * Under a stop that was made for something else, gives back stubs that removals had to leave, or whose text has gone, if
 * nobody is in them.
 */
export function releaseLeft(target: RestoreTarget, block: ControlBlock): void {
  retireGone(block, target.maps);
  if (![...block.sites.values()].some(({ state }) => state === 'retired')) return;
  releaseQuiet(target, block, []);
  writeRows(target.stopped, block);
}

/** Whether no task stands in any of the ranges and no stack word points into one. */
function isQuiet(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  ranges: readonly AddressRange[],
): boolean {
  const isBusy = findBusy(stopped, maps, ranges);
  return !ranges.some(({ start }) => isBusy(start));
}

/**
 * Takes a session's row out, whose programs are out already.
 * @returns false when a task may still be in the session's runtime: try again.
 */
export function removeSession(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  block: ControlBlock,
  session: SessionRow,
): boolean {
  if (!isQuiet(stopped, maps, [range(session.runtime, session.runtimeBytes)])) return false;
  block.remove('sessions', session.index);
  return true;
}

/**
 * Unmaps everything of ours that no row refers to: of sessions that left, or that were killed before they
 * could describe themselves. Under a stop no session is between mapping and describing.
 * @param place asked for only if something has to be unmapped
 * @returns false when a task may still be in it, or in a stub that no session needs any more.
 */
export function unmapUnused(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  place: () => BlobPlace,
  block: ControlBlock,
): boolean {
  const unused = findUnused(maps, block);
  // What rows described was found quiet before its row went. A word that only looks like an address of an arena is
  // no reason to keep it for ever: the target may have had other memory there, whose address is on a stack still.
  const described = [...block.arenas.values()].map((row) => range(row.address, row.bytes));
  const isDescribed = ({ start, end }: MemoryMapping): boolean =>
    described.some((arena) => arena.start <= start && arena.end >= end);
  const code = unused.filter((one) => one.executable && !isDescribed(one));
  const isFree = isQuiet(stopped, maps, code);
  // Their rows go first: nobody may believe in an arena that is not there any more.
  if (isFree && block.isEmpty) {
    for (const index of block.arenas.keys()) block.remove('arenas', index);
  }
  if (block.address !== undefined) writeRows(stopped, block);
  if (!isFree) return false;
  if (unused.length > 0) unmapAreas(stopped, place(), joinAreas(unused));
  const hasRetired = [...block.sites.values()].some(({ state }) => state === 'retired');
  return block.sessions.size > 0 || !hasRetired;
}

/** Whether a mapping is Trapline's by its name: our side of a session, or a target's. */
export function isOurs({ path }: MemoryMapping): boolean {
  return OUR_PATHS.has(path);
}

/**
 * What may be unmapped, a cache before the page that it is known by and the block last. Nothing while rows
 * were left out: they may have told of a site that still jumps there. Nothing in a tracer: it maps what it
 * shares with its targets.
 */
export function findUnused(
  maps: readonly MemoryMapping[],
  block: ControlBlock,
): readonly MemoryMapping[] {
  if (isTracer(maps) || block.contradictions > 0) return [];
  const used: AddressRange[] = [...block.sessions.values()].flatMap((row) => [
    range(row.segment, row.segmentBytes),
    range(row.liveness, row.livenessBytes),
    range(row.cache, row.cacheBytes),
  ]);
  if (!block.isEmpty) {
    used.push(...[...block.arenas.values()].map((row) => range(row.address, row.bytes)));
    if (block.address !== undefined) used.push(range(block.address, CONTROL_BYTES));
  }
  const isUsed = ({ start, end }: MemoryMapping): boolean =>
    used.some((one) => one.start < end && one.end > start);
  const caches = maps.filter((mapping) => isCache(mapping, maps));
  const named = maps.filter(isOurs);
  const isBlock = ({ start }: MemoryMapping): boolean => start === block.address;
  return [
    ...caches,
    ...named.filter((mapping) => !isBlock(mapping)),
    ...named.filter(isBlock),
  ].filter((mapping) => !isUsed(mapping));
}

/** Leads every pointer to a leaving program past it: those of programs that left before, too. */
function relink(
  stopped: StoppedProcess,
  sites: readonly SiteRow[],
  lists: ReadonlyMap<number, readonly ProgramRow[]>,
  leaving: ReadonlySet<number>,
): void {
  for (const site of sites) {
    const programs = lists.get(site.index) ?? [];
    const leavingByCode = new Map<bigint, ProgramRow>(
      programs.filter(({ index }) => leaving.has(index)).map((program) => [program.code, program]),
    );
    for (const link of [...programs.map(({ next }) => next), site.list]) {
      const first = readWord(stopped, link);
      let to = first;
      // A target that makes a circle of its list ends at the epilogue.
      for (let left = programs.length; leavingByCode.has(to); left--) {
        const program = leavingByCode.get(to);
        to = program === undefined || left === 0 ? site.epilogue : readWord(stopped, program.next);
      }
      if (to !== first) writeWord(stopped, link, to);
    }
  }
}

/** Where a site's own jump leads, if not to its stub. */
function viaRange(site: SiteRow): AddressRange[] {
  // Behind a jump in padding is somebody else's code.
  const bytes = paddingOf(site) === undefined ? SPRINGBOARD_BYTES : JUMP_BYTES;
  return site.via === undefined ? [] : [range(site.via, bytes)];
}

/** Whether a site was made for sessions' own ends alone. */
const isOwn = (programs: readonly ProgramRow[] = []): boolean =>
  programs.length > 0 && programs.every(({ probe }) => probe === OWN_PROBE);

/** The programs of each site. */
function listsOf(block: ControlBlock): Map<number, ProgramRow[]> {
  const lists = new Map<number, ProgramRow[]>();
  for (const program of block.programs.values()) {
    const list = lists.get(program.site);
    if (list === undefined) lists.set(program.site, [program]);
    else list.push(program);
  }
  return lists;
}

function range(start: Address, bytes: number): AddressRange {
  return { start, end: address(start + BigInt(bytes)) };
}

/** Where a session's runtime is; nowhere for one that is not there. */
function runtimeOf(block: ControlBlock, index: number): AddressRange {
  const { runtime, runtimeBytes } = block.sessions.get(index) ?? NO_RUNTIME;
  return range(runtime, runtimeBytes);
}

const NO_RUNTIME = { runtime: address(0), runtimeBytes: 0 };

/** Finds the ranges in which a task stands or into which a stack word points; tells by a range's start. */
function findBusy(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  ranges: readonly AddressRange[],
): (start: Address) => boolean {
  const busy = new Set<Address>();
  if (ranges.length === 0) return () => false;
  // No red zone: what a task needs to come back into code of ours lies above rsp, in frames of stubs and of
  // signals. Below it lies what stubs have left there, for as long as the task sleeps.
  const words = findWords(stopped, ranges, maps, 0n).map(({ value }) => value);
  for (const at of [...stopped.tasks.map(({ registers }) => registers.get('rip')), ...words]) {
    for (const { start, end } of ranges) if (at >= start && at < end) busy.add(start);
  }
  return (start) => busy.has(start);
}
