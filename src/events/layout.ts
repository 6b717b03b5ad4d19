/**
 * The layout of a session segment and of the records in its rings: the contract between the stubs
 * that write inside a target and the reader that trusts nothing of it. All numbers little-endian.
 *
 *     0                       SegmentHeader (one page)
 *     4096                    shared counters: consumerCapacity × 32 bytes, written with lock
 *     contextsOffset          contextCount × contextStride
 *       + 0                   context header (one page)
 *       + 4096                counters: consumerCapacity × 32 bytes, written by one task only
 *       + ringOffset          ring: ringBytes, then MAX_RECORD_BYTES of spill
 */

import { PAGE_BYTES, wholePages } from '../base/page.ts';

/** "TRAPSESS", read as a little-endian number. */
export const SEGMENT_MAGIC = 0x5353455350415254n;
/** Grows with every change of this file. */
export const SEGMENT_VERSION = 7;
/** The largest record, in bytes; also the size of the spill area behind a ring. */
export const MAX_RECORD_BYTES = 65_536;

/** Byte offsets in the segment's first page. */
export const SegmentHeader = {
  magic: 0, // u64
  version: 8, // u32
  headerBytes: 12, // u32, PAGE_BYTES
  contextCount: 16, // u32
  consumerCapacity: 20, // u32
  ringBytes: 24, // u32, a power of two
  /** u32: where the runtime keeps the thread id, relative to fs; {@link TID_UNKNOWN} until verified. */
  tidOffset: 28,
  contextStride: 32, // u64
  contextsOffset: 40, // u64
  /** u64: attempts to claim a context: no more were ever in use. Written with lock by the target. */
  claimed: 48,
  /** u32: how many address spaces have claimed contexts. Written with lock by the target. */
  spaces: 56,
  /** u32: announcements that were made, modulo 2^32. Written with lock by the target, which wakes who waits for it. */
  announced: 64,
  /** u32: how many of them were served. Written by the session, which wakes who waits for it. */
  served: 68,
  /** u32: the number of the last announcement that was waited for in vain. Written by the target. */
  unserved: 72,
  /** u32: how many of them the session has seen. Written by the session: who waits knows that it is not suspended. */
  heard: 76,
  /** ANNOUNCEMENTS × {@link Announced}: the n-th announcement, counted from 1, is entry (n - 1) modulo that. */
  announcements: 1024,
} as const;

/** How many announcements can wait and be told from each other; a power of two. */
export const ANNOUNCEMENTS = 64;
/** Byte offsets in the entry of one announcement. */
export const Announced = {
  /** u32: its number; written last. */
  number: 0,
  /** u32: the process and the task as their own pid namespace numbers them. */
  pid: 4,
  tid: 8,
  /** u32: the consumer's index in the segment. */
  consumer: 12,
  /** u64: where its registers lie as they were at the hit, in its own memory: the stub's frame. */
  frame: 16,
} as const;
/** A power of two. */
export const ANNOUNCED_BYTES = 32;

/** The value of `tidOffset` while no thread id may be read from the runtime's memory. */
export const TID_UNKNOWN = 0xffff_ffff;

/** Byte offsets in one entry of the shared counters; u64 each. A hit writes one of them: each is also a hit. */
export const SharedCounter = {
  /** Hits that needed a ring, of tasks for which no context was left. */
  noContext: 0,
  /** Hits after the session's end that nobody could record. */
  tracerGone: 8,
  /** Hits of tasks without a context that a count program took. */
  aggregated: 16,
  /** Hits of tasks without a context that the event filter refused. */
  filtered: 24,
} as const;
export const SHARED_COUNTER_BYTES = 32;

/**
 * Byte offsets in a context's first page. What a hit reads stands at 8 modulo 32, where the counters that
 * every hit writes never stand: a processor takes a load for dependent on a store at the same place in
 * another page, and waits for it (4K aliasing; 2 ns a hit).
 */
export const ContextHeader = {
  /** u32: its process, likewise; written after the claim. */
  pid: 4,
  /** u32: 1 once pid and comm are written. */
  ready: 8,
  /** u32: the owning task as its own pid namespace numbers it; 0 is free. Claimed by cmpxchg. */
  tid: 12,
  /** 16 bytes: the task's name when it claimed the context (PR_GET_NAME), NUL-terminated. */
  comm: 16,
  /** u32: its address space, by the number that it took: task ids are unique in one pid namespace only. */
  space: 40,
  /** u64: where the reader is; `ringBytes` at the first claim, from then on written by the reader only. */
  tail: 72,
  /** u64: end of the last reservation; 0 before the first claim, which sets it to `ringBytes`; written by the task only. */
  head: 136,
} as const;

/** Byte offsets in one entry of a context's counters; u64 each, only ever growing. */
export const ConsumerCounter = {
  /** Hits, less those that `aggregated` and `filtered` count: such hits write one counter, not two. */
  hits: 0,
  /** Hits that the event filter refused. */
  filtered: 8,
  /** Hits lost because the ring was full. */
  ringFull: 16,
  /** Hits that a count program took. */
  aggregated: 24,
} as const;
export const CONSUMER_COUNTER_BYTES = 32;

/** Byte offsets in every record. Its fields follow: see {@link RecordLayout}. */
export const RecordHeader = {
  /** u32: low half of position / 8. Written last, with event and cpu, as one u64: the commit. */
  stamp: 0,
  /** u16: the consumer's index in the segment. */
  event: 4,
  /** u16: the processor. */
  cpu: 6,
  /** u64: the time stamp counter. */
  clock: 8,
} as const;
export const RECORD_HEADER_BYTES = 16;
/**
 * The event id of bytes that hold no record: what a stub reserved to look at memory, for a hit that its filter
 * then refused, and could not give back, because a nested hit had reserved behind it. A u64 behind the header
 * is their size.
 */
export const VOID_EVENT = 0xffff;

/** How a field's value is shown and how wide it is; the kernel's fetch types. */
export type FieldType =
  | 'u8'
  | 'u16'
  | 'u32'
  | 'u64'
  | 's8'
  | 's16'
  | 's32'
  | 's64'
  | 'x8'
  | 'x16'
  | 'x32'
  | 'x64'
  | 'char'
  | 'symbol'
  | 'string';

/**
 * One field of a record. Every single value has an 8-byte slot. An integer fills it, zero-extended. A string's
 * slot holds its place: u32 offset from the record's start, u32 length in bytes without the NUL. An array of
 * integers lies as it did in memory, filled up to a multiple of 8 bytes; one of strings is so many slots.
 */
export interface RecordField {
  readonly name: string;
  readonly type: FieldType;
  /** Of its slot, in bytes from the record's start. */
  readonly offset: number;
  /**
   * Its bit in the fault mask, or undefined where the fetch cannot fault. An array of strings has one for
   * each, from this one on.
   */
  readonly faultBit: number | undefined;
  /** Elements, of an array only. */
  readonly count?: number;
  /** Of a text that a stub reads from memory: one of so many bytes was cut there, its end was not seen. */
  readonly cutAt?: number;
}

/** Everything that the reader must know about the records of one consumer. */
export interface RecordLayout {
  readonly fields: readonly RecordField[];
  /**
   * Of the u64 that holds the total size of a record of variable size, which is any that has a string or
   * reads memory; undefined for fixed ones.
   */
  readonly sizeOffset: number | undefined;
  /**
   * Of the u64 that holds the address of the place, where it differs from record to record: one event of the
   * kernel is in all processes. Undefined where the event's descriptor has it.
   */
  readonly addressOffset?: number;
  /** Of the first u64 of the fault mask (bit n of the mask: field with faultBit n could not be read). */
  readonly faultOffset: number | undefined;
  /** Size in bytes of the fixed part, a multiple of 8; the whole record where sizeOffset is undefined. */
  readonly fixedBytes: number;
  /** Of the stub's working area in a record that reads memory, behind the strings; else maxBytes. */
  readonly scratchOffset: number;
  /** The largest size that a record of this layout can have, working area included. */
  readonly maxBytes: number;
}

/** What a layout is made from: a field's name and type, and whether its fetch can fault. */
export interface FieldSpecification {
  readonly name: string;
  readonly type: FieldType;
  readonly canFault: boolean;
  /** Strings only: bytes reserved for it (for each of them) at most, the NUL not stored. */
  readonly maxLength?: number;
  /** Elements, of an array only. */
  readonly count?: number;
}

/**
 * Lays out the records of one consumer: header, address (if asked for), size (if any field is a string or read
 * from memory), fault mask (if any fetch can fault), one slot a field, the strings' bytes, the working area. A
 * record that nothing nested in is shrunk to what it holds before its commit.
 * @param workBytes of the working area that the stub needs.
 * @param hasAddress whether each record holds the address of its place
 * @throws RangeError when the largest record would exceed {@link MAX_RECORD_BYTES}.
 */
export function layoutRecord(
  fields: readonly FieldSpecification[],
  workBytes: number = 0,
  hasAddress = false,
): RecordLayout {
  let at = RECORD_HEADER_BYTES;
  const take = (bytes: number): number => (at += bytes) - bytes;
  const addressOffset = hasAddress ? take(8) : undefined;
  const isVariable =
    workBytes > 0 || fields.some((field) => field.type === 'string' || field.canFault);
  const sizeOffset = isVariable ? take(8) : undefined;
  const faulting = fields.reduce((sum, field) => sum + faultBitsOf(field), 0);
  const faultOffset = faulting > 0 ? take(8 * Math.ceil(faulting / 64)) : undefined;
  let nextBit = 0;
  const placed = fields.map((field) => ({
    name: field.name,
    type: field.type,
    offset: take(slotBytes(field)),
    faultBit: field.canFault ? (nextBit += faultBitsOf(field)) - faultBitsOf(field) : undefined,
    ...(field.count === undefined ? {} : { count: field.count }),
    // Without a working area it is no stub that reads.
    ...(field.canFault && field.maxLength !== undefined && workBytes > 0
      ? { cutAt: field.maxLength }
      : {}),
  }));
  const strings = fields.reduce((sum, { maxLength = 0, count = 1 }) => sum + maxLength * count, 0);
  const scratchOffset = at + ((strings + 7) & ~7);
  const maxBytes = scratchOffset + ((workBytes + 7) & ~7);
  if (maxBytes > MAX_RECORD_BYTES) {
    throw new RangeError(`a record of ${maxBytes} bytes exceeds ${MAX_RECORD_BYTES}`);
  }
  return {
    fields: placed,
    sizeOffset,
    ...(addressOffset === undefined ? {} : { addressOffset }),
    faultOffset,
    fixedBytes: at,
    scratchOffset,
    maxBytes,
  };
}

/** Bytes of one element of an array, as it lies in memory. */
export function elementBytes(type: FieldType): number {
  if (type === 'char') return 1;
  return type === 'symbol' || type === 'string' ? 8 : Number(type.slice(1)) / 8;
}

/** Bytes that a field takes in the fixed part of a record. */
export function slotBytes({ type, count }: Pick<FieldSpecification, 'type' | 'count'>): number {
  return count === undefined ? 8 : (elementBytes(type) * count + 7) & ~7;
}

function faultBitsOf({ canFault, type, count = 1 }: FieldSpecification): number {
  if (!canFault) return 0;
  return type === 'string' ? count : 1;
}

/** The sizes that a session chooses for a segment. */
export interface SegmentShape {
  /** Tasks that can have a ring at the same time. */
  readonly contextCount: number;
  /** Consumers (of all probes of this target) that can be counted. */
  readonly consumerCapacity: number;
  /** Bytes of one ring, a power of two, at least 256 KiB. */
  readonly ringBytes: number;
}

/** Where things lie in a segment of a given shape, in bytes. */
export interface SegmentLayout extends SegmentShape {
  readonly contextsOffset: number;
  readonly contextStride: number;
  /** Of the ring, from its context's start. */
  readonly ringOffset: number;
  readonly totalBytes: number;
}

/** Computes where everything lies; the pair of what {@link SegmentHeader} stores. */
export function layoutSegment(shape: SegmentShape): SegmentLayout {
  const { contextCount, consumerCapacity, ringBytes } = shape;
  const contextsOffset = PAGE_BYTES + wholePages(consumerCapacity * SHARED_COUNTER_BYTES);
  const ringOffset = PAGE_BYTES + wholePages(consumerCapacity * CONSUMER_COUNTER_BYTES);
  const contextStride = ringOffset + ringBytes + MAX_RECORD_BYTES;
  return {
    ...shape,
    contextsOffset,
    contextStride,
    ringOffset,
    totalBytes: contextsOffset + contextCount * contextStride,
  };
}
