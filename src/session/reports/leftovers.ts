/** What sessions hold in processes, living and dead ones. */

import { address, fileOffset, hex, pid as brandPid, type Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { ControlBlock, readIfThere, type ReadMemory } from '../../engines/jump/block.ts';
import { isPlaceThere } from '../../engines/jump/gone.ts';
import {
  JUMP_BYTES,
  patchRange,
  PatchMap,
  restOf,
  showsPatch,
  showsRest,
} from '../../engines/jump/patches.ts';
import { isOurs } from '../../engines/jump/withdraw.ts';
import {
  findProcesses,
  mapsIfReadable,
  MemoryReader,
  SEGMENT_PATH,
} from '../../engines/jump/spaces.ts';
import { readHits, type ReadSegment } from '../../events/hit-counts.ts';
import { OWN_PROBE, type SessionRow, type SiteRow } from '../../process/control-rows.ts';
import { LIVENESS_NAME } from '../../process/control.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { innerPid, readTaskStatus } from '../../process/tasks.ts';
import { FUTEX_OWNER_DIED, FUTEX_TID_MASK } from '../../sys/robust.ts';
import { describedSessions } from './described.ts';
import { isFile, type FileCache } from '../files/files.ts';
import type { View } from './remains.ts';
import type { HeldProgram, HeldSession, HeldSite, ProcessStatus } from './held.ts';

/** Describes what is held in the given processes, or in every one that may be read. */
export function describeProcesses(
  pids: readonly number[] | undefined,
  files: FileCache,
): ProcessStatus[] {
  const ownerOf = describedSessions();
  return chosen(pids).map((pid) => {
    const maps = mapsIfReadable(pid);
    const status = readTaskStatus(pid);
    const comm = status?.comm ?? '';
    const empty = {
      pid,
      ...innerPid(status),
      comm,
      sessions: [],
      sites: [],
      mappedBytes: mappedBytes(maps),
    };
    if (!maps.some(isOurs)) return empty;
    try {
      using reader = new MemoryReader(pid);
      return { ...empty, ...describe({ pid, maps, read: reader.read }, files, ownerOf) };
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      return { ...empty, unreadable: error.message };
    }
  });
}

/**
 * The processes that are meant: every one that holds something, if none was named.
 * @throws TraplineError `no-process` for one that was named and is not there.
 */
export function chosen(pids: readonly number[] | undefined): Pid[] {
  if (pids === undefined) return findProcesses((maps) => maps.some(isOurs));
  return pids.map((number) => {
    const pid = brandPid(number);
    if (readTaskStatus(pid) !== undefined) return pid;
    throw new TraplineError({ code: 'no-process', message: `there is no process ${number}` });
  });
}

/** How much of an address space our mappings take. */
export function mappedBytes(maps: readonly MemoryMapping[]): number {
  return maps.filter(isOurs).reduce((sum, { start, end }) => sum + Number(end - start), 0);
}

function describe(
  view: View,
  files: FileCache,
  ownerOf: (tracer: number) => HeldSession['owner'],
): Pick<ProcessStatus, 'sessions' | 'sites' | 'hooks' | 'puns'> {
  const { pid, maps, read } = view;
  const block = ControlBlock.read(maps, read);
  const programs = [...block.programs.values()].filter(({ probe }) => probe !== OWN_PROBE);
  const sessions = [...block.sessions.values()].map((row): HeldSession => {
    const alive = isAlive(row, maps, read);
    const owner = alive ? ownerOf(row.tracer) : undefined;
    return {
      tracer: row.tracer,
      alive,
      began: row.began,
      programs: programs.filter(({ session }) => session === row.index).length,
      ...(owner === undefined ? {} : { owner }),
    };
  });
  const programsAt = programsBySite(view, block);
  const rows = [...block.sites.values()];
  const live = new PatchMap(
    rows.filter((site) => site.state === 'live' && isPlaceThere(maps, site)),
  );
  const all = rows.map((site) => ({
    ...describePlace(pid, maps, site, files),
    address: site.address,
    offset: fileOffset(site.fileOffset),
    state: site.state,
    method: site.method,
    programs: programsAt.get(site.index) ?? [],
    found: whatIsThere(site, maps, read, live),
  }));
  const sites = all.filter((site) => !isHook(site));
  const hooks = all.filter(isHook);
  const exact = [...block.arenas.values()].filter(({ isExact }) => isExact);
  const bytes = exact.reduce((sum, arena) => sum + arena.bytes, 0);
  const told = hooks.length === 0 ? {} : { hooks };
  return { sessions, sites, ...told, puns: { mappings: exact.length, mappedBytes: bytes } };
}

/** Whether a place serves sessions alone, and no probe. */
function isHook({ programs }: HeldSite): boolean {
  return programs.length > 0 && programs.every(({ probe }) => probe === OWN_PROBE);
}

/** What runs at each site, by its index, with the hits that the sessions' segments have counted. */
function programsBySite(
  { maps, read }: View,
  block: ControlBlock,
): ReadonlyMap<number, HeldProgram[]> {
  const programs = [...block.programs.values()];
  const found = new Map<number, HeldProgram[]>();
  for (const { index, tracer, segment, segmentBytes } of block.sessions.values()) {
    const mine = programs.filter(({ session }) => session === index);
    const isThere = findMapping(maps, segment)?.path === SEGMENT_PATH;
    const readSegment: ReadSegment = (offset, length) =>
      isThere ? readIfThere(read, address(segment + BigInt(offset)), length) : undefined;
    // What hits of the session's own programs there were is counted nowhere.
    const ids = mine.filter(({ probe }) => probe !== OWN_PROBE).map(({ consumer }) => consumer);
    const hits = readHits(readSegment, segmentBytes, ids);
    for (const { site, probe, consumer } of mine) {
      const count = hits?.get(consumer);
      const program = { tracer, probe, ...(count === undefined ? {} : { hits: count }) };
      found.set(site, [...(found.get(site) ?? []), program]);
    }
  }
  return found;
}

/** A session lives if its liveness word says so; one without a word is dead. */
export function isAlive(
  row: SessionRow,
  maps: readonly MemoryMapping[],
  read: ReadMemory,
): boolean {
  if (findMapping(maps, row.liveness)?.path !== `/memfd:${LIVENESS_NAME}`) return false;
  const bytes = readIfThere(read, row.liveness, 4);
  if (bytes === undefined) return false;
  const word = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  return (word & FUTEX_TID_MASK) !== 0 && (word & FUTEX_OWNER_DIED) === 0;
}

function describePlace(
  pid: Pid,
  maps: readonly MemoryMapping[],
  site: SiteRow,
  files: FileCache,
): { file: string; name: string } {
  const mapping = findMapping(maps, site.address);
  if (mapping === undefined || !isFile(mapping) || !isPlaceThere(maps, site)) {
    return { file: '', name: '' };
  }
  try {
    const symbol = files.open(pid, mapping).symbols.at(fileOffset(site.fileOffset));
    const rest = symbol === undefined ? 0 : site.fileOffset - symbol.offset;
    const name =
      symbol === undefined ? '' : rest === 0 ? symbol.name : `${symbol.name}+${hex(rest)}`;
    return { file: mapping.path, name };
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    return { file: mapping.path, name: '' };
  }
}

/** What the bytes at a site are, compared with what the block says. */
function whatIsThere(
  site: SiteRow,
  maps: readonly MemoryMapping[],
  read: ReadMemory,
  live: PatchMap,
): string {
  if (!isPlaceThere(maps, site)) return 'its file is not mapped there any more';
  const bytes = read(site.address, site.patchBytes);
  if (!showsPatch(bytes, site, live)) return `other bytes: ${Buffer.from(bytes).toString('hex')}`;
  const rest = restOf(site);
  // Under a lower site's jump nobody comes to it.
  const isCovered = live.between(site.address - BigInt(JUMP_BYTES), site.address).some((lower) => {
    return patchRange(lower).end > site.address;
  });
  if (rest === undefined || isCovered) return 'its jump';
  const behind = readIfThere(read, rest.start, Number(rest.end - rest.start));
  if (showsRest(behind, site)) return 'its jump';
  const bytesBehind = Buffer.from(behind ?? []).toString('hex');
  return `its jump, led astray by other bytes behind it: ${bytesBehind}`;
}
