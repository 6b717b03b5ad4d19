/**
 * Programs: what a consumer does at a hit. One small typed tree, made from a definition's text or
 * by the library's user, and compiled or evaluated by each engine. It names registers as data and
 * knows nothing of how a machine encodes them.
 */

import type { FieldSpecification, FieldType } from '../events/layout.ts';

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

/** A 64-bit value fetched at a hit. `load` is the only one that can fault. */
export type Fetch =
  | { readonly kind: 'register'; readonly register: RegisterName }
  /** The 64-bit word at rsp + 8 × index, as it was before the hit. Also a memory access. */
  | { readonly kind: 'stack'; readonly index: number }
  /** The task's name, 15 bytes at most; of type string only. */
  | { readonly kind: 'comm' }
  /** What lies at the address `base` + `offset`; as wide as the argument's type. */
  | { readonly kind: 'load'; readonly base: Fetch; readonly offset: bigint };

/** One named value of a record. */
export interface ProgramArgument {
  readonly name: string;
  readonly type: FieldType;
  readonly fetch: Fetch;
}

/** The event filter: which hits act. More kinds come with the filter language. */
export type ProgramFilter = {
  /** Hits of these tasks only, as the target's pid namespace numbers them. */
  readonly kind: 'tasks';
  readonly tids: readonly number[];
};

/** What a hit does once it passed the filter. */
export type ProgramAction = 'record' | 'count';

/** What a consumer does at a hit: fetch, filter, act. */
export interface Program {
  readonly arguments: readonly ProgramArgument[];
  readonly filter: ProgramFilter | undefined;
  readonly action: ProgramAction;
}

/** Bytes of a fetched string that are kept at most; longer ones are cut there. */
export const MAX_STRING_BYTES = 4096;

/** The largest task name in bytes, without its NUL (TASK_COMM_LEN - 1). */
const COMM_BYTES = 15;

/** The fields of a program's records, for `layoutRecord`. */
export function fieldsOf(program: Program): FieldSpecification[] {
  return program.arguments.map(({ name, type, fetch }) => ({
    name,
    type,
    canFault: fetch.kind === 'load' || fetch.kind === 'stack',
    ...(type === 'string'
      ? { maxLength: fetch.kind === 'comm' ? COMM_BYTES + 1 : MAX_STRING_BYTES }
      : {}),
  }));
}
