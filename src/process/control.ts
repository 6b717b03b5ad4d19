/**
 * The control block: a versioned, self-describing table in each probed address space that says which
 * sessions, arenas, sites and programs are there. Private memory, read-only in the target's view,
 * written only under a stop; a forked child has its own copy, as it has its own patched text.
 *
 * What is read here may have been written by a hostile target: numbers are bounded on the way in, and
 * nothing in it is believed that can be derived elsewhere (original bytes come from the file).
 */

import { TraplineError } from '../base/errors.ts';
import { address, type Address } from '../base/brand.ts';

/** "TRAPCTRL", read as a little-endian number. */
export const CONTROL_MAGIC = 0x4c52_5443_5041_5254n;
/** Grows with every change of this file or of the stub's frame. */
export const CONTROL_VERSION = 2;
/** What the control block and the arenas are called in /proc/PID/maps. */
export const CONTROL_NAME = 'trapline-control';
/** What session segments are called in /proc/PID/maps. */
export const SEGMENT_NAME = 'trapline-session';
/** What liveness pages are called in /proc/PID/maps. */
export const LIVENESS_NAME = 'trapline-live';

/** Rows of each table. */
export const Capacity = { sessions: 16, arenas: 8192, sites: 32_768, programs: 65_536 } as const;

const HEADER_BYTES = 256;
const SESSION_BYTES = 128;
const ARENA_BYTES = 32;
const SITE_BYTES = 128;
const PROGRAM_BYTES = 64;

const SESSIONS_AT = HEADER_BYTES;
const ARENAS_AT = SESSIONS_AT + Capacity.sessions * SESSION_BYTES;
const SITES_AT = ARENAS_AT + Capacity.arenas * ARENA_BYTES;
const PROGRAMS_AT = SITES_AT + Capacity.sites * SITE_BYTES;

/** Bytes of the whole block, whole pages; only pages that were written cost memory. */
export const CONTROL_BYTES: number =
  Math.ceil((PROGRAMS_AT + Capacity.programs * PROGRAM_BYTES) / 4096) * 4096;

/** The longest run of original bytes that a site can displace: five, and the rest of the last one. */
export const MAX_DISPLACED_BYTES = 32;

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

/** One session that uses the address space. */
export interface SessionRow {
  readonly index: number;
  /** The tracer's thread id in its own pid namespace, as in the liveness word. */
  readonly tracer: number;
  /** Random, to tell a session from an earlier one with the same numbers. */
  readonly id: bigint;
  readonly liveness: Address;
  readonly livenessBytes: number;
  readonly segment: Address;
  readonly segmentBytes: number;
  readonly cache: Address;
  readonly cacheBytes: number;
  /** The session's slow path, in an arena. */
  readonly runtime: Address;
  readonly runtimeBytes: number;
  /** When it began, CLOCK_REALTIME in seconds. */
  readonly began: number;
}

/**
 * Memory near some file's text, in which stubs and programs lie. `exact`: it was mapped for the sake of the
 * addresses to which puns lead, and what may lie anywhere comes there last.
 */
export interface ArenaRow {
  readonly index: number;
  readonly address: Address;
  readonly bytes: number;
  readonly isExact: boolean;
}

/** `live` from just before the patch on; `retired` is a stub whose site is restored, kept until it is quiet. */
export type SiteState = 'live' | 'retired';

/**
 * How a site leads to its stub, cheapest first.
 *
 * - `nop`: a nop of five bytes or more is replaced by a jump
 * - `jump`: `jmp rel32` over one or several whole instructions
 * - `short-jump`: `jmp rel8` to padding in reach, which holds a `jmp rel32`
 * - `pun`: `jmp rel32` of which only the first bytes are written; the others are the next instructions', so
 *   that it leads to where memory had to be found
 */
export type SiteMethod = 'nop' | 'jump' | 'short-jump' | 'pun';

/** One place that is, was or is about to be patched. */
export interface SiteRow {
  readonly index: number;
  readonly state: SiteState;
  readonly method: SiteMethod;
  readonly address: Address;
  /** Bytes that are written at the site. */
  readonly patchBytes: number;
  /** Prefixes without a meaning in front of the jump of a pun. */
  readonly prefixBytes: number;
  /** Whether the stub's copy of the displaced instructions can go on behind them, in the text. */
  readonly fallsThrough: boolean;
  /** Where the site's jump leads, if not to the stub: to a jump in padding or in an arena. */
  readonly via: Address | undefined;
  readonly stub: Address;
  readonly stubBytes: number;
  /** Bytes of whole instructions that the stub executes in place of the site's. */
  readonly displacedBytes: number;
  /** Where the stub's copy of the displaced instructions begins. */
  readonly displaced: Address;
  /** The 8-byte word that holds the first program's address. */
  readonly list: Address;
  /** Where the last program's `next` points. */
  readonly epilogue: Address;
  /** Bytes between the stub's frame and the stack pointer at the hit: 128 over a red zone, else 0. */
  readonly redZone: number;
  /** A counter of two bytes in the data of the file that is one higher while the site has consumers. */
  readonly counter: Address | undefined;
  /** Whether it is higher by us: said after it was raised, and before it is lowered. */
  readonly isRaised: boolean;
  readonly fileOffset: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly inode: bigint;
}

/** One consumer's machine code at one site. */
export interface ProgramRow {
  readonly index: number;
  readonly session: number;
  readonly site: number;
  readonly code: Address;
  readonly codeBytes: number;
  /** The 8-byte word that holds the next program's address, or the site's epilogue. */
  readonly next: Address;
  /** The consumer's index in the session's segment. */
  readonly consumer: number;
  /** The consumer's probe in the session, for people. */
  readonly probe: number;
}

/** The tables, decoded. */
export interface ControlTables {
  readonly generation: bigint;
  readonly sessions: readonly SessionRow[];
  readonly arenas: readonly ArenaRow[];
  readonly sites: readonly SiteRow[];
  readonly programs: readonly ProgramRow[];
}

/** Bytes to be written to the block, at an offset from its start. */
export interface ControlWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** How many bytes of the block hold rows: what a reader must fetch after {@link decodeExtent}. */
export interface ControlExtent {
  readonly sessions: number;
  readonly arenas: number;
  readonly sites: number;
  readonly programs: number;
}

/** Bytes to read first: the header. */
export const CONTROL_HEADER_BYTES: number = HEADER_BYTES;

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

/** The ranges of the block that hold an extent's rows, to be read in one go. */
export function extentRanges(extent: ControlExtent): { offset: number; bytes: number }[] {
  return [
    { offset: 0, bytes: HEADER_BYTES },
    { offset: SESSIONS_AT, bytes: extent.sessions * SESSION_BYTES },
    { offset: ARENAS_AT, bytes: extent.arenas * ARENA_BYTES },
    { offset: SITES_AT, bytes: extent.sites * SITE_BYTES },
    { offset: PROGRAMS_AT, bytes: extent.programs * PROGRAM_BYTES },
  ];
}

/** Decodes what {@link extentRanges} named, in the same order. Rows that contradict themselves are left out. */
export function decodeTables(parts: readonly Uint8Array[]): ControlTables {
  const [header, sessions, arenas, sites, programs] = parts;
  if (!header || !sessions || !arenas || !sites || !programs) {
    throw new RangeError('decodeTables: five parts expected');
  }
  return {
    generation: viewOf(header).getBigUint64(Header.generation, true),
    sessions: rows(sessions, SESSION_BYTES, decodeSession),
    arenas: rows(arenas, ARENA_BYTES, decodeArena),
    sites: rows(sites, SITE_BYTES, decodeSite),
    programs: rows(programs, PROGRAM_BYTES, decodeProgram),
  };
}

/** The header for a block with at most these rows. */
export function encodeHeader(extent: ControlExtent, generation: bigint): ControlWrite {
  const bytes = new Uint8Array(HEADER_BYTES);
  const view = viewOf(bytes);
  view.setBigUint64(Header.magic, CONTROL_MAGIC, true);
  view.setUint32(Header.version, CONTROL_VERSION, true);
  view.setUint32(Header.headerBytes, HEADER_BYTES, true);
  view.setBigUint64(Header.controlBytes, BigInt(CONTROL_BYTES), true);
  view.setBigUint64(Header.generation, generation, true);
  view.setUint32(Header.sessions, extent.sessions, true);
  view.setUint32(Header.arenas, extent.arenas, true);
  view.setUint32(Header.sites, extent.sites, true);
  view.setUint32(Header.programs, extent.programs, true);
  return { offset: 0, bytes };
}

/** A session's row. */
export function encodeSession(row: SessionRow): ControlWrite {
  const bytes = new Uint8Array(SESSION_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, 1, true);
  view.setUint32(4, row.tracer, true);
  view.setBigUint64(8, row.id, true);
  view.setBigUint64(16, row.liveness, true);
  view.setBigUint64(24, row.segment, true);
  view.setBigUint64(32, BigInt(row.segmentBytes), true);
  view.setBigUint64(40, row.cache, true);
  view.setBigUint64(48, row.runtime, true);
  view.setUint32(56, row.livenessBytes, true);
  view.setUint32(60, row.cacheBytes, true);
  view.setUint32(64, row.runtimeBytes, true);
  view.setBigUint64(72, BigInt(row.began), true);
  return { offset: SESSIONS_AT + row.index * SESSION_BYTES, bytes };
}

function decodeSession(view: DataView, index: number): SessionRow | undefined {
  if (view.getUint32(0, true) !== 1) return undefined;
  const segmentBytes = view.getBigUint64(32, true);
  if (segmentBytes > 1n << 40n) return undefined;
  return {
    index,
    tracer: view.getUint32(4, true),
    id: view.getBigUint64(8, true),
    liveness: address(view.getBigUint64(16, true)),
    segment: address(view.getBigUint64(24, true)),
    segmentBytes: Number(segmentBytes),
    cache: address(view.getBigUint64(40, true)),
    runtime: address(view.getBigUint64(48, true)),
    livenessBytes: view.getUint32(56, true),
    cacheBytes: view.getUint32(60, true),
    runtimeBytes: view.getUint32(64, true),
    began: Number(BigInt.asUintN(48, view.getBigUint64(72, true))),
  };
}

/** An arena's row. */
export function encodeArena(row: ArenaRow): ControlWrite {
  const bytes = new Uint8Array(ARENA_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, 1, true);
  view.setUint32(4, row.bytes, true);
  view.setBigUint64(8, row.address, true);
  view.setUint32(16, row.isExact ? 1 : 0, true);
  return { offset: ARENAS_AT + row.index * ARENA_BYTES, bytes };
}

function decodeArena(view: DataView, index: number): ArenaRow | undefined {
  if (view.getUint32(0, true) !== 1) return undefined;
  return {
    index,
    bytes: view.getUint32(4, true),
    address: address(view.getBigUint64(8, true)),
    isExact: view.getUint32(16, true) === 1,
  };
}

const SITE_METHODS: readonly (SiteMethod | undefined)[] = [
  undefined,
  'nop',
  'jump',
  'short-jump',
  'pun',
];
const SITE_STATES: readonly (SiteState | undefined)[] = [undefined, 'live', 'retired'];

/** A site's row. */
export function encodeSite(row: SiteRow): ControlWrite {
  const bytes = new Uint8Array(SITE_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, SITE_STATES.indexOf(row.state), true);
  view.setUint32(4, row.redZone, true);
  view.setBigUint64(8, row.address, true);
  view.setBigUint64(16, row.stub, true);
  view.setUint32(24, row.stubBytes, true);
  view.setUint32(28, row.displacedBytes, true);
  view.setBigUint64(32, row.displaced, true);
  view.setBigUint64(40, row.list, true);
  view.setBigUint64(48, row.epilogue, true);
  view.setBigUint64(56, BigInt(row.fileOffset), true);
  view.setUint32(64, row.deviceMajor, true);
  view.setUint32(68, row.deviceMinor, true);
  view.setBigUint64(72, row.inode, true);
  view.setUint8(80, SITE_METHODS.indexOf(row.method));
  view.setUint8(81, row.patchBytes);
  view.setUint8(82, row.prefixBytes);
  view.setUint8(83, row.fallsThrough ? 1 : 0);
  view.setUint8(84, row.isRaised ? 1 : 0);
  view.setBigUint64(88, row.via ?? 0n, true);
  view.setBigUint64(96, row.counter ?? 0n, true);
  return { offset: SITES_AT + row.index * SITE_BYTES, bytes };
}

function decodeSite(view: DataView, index: number): SiteRow | undefined {
  const state = SITE_STATES[view.getUint32(0, true)];
  const displacedBytes = view.getUint32(28, true);
  const fileOffset = view.getBigUint64(56, true);
  const method = SITE_METHODS[view.getUint8(80)];
  const via = view.getBigUint64(88, true);
  const counter = view.getBigUint64(96, true);
  if (state === undefined || method === undefined) return undefined;
  if (displacedBytes > MAX_DISPLACED_BYTES) return undefined;
  if (fileOffset > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return {
    index,
    state,
    method,
    patchBytes: view.getUint8(81),
    prefixBytes: view.getUint8(82),
    fallsThrough: view.getUint8(83) === 1,
    via: via === 0n ? undefined : address(via),
    counter: counter === 0n ? undefined : address(counter),
    isRaised: view.getUint8(84) === 1,
    redZone: view.getUint32(4, true),
    address: address(view.getBigUint64(8, true)),
    stub: address(view.getBigUint64(16, true)),
    stubBytes: view.getUint32(24, true),
    displacedBytes,
    displaced: address(view.getBigUint64(32, true)),
    list: address(view.getBigUint64(40, true)),
    epilogue: address(view.getBigUint64(48, true)),
    fileOffset: Number(fileOffset),
    deviceMajor: view.getUint32(64, true),
    deviceMinor: view.getUint32(68, true),
    inode: view.getBigUint64(72, true),
  };
}

/** A program's row. */
export function encodeProgram(row: ProgramRow): ControlWrite {
  const bytes = new Uint8Array(PROGRAM_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, 1, true);
  view.setUint32(4, row.session, true);
  view.setUint32(8, row.site, true);
  view.setUint32(12, row.codeBytes, true);
  view.setBigUint64(16, row.code, true);
  view.setBigUint64(24, row.next, true);
  view.setUint32(32, row.consumer, true);
  view.setUint32(36, row.probe, true);
  return { offset: PROGRAMS_AT + row.index * PROGRAM_BYTES, bytes };
}

function decodeProgram(view: DataView, index: number): ProgramRow | undefined {
  if (view.getUint32(0, true) !== 1) return undefined;
  return {
    index,
    session: view.getUint32(4, true),
    site: view.getUint32(8, true),
    codeBytes: view.getUint32(12, true),
    code: address(view.getBigUint64(16, true)),
    next: address(view.getBigUint64(24, true)),
    consumer: view.getUint32(32, true),
    probe: view.getUint32(36, true),
  };
}

/** Which table a row to be erased stands in. */
export type ControlTable = 'sessions' | 'arenas' | 'sites' | 'programs';

/**
 * Marks rows that follow each other as free. A row counts from its first word on, so that it is free
 * as soon as the first of its bytes are written.
 */
export function eraseRows(table: ControlTable, first: number, count: number): ControlWrite {
  const [start, size] = {
    sessions: [SESSIONS_AT, SESSION_BYTES] as const,
    arenas: [ARENAS_AT, ARENA_BYTES] as const,
    sites: [SITES_AT, SITE_BYTES] as const,
    programs: [PROGRAMS_AT, PROGRAM_BYTES] as const,
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

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
