/**
 * Holds the control tables against the mappings and each other. The target can write over its control
 * block, or be killed with a tracer that was writing it: a row that contradicts what is mapped must lead
 * nobody to write, unmap or jump anywhere else than to what is ours.
 */

import { address, type Address } from '../../base/brand.ts';
import {
  type ArenaRow,
  type ProgramRow,
  type SessionRow,
  type SiteRow,
} from '../../process/control-rows.ts';
import {
  CONTROL_NAME,
  LIVENESS_NAME,
  SEGMENT_NAME,
  type ControlTables,
} from '../../process/control.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { goalOf, JUMP_BYTES, jumpReaches, SHORT_JUMP_BYTES, SPRINGBOARD_BYTES } from './patches.ts';
import { CACHE_BYTES } from './runtime.ts';

/** Tables without the rows that can't be true. */
export interface VerifiedTables {
  readonly tables: ControlTables;
  /** How many rows were left out. */
  readonly contradictions: number;
}

/** Leaves out what contradicts the mappings, or refers to what was left out. */
export function verifyTables(given: ControlTables, maps: readonly MemoryMapping[]): VerifiedTables {
  const arenas = given.arenas.filter((row) => isArena(row, maps));
  const sessions = given.sessions.filter((row) => isSession(row, maps, arenas));
  const sites = given.sites.filter((row) => isSite(row, arenas));
  const sessionIndices = new Set(sessions.map(({ index }) => index));
  const siteIndices = new Set(sites.map(({ index }) => index));
  const programs = given.programs.filter(
    (row) => isProgram(row, arenas) && sessionIndices.has(row.session) && siteIndices.has(row.site),
  );
  const tables = { generation: given.generation, arenas, sessions, sites, programs };
  return { tables, contradictions: countRows(given) - countRows(tables) };
}

function countRows(tables: ControlTables): number {
  const { arenas, sessions, sites, programs } = tables;
  return arenas.length + sessions.length + sites.length + programs.length;
}

/** Whether a mapping is a context cache: anonymous, behind its session's liveness page. */
export function isCache(mapping: MemoryMapping, maps: readonly MemoryMapping[]): boolean {
  const { start, end, path, inode, shared, writable, executable } = mapping;
  const isAnonymous = path === '' && inode === 0n && !shared && writable && !executable;
  if (!isAnonymous || end - start !== BigInt(CACHE_BYTES)) return false;
  return maps.some((other) => other.end === start && other.path === `/memfd:${LIVENESS_NAME}`);
}

function isArena({ address: at, bytes }: ArenaRow, maps: readonly MemoryMapping[]): boolean {
  const mapping = findMapping(maps, at);
  if (mapping === undefined || bytes === 0) return false;
  const { path, executable, shared } = mapping;
  return (
    path === `/memfd:${CONTROL_NAME}` &&
    executable &&
    !shared &&
    lies(at, bytes, mapping.start, mapping.end)
  );
}

function isSession(
  row: SessionRow,
  maps: readonly MemoryMapping[],
  arenas: readonly ArenaRow[],
): boolean {
  const isNamed = (at: Address, bytes: number, name: string): boolean => {
    const mapping = findMapping(maps, at);
    if (mapping?.path !== `/memfd:${name}`) return false;
    return mapping.start === at && lies(at, bytes, mapping.start, mapping.end);
  };
  const cache = findMapping(maps, row.cache);
  return (
    isNamed(row.segment, row.segmentBytes, SEGMENT_NAME) &&
    isNamed(row.liveness, row.livenessBytes, LIVENESS_NAME) &&
    cache?.start === row.cache &&
    row.cacheBytes === CACHE_BYTES &&
    isCache(cache, maps) &&
    isInArena(row.runtime, row.runtimeBytes, arenas)
  );
}

function isSite(row: SiteRow, arenas: readonly ArenaRow[]): boolean {
  const { via, patchBytes, displacedBytes, method, prefixBytes } = row;
  const end = row.stub + BigInt(row.stubBytes);
  const isInside = (at: bigint, bytes: number): boolean => lies(at, bytes, row.stub, end);
  return (
    patchBytes > 0 &&
    patchBytes <= (method === 'short-jump' ? SHORT_JUMP_BYTES : JUMP_BYTES) &&
    displacedBytes > 0 &&
    prefixBytes < JUMP_BYTES &&
    isVia(row.address, via, method, arenas) &&
    reachesGoal(row) &&
    isInArena(row.stub, row.stubBytes, arenas) &&
    isInside(row.list, 8) &&
    row.list % 8n === 0n &&
    isInside(row.epilogue, 1) &&
    isInside(row.displaced, 1)
  );
}

/** Whether a site's jump can lead where the row says, and one in padding to the stub. */
function reachesGoal({ address: at, method, via, stub, prefixBytes }: SiteRow): boolean {
  if (method === 'short-jump') return via !== undefined && jumpReaches(via, stub);
  return jumpReaches(address(at + BigInt(prefixBytes)), goalOf({ via, stub }));
}

/** A short jump leads to padding in its reach, a pun to an arena, everything else to its stub. */
function isVia(
  at: Address,
  via: Address | undefined,
  method: SiteRow['method'],
  arenas: readonly ArenaRow[],
): boolean {
  if (method === 'short-jump') {
    const distance = via === undefined ? undefined : via - at - BigInt(SHORT_JUMP_BYTES);
    return distance !== undefined && BigInt.asIntN(8, distance) === distance;
  }
  if (via === undefined) return true;
  return method === 'pun' && isInArena(via, SPRINGBOARD_BYTES, arenas);
}

function isProgram(row: ProgramRow, arenas: readonly ArenaRow[]): boolean {
  return (
    isInArena(row.code, row.codeBytes, arenas) &&
    lies(row.next, 8, row.code, row.code + BigInt(row.codeBytes)) &&
    row.next % 8n === 0n
  );
}

function isInArena(start: Address, bytes: number, arenas: readonly ArenaRow[]): boolean {
  return arenas.some((arena) =>
    lies(start, bytes, arena.address, arena.address + BigInt(arena.bytes)),
  );
}

function lies(start: bigint, bytes: number, from: bigint, to: bigint): boolean {
  return bytes > 0 && start >= from && start + BigInt(bytes) <= to;
}
