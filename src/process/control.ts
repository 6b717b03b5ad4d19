/**
 * The control block: a versioned, self-describing table in each probed address space that says which
 * sessions, arenas, sites and programs are there. Private memory, read-only in the target's view,
 * written only under a stop; a forked child has its own copy, as it has its own patched text.
 *
 * What is read here may have been written by a hostile target: numbers are bounded on the way in, and
 * nothing in it is believed that can be derived elsewhere (original bytes come from the file).
 */

import { TraplineError } from '../base/errors.ts';
import { wholePages } from '../base/page.ts';
import {
  ARENA_ROW_BYTES,
  ARENAS_AT,
  Capacity,
  decodeArena,
  decodeProgram,
  decodeSession,
  decodeSite,
  PROGRAM_ROW_BYTES,
  PROGRAMS_AT,
  SESSION_ROW_BYTES,
  SESSIONS_AT,
  SITE_ROW_BYTES,
  SITES_AT,
  viewOf,
  type ArenaRow,
  type ControlWrite,
  type ProgramRow,
  type SessionRow,
  type SiteRow,
} from './control-rows.ts';

/** "TRAPCTRL", read as a little-endian number. */
export const CONTROL_MAGIC = 0x4c52_5443_5041_5254n;
/** Grows with every change of this file, of the rows, or of the stub's frame. */
export const CONTROL_VERSION = 2;
/** What the control block and the arenas are called in /proc/PID/maps. */
export const CONTROL_NAME = 'trapline-control';
/** What session segments are called in /proc/PID/maps. */
export const SEGMENT_NAME = 'trapline-session';
/** What liveness pages are called in /proc/PID/maps. */
export const LIVENESS_NAME = 'trapline-live';

/** Bytes of the whole block, whole pages; only pages that were written cost memory. */
export const CONTROL_BYTES: number = wholePages(
  PROGRAMS_AT + Capacity.programs * PROGRAM_ROW_BYTES,
);

const Header = {
  magic: 0,
  version: 8,
  headerBytes: 12,
  controlBytes: 16,
  generation: 24,
  sessions: 32,
  arenas: 36,
  sites: 40,
  programs: 44,
} as const;

/** The tables, decoded. */
export interface ControlTables {
  readonly generation: bigint;
  readonly sessions: readonly SessionRow[];
  readonly arenas: readonly ArenaRow[];
  readonly sites: readonly SiteRow[];
  readonly programs: readonly ProgramRow[];
}

/** How many bytes of the block hold rows: what a reader must fetch after {@link decodeExtent}. */
export interface ControlExtent {
  readonly sessions: number;
  readonly arenas: number;
  readonly sites: number;
  readonly programs: number;
}

/** Bytes to read first: the header. */
export const CONTROL_HEADER_BYTES: number = SESSIONS_AT;

/** Whether the header was never written: its maker died before, and the block holds nothing. */
export function isBlank(header: Uint8Array): boolean {
  return header.subarray(0, CONTROL_HEADER_BYTES).every((byte) => byte === 0);
}

/**
 * Reads the header.
 * @param header at least {@link CONTROL_HEADER_BYTES} bytes from the block's start.
 * @returns the number of rows in use at most, bounded by {@link Capacity}.
 * @throws TraplineError `busy` when the block is of another version, `bad-input` when it is not one.
 */
export function decodeExtent(header: Uint8Array): ControlExtent {
  const view = viewOf(header);
  if (view.getBigUint64(Header.magic, true) !== CONTROL_MAGIC) {
    throw new TraplineError({
      code: 'bad-input',
      message: 'the memory named trapline-control is not a control block',
      hint: 'The target may have overwritten it. Restart the target to get rid of what is left in it.',
    });
  }
  const version = view.getUint32(Header.version, true);
  if (version !== CONTROL_VERSION) {
    throw new TraplineError({
      code: 'busy',
      message: `a session of another version of Trapline holds this process (block version ${version}, ours is ${CONTROL_VERSION})`,
      hint: 'End that session, or clean up with its own version of trapline.',
    });
  }
  const count = (at: number, limit: number): number => Math.min(view.getUint32(at, true), limit);
  return {
    sessions: count(Header.sessions, Capacity.sessions),
    arenas: count(Header.arenas, Capacity.arenas),
    sites: count(Header.sites, Capacity.sites),
    programs: count(Header.programs, Capacity.programs),
  };
}

/** The generation in a header; 0 in a blank one. */
export function decodeGeneration(header: Uint8Array): bigint {
  return viewOf(header).getBigUint64(Header.generation, true);
}

/** The ranges of the block that hold an extent's rows. */
export function extentRanges(extent: ControlExtent): { offset: number; bytes: number }[] {
  return [
    { offset: SESSIONS_AT, bytes: extent.sessions * SESSION_ROW_BYTES },
    { offset: ARENAS_AT, bytes: extent.arenas * ARENA_ROW_BYTES },
    { offset: SITES_AT, bytes: extent.sites * SITE_ROW_BYTES },
    { offset: PROGRAMS_AT, bytes: extent.programs * PROGRAM_ROW_BYTES },
  ];
}

/**
 * Decodes what {@link extentRanges} named, in the same order. Rows that contradict themselves are left out.
 * @param header the one that told the extent, read before the rows: a block that is changed meanwhile has another
 * generation afterwards. With a header that is read again a later generation would stand for fewer rows than it has.
 */
export function decodeTables(header: Uint8Array, parts: readonly Uint8Array[]): ControlTables {
  const [sessions, arenas, sites, programs] = parts;
  if (!sessions || !arenas || !sites || !programs) {
    throw new RangeError('decodeTables: four parts expected');
  }
  return {
    generation: decodeGeneration(header),
    sessions: rows(sessions, SESSION_ROW_BYTES, decodeSession),
    arenas: rows(arenas, ARENA_ROW_BYTES, decodeArena),
    sites: rows(sites, SITE_ROW_BYTES, decodeSite),
    programs: rows(programs, PROGRAM_ROW_BYTES, decodeProgram),
  };
}

/** The header for a block with at most these rows. */
export function encodeHeader(extent: ControlExtent, generation: bigint): ControlWrite {
  const bytes = new Uint8Array(CONTROL_HEADER_BYTES);
  const view = viewOf(bytes);
  view.setBigUint64(Header.magic, CONTROL_MAGIC, true);
  view.setUint32(Header.version, CONTROL_VERSION, true);
  view.setUint32(Header.headerBytes, CONTROL_HEADER_BYTES, true);
  view.setBigUint64(Header.controlBytes, BigInt(CONTROL_BYTES), true);
  view.setBigUint64(Header.generation, generation, true);
  view.setUint32(Header.sessions, extent.sessions, true);
  view.setUint32(Header.arenas, extent.arenas, true);
  view.setUint32(Header.sites, extent.sites, true);
  view.setUint32(Header.programs, extent.programs, true);
  return { offset: 0, bytes };
}

/** Which table a row to be erased stands in. */
export type ControlTable = 'sessions' | 'arenas' | 'sites' | 'programs';

/**
 * Marks rows that follow each other as free. A row counts from its first word on, so that it is free
 * as soon as the first of its bytes are written.
 */
export function eraseRows(table: ControlTable, first: number, count: number): ControlWrite {
  const [start, size] = {
    sessions: [SESSIONS_AT, SESSION_ROW_BYTES] as const,
    arenas: [ARENAS_AT, ARENA_ROW_BYTES] as const,
    sites: [SITES_AT, SITE_ROW_BYTES] as const,
    programs: [PROGRAMS_AT, PROGRAM_ROW_BYTES] as const,
  }[table];
  return { offset: start + first * size, bytes: new Uint8Array((count - 1) * size + 4) };
}

function rows<Row>(
  bytes: Uint8Array,
  size: number,
  decode: (view: DataView, index: number) => Row | undefined,
): Row[] {
  const found: Row[] = [];
  for (let index = 0; (index + 1) * size <= bytes.byteLength; index++) {
    const row = decode(viewOf(bytes.subarray(index * size, (index + 1) * size)), index);
    if (row !== undefined) found.push(row);
  }
  return found;
}
