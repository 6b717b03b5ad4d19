/**
 * The rows of the control block: what they say, and where and how each stands in it.
 *
 * What is read here may have been written by a hostile target: numbers are bounded on the way in.
 */

import { address, type Address } from '../base/brand.ts';

/** Rows of each table. */
export const Capacity = { sessions: 16, arenas: 8192, sites: 32_768, programs: 65_536 } as const;

/** Bytes of one row of each table. */
export const SESSION_ROW_BYTES = 128;
export const ARENA_ROW_BYTES = 32;
export const SITE_ROW_BYTES = 128;
export const PROGRAM_ROW_BYTES = 64;

/** Where the tables begin: behind the header. */
export const SESSIONS_AT = 256;
export const ARENAS_AT: number = SESSIONS_AT + Capacity.sessions * SESSION_ROW_BYTES;
export const SITES_AT: number = ARENAS_AT + Capacity.arenas * ARENA_ROW_BYTES;
export const PROGRAMS_AT: number = SITES_AT + Capacity.sites * SITE_ROW_BYTES;

/** The longest run of original bytes that a site can displace: five, and the rest of the last one. */
export const MAX_DISPLACED_BYTES = 32;

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

/** Memory near some file's text, in which stubs and programs lie. */
export interface ArenaRow {
  readonly index: number;
  readonly address: Address;
  readonly bytes: number;
  /** Whether it was mapped for the sake of the addresses to which puns lead: what may lie anywhere comes there last. */
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
  /** The consumer's probe in the session, for people; {@link OWN_PROBE} for one of the session's own. */
  readonly probe: number;
}

/** Stands for the number of a probe where a program serves the session itself: probes begin with 1. */
export const OWN_PROBE = 0;

/** Bytes to be written to the block, at an offset from its start. */
export interface ControlWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A session's row. */
export function encodeSession(row: SessionRow): ControlWrite {
  const bytes = new Uint8Array(SESSION_ROW_BYTES);
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
  return { offset: SESSIONS_AT + row.index * SESSION_ROW_BYTES, bytes };
}

/** A row of it; none where it is free, or contradicts itself. */
export function decodeSession(view: DataView, index: number): SessionRow | undefined {
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
  const bytes = new Uint8Array(ARENA_ROW_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, 1, true);
  view.setUint32(4, row.bytes, true);
  view.setBigUint64(8, row.address, true);
  view.setUint32(16, row.isExact ? 1 : 0, true);
  return { offset: ARENAS_AT + row.index * ARENA_ROW_BYTES, bytes };
}

/** A row of it; none where it is free, or contradicts itself. */
export function decodeArena(view: DataView, index: number): ArenaRow | undefined {
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
  const bytes = new Uint8Array(SITE_ROW_BYTES);
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
  view.setUint8(84, row.isRaised ? 1 : 0);
  view.setBigUint64(88, row.via ?? 0n, true);
  view.setBigUint64(96, row.counter ?? 0n, true);
  return { offset: SITES_AT + row.index * SITE_ROW_BYTES, bytes };
}

/** A row of it; none where it is free, or contradicts itself. */
export function decodeSite(view: DataView, index: number): SiteRow | undefined {
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
  const bytes = new Uint8Array(PROGRAM_ROW_BYTES);
  const view = viewOf(bytes);
  view.setUint32(0, 1, true);
  view.setUint32(4, row.session, true);
  view.setUint32(8, row.site, true);
  view.setUint32(12, row.codeBytes, true);
  view.setBigUint64(16, row.code, true);
  view.setBigUint64(24, row.next, true);
  view.setUint32(32, row.consumer, true);
  view.setUint32(36, row.probe, true);
  return { offset: PROGRAMS_AT + row.index * PROGRAM_ROW_BYTES, bytes };
}

/** A row of it; none where it is free, or contradicts itself. */
export function decodeProgram(view: DataView, index: number): ProgramRow | undefined {
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

/** Looks at bytes without a copy. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
