/**
 * Takes consumers, sites and whole sessions out of a stopped address space again. What a task may
 * still be in is kept until a later stop finds it quiet.
 */

import { address, hex, type Address } from '../../base/brand.ts';
import type { BlobPlace } from '../../process/blob-place.ts';
import {
  CONTROL_BYTES,
  CONTROL_NAME,
  LIVENESS_NAME,
  SEGMENT_NAME,
  type ProgramRow,
  type SessionRow,
  type SiteRow,
} from '../../process/control.ts';
import type { AddressRange } from '../../process/free-space.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { findWords } from '../../process/stacks.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { Assembler } from '../../x64/assembler.ts';
import { readWord, writeRows, writeWord } from './apply.ts';
import type { ControlBlock } from './block.ts';
import { unmapAreas, type Area } from './injection.ts';
import { JUMP_BYTES } from './planner.ts';
import { isTracer } from './spaces.ts';
import { isCache } from './verify.ts';

const OUR_PATHS = new Set(
  [CONTROL_NAME, SEGMENT_NAME, LIVENESS_NAME].map((name) => `/memfd:${name}`),
);

/** The file's own bytes at a site, or undefined when the file can't be read any more. */
export type OriginalBytes = (site: SiteRow) => Uint8Array | undefined;

/** What a withdrawal came to. */
export interface Withdrawal {
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
  stopped: StoppedProcess,
  block: ControlBlock,
  programs: readonly ProgramRow[],
  original: OriginalBytes,
): Withdrawal {
  const problems: string[] = [];
  const leaving = new Set(programs.map(({ index }) => index));
  const bySite = groupBySite(block);
  const maps = stopped.maps();
  let sitesRestored = 0;
  for (const site of block.sites.values()) {
    const all = bySite.get(site.index) ?? [];
    const isTouched = all.some(({ index }) => leaving.has(index));
    if (site.state === 'live' && all.every(({ index }) => leaving.has(index))) {
      const problem = restoreSite(stopped, maps, site, original);
      if (problem === undefined) {
        sitesRestored++;
        block.putSite({ ...site, state: 'retired' });
      } else {
        // Whoever changed the bytes may put our jump back: its stub stays, and does nothing.
        problems.push(problem);
      }
    }
    if (isTouched) relink(stopped, site, all, leaving);
  }
  const isReleased = releaseQuiet(stopped, block, programs);
  writeRows(stopped, block);
  return { sitesRestored, isQuiet: isReleased, problems };
}

/**
 * Gives back the code of programs that left their lists and of retired sites, as far as no task is in it.
 * @returns whether none of the programs, and no stub that they belonged to, is left; if not, a later stop
 * tries again.
 */
export function releaseQuiet(
  stopped: StoppedProcess,
  block: ControlBlock,
  programs: readonly ProgramRow[],
): boolean {
  const retired = [...block.sites.values()].filter(({ state }) => state === 'retired');
  const given = programs.filter(({ index }) => block.programs.has(index));
  const candidates = new Map(given.map((program) => [program.index, program]));
  const retiredSites = new Set(retired.map(({ index }) => index));
  for (const program of block.programs.values()) {
    if (retiredSites.has(program.site)) candidates.set(program.index, program);
  }
  // Its slow path goes back into the program that called it.
  const runtimes = new Map(
    [...candidates.values()].map(({ session }) => [session, runtimeOf(block, session)]),
  );
  const isBusy = findBusy(stopped, [
    ...[...candidates.values()].map(({ code, codeBytes }) => range(code, codeBytes)),
    ...retired.map(({ stub, stubBytes }) => range(stub, stubBytes)),
    ...runtimes.values(),
  ]);
  for (const { index, code, session } of candidates.values()) {
    const runtime = runtimes.get(session);
    if (isBusy(code) || (runtime !== undefined && isBusy(runtime.start))) continue;
    block.remove('programs', index);
  }
  // The last program goes on in the stub.
  const used = new Set([...block.programs.values()].map(({ site }) => site));
  for (const { index, stub } of retired) {
    if (!used.has(index) && !isBusy(stub)) block.remove('sites', index);
  }
  return given.every(
    ({ index, site }) => !block.programs.has(index) && block.sites.get(site)?.state !== 'retired',
  );
}

/** Whether no task stands in any of the ranges and no stack word points into one. */
export function isQuiet(stopped: StoppedProcess, ranges: readonly AddressRange[]): boolean {
  const isBusy = findBusy(stopped, ranges);
  return !ranges.some(({ start }) => isBusy(start));
}

/**
 * Takes a session's row out, whose programs are out already.
 * @returns false when a task may still be in the session's runtime: try again.
 */
export function removeSession(
  stopped: StoppedProcess,
  block: ControlBlock,
  session: SessionRow,
): boolean {
  if (!isQuiet(stopped, [range(session.runtime, session.runtimeBytes)])) return false;
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
  place: () => BlobPlace,
  block: ControlBlock,
): boolean {
  const unused = findUnused(stopped.maps(), block);
  const code = unused.filter(({ executable }) => executable);
  const isFree = isQuiet(stopped, code);
  // Their rows go first: nobody may believe in an arena that is not there any more.
  if (isFree && block.isEmpty) {
    for (const index of block.arenas.keys()) block.remove('arenas', index);
  }
  if (block.address !== undefined) writeRows(stopped, block);
  if (!isFree) return false;
  if (unused.length > 0) unmapAreas(stopped, place(), unused.map(asArea));
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
  site: SiteRow,
  programs: readonly ProgramRow[],
  leaving: ReadonlySet<number>,
): void {
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

/** Puts the file's bytes back. @returns what is wrong, if it can't. */
function restoreSite(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  site: SiteRow,
  original: OriginalBytes,
): string | undefined {
  const where = `${hex(site.address)} of process ${stopped.pid}`;
  // Unloaded, and perhaps something else mapped there: our jump went with it.
  if (findMapping(maps, site.address)?.inode !== site.inode) return undefined;
  const found = stopped.read(site.address, JUMP_BYTES);
  const bytes = original(site)?.subarray(0, JUMP_BYTES);
  if (bytes === undefined) return `the file of the site at ${where} can't be read any more`;
  if (Buffer.compare(found, bytes) === 0) return undefined;
  const jump = new Assembler(site.address).jmp(site.stub, 'near').finish();
  if (Buffer.compare(found, jump) !== 0) {
    return `somebody else changed the code at ${where}: ${Buffer.from(found).toString('hex')}`;
  }
  stopped.write(site.address, bytes);
  return undefined;
}

function groupBySite(block: ControlBlock): Map<number, ProgramRow[]> {
  const groups = new Map<number, ProgramRow[]>();
  for (const program of block.programs.values()) {
    const group = groups.get(program.site);
    if (group === undefined) groups.set(program.site, [program]);
    else group.push(program);
  }
  return groups;
}

function range(start: Address, bytes: number): AddressRange {
  return { start, end: address(start + BigInt(bytes)) };
}

function asArea({ start, end }: MemoryMapping): Area {
  return { address: start, bytes: Number(end - start) };
}

/** Where a session's runtime is; nowhere for one that is not there. */
function runtimeOf(block: ControlBlock, index: number): AddressRange {
  const session = block.sessions.get(index);
  return session === undefined
    ? range(address(0), 0)
    : range(session.runtime, session.runtimeBytes);
}

/** Finds the ranges in which a task stands or into which a stack word points; tells by a range's start. */
function findBusy(
  stopped: StoppedProcess,
  ranges: readonly AddressRange[],
): (start: Address) => boolean {
  const busy = new Set<Address>();
  if (ranges.length === 0) return () => false;
  const words = findWords(stopped, ranges).map(({ value }) => value);
  for (const at of [...stopped.tasks.map(({ registers }) => registers.get('rip')), ...words]) {
    for (const { start, end } of ranges) if (at >= start && at < end) busy.add(start);
  }
  return (start) => busy.has(start);
}
