/** One read of memory. */

import type { Fetch } from '../../probe/program.ts';

/** A pointer that was read before. */
export interface Pointer {
  readonly read: Read;
  /** Where in the record it arrives. */
  readonly at: number;
  /** Bytes of its read that must have arrived. */
  readonly needs: number;
}

/** One stretch of memory. All places are from the record's start. */
export interface Read {
  /** What the address is counted from. */
  readonly base: { readonly fetch: Fetch } | { readonly pointer: Pointer };
  readonly offset: bigint;
  /** Bytes asked for; text may give less. */
  readonly bytes: number;
  /** Less than all of it may be enough: text up to its NUL, some of several pointers. */
  readonly isPartial: boolean;
  /** What lies behind a NUL is not asked for. */
  readonly isText: boolean;
  readonly arrivesAt: number;
  /** Of its local iovec; its length becomes the bytes that arrived, but for a text that has ended before. */
  local: number;
}

/** The pointer that a read goes through, if it does. */
export function pointerOf({ base }: Read): Pointer | undefined {
  return 'pointer' in base ? base.pointer : undefined;
}
