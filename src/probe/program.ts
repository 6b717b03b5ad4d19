/**
 * Programs: what a consumer does at a hit. One small typed tree, made from a definition's text or
 * by the library's user, and compiled or evaluated by each engine. It names registers as data and
 * knows nothing of how a machine encodes them.
 */

import {
  layoutRecord,
  type FieldSpecification,
  type FieldType,
  type RecordLayout,
} from '../events/layout.ts';
import { valuesOf, type FilterValue, type ProgramFilter } from './filter.ts';

/** A general register of x86-64 in its full width, and the instruction pointer, as names. */
export type RegisterName =
  | 'rax'
  | 'rbx'
  | 'rcx'
  | 'rdx'
  | 'rsi'
  | 'rdi'
  | 'rbp'
  | 'rsp'
  | 'r8'
  | 'r9'
  | 'r10'
  | 'r11'
  | 'r12'
  | 'r13'
  | 'r14'
  | 'r15'
  | 'rip'
  | 'flags';

/** A 64-bit value, or text, fetched at a hit. Only `load` and `stack` can fault. */
export type Fetch =
  | { readonly kind: 'register'; readonly register: RegisterName }
  /** The 64-bit word at rsp + 8 × index, as it was before the hit. Also a memory access. */
  | { readonly kind: 'stack'; readonly index: number }
  /** A constant, from 0 to 2^64 - 1. */
  | { readonly kind: 'immediate'; readonly value: bigint }
  /** A constant text; of type string only, never beneath a load. */
  | { readonly kind: 'text'; readonly text: string }
  /**
   * Where a file offset of the probed file is, taken that it lies as far from the site as in the file: what
   * the kernel's `@+OFFSET` takes, right for every segment that is mapped with the text's bias.
   */
  | { readonly kind: 'file'; readonly offset: bigint }
  /** What the function returned; of return probes only. */
  | { readonly kind: 'return-value' }
  /** The task's name, 15 bytes at most; of type string only, never beneath a load. */
  | { readonly kind: 'comm' }
  /** What lies at the address `base` + `offset`; as wide as the argument's type. */
  | { readonly kind: 'load'; readonly base: Fetch; readonly offset: bigint };

/** Bits of an integer: what is left of it is shifted down. */
export interface BitRange {
  /** How many. */
  readonly width: number;
  /** Bits below them. */
  readonly offset: number;
}

/** One named value of a record. */
export interface ProgramArgument {
  readonly name: string;
  /** Of each element, where there are several; the container's, where `bits` are taken out of it. */
  readonly type: FieldType;
  readonly fetch: Fetch;
  readonly bits?: BitRange;
  /**
   * Elements of an array in memory, whose fetch is a load: side by side from its address on; strings, where
   * that many pointers lie side by side.
   */
  readonly count?: number;
}

/**
 * What a hit does once it passed the filter. `announce` is for the session's own ends: it tells the session of the
 * task, and has it wait until the session has answered, for a bounded time, and not at all when the session is gone.
 */
export type ProgramAction = 'record' | 'count' | 'announce';

/** What a consumer does at a hit: fetch, filter, act. */
export interface Program {
  readonly arguments: readonly ProgramArgument[];
  readonly filter: ProgramFilter | undefined;
  readonly action: ProgramAction;
  /**
   * Of `announce`, which takes neither arguments nor a filter: a hit passes by while the 32-bit word so many bytes
   * behind the probed place is not 0. It is loaded as it is: whoever asks for it knows that it is always mapped.
   */
  readonly passesWhile?: bigint;
}

/** Bytes of a fetched string that are kept at most; longer ones are cut there. */
export const MAX_STRING_BYTES = 4096;
/** What all strings of one record can have together, so that it stays within MAX_RECORD_BYTES. */
const STRINGS_BYTES = 40_960;

/** The largest task name in bytes, without its NUL (TASK_COMM_LEN - 1). */
const COMM_BYTES = 15;

/** How the records of a program are laid out. */
export function layoutOf(program: Program): RecordLayout {
  const reads = [
    ...program.arguments.map(({ fetch, count, type }) => readsOf(fetch, count, type)),
    ...(program.filter === undefined ? [] : valuesOf(program.filter).map(workOf)),
  ];
  return layoutRecord(
    fieldsOf(program),
    reads.reduce((sum, bytes) => sum + bytes, 0) +
      (reads.some((bytes) => bytes > 0) ? WORK_SPARE : 0),
  );
}

/** Whether a record, and what reading its memory takes, has room in a ring. */
export function fitsRecord(
  fetched: readonly ProgramArgument[],
  filter: ProgramFilter | undefined,
): boolean {
  try {
    layoutOf({ arguments: fetched, filter, action: 'record' });
    return true;
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** Bytes of the working area for one read of memory: three iovecs, and a pointer that was read. */
const WORK_BYTES = 56;
/** Once: room for bytes that lie between those that are asked for. */
const WORK_SPARE = 272;

/** What reading the memory of a fetch takes of the working area, at most. */
function readsOf(fetch: Fetch, count?: number, type?: FieldType): number {
  if (fetch.kind === 'stack') return WORK_BYTES;
  if (fetch.kind !== 'load') return 0;
  // An array of one string has a pointer to it, too.
  const strings = type === 'string' && count !== undefined ? count : 0;
  return WORK_BYTES * (1 + strings) + strings * 8 + readsOf(fetch.base);
}

/** What a term of a filter takes of it: its value lies there, too, if it is no field. */
function workOf(value: FilterValue): number {
  if (value.kind === 'comm') return COMM_BYTES + 1;
  if (value.kind !== 'argument') return 0;
  const { fetch, count, type } = value.argument;
  if (fetch.kind === 'comm') return COMM_BYTES + 1;
  const reads = readsOf(fetch, count, type);
  return reads === 0 ? 0 : reads + (type === 'string' ? MAX_STRING_BYTES : 8);
}

/** The fields of a program's records, as `layoutRecord` takes them. */
export function fieldsOf(program: Program): FieldSpecification[] {
  const strings = program.arguments.reduce(
    (sum, { type, count }) => sum + (type === 'string' ? (count ?? 1) : 0),
    0,
  );
  const longest = Math.min(MAX_STRING_BYTES, Math.floor(STRINGS_BYTES / Math.max(strings, 1)) & ~7);
  return program.arguments.map(({ name, type, fetch, count }) => ({
    name,
    type,
    canFault: fetch.kind === 'load' || fetch.kind === 'stack',
    ...(count === undefined ? {} : { count }),
    ...(type === 'string' ? { maxLength: stringRoom(fetch, longest) } : {}),
  }));
}

function stringRoom(fetch: Fetch, longest: number): number {
  if (fetch.kind === 'comm') return COMM_BYTES + 1;
  return fetch.kind === 'text' ? Buffer.byteLength(fetch.text) : longest;
}
