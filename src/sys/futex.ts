/** futex(2) on memory that processes share, and on several words at once: futex_waitv(2), Linux 5.16. */

import type { Address } from '../base/brand.ts';
import { addressOf, check, errnoName, lastErrno, systemError, systemQuestion } from './call.ts';
import { monotonicNanoseconds } from './clock.ts';
import { sleepMicroseconds } from './wait.ts';

const SYS_FUTEX = 202;
const SYS_FUTEX_WAITV = 449;
const FUTEX_WAKE = 1;
const EVERYBODY = 0x7fff_ffff;
/** FUTEX2_SIZE_U32 (include/uapi/linux/futex.h): between processes, as it is without FUTEX2_PRIVATE. */
const WORD_OF_32_BITS = 2;
/** struct futex_waitv: u64 value, u64 address, u32 flags, u32 reserved. */
const WAITV_BYTES = 24;
const CLOCK_MONOTONIC = 1;
const SECOND = 1_000_000_000n;

/** So many words can be waited for at once (FUTEX_WAITV_MAX). */
export const MOST_WORDS = 128;
/** Where the kernel can't wait for words, or not for so many, they are looked at so often, in milliseconds. */
const POLL_INTERVAL = 10;

/** Answers of a wait that is over; EAGAIN has two names. */
const PASSED: ReadonlySet<string> = new Set(['EAGAIN', 'EWOULDBLOCK', 'ETIMEDOUT', 'EINTR']);

/** Wakes all that wait at a word, in whatever process. */
export function wakeAll(word: Address): void {
  // Asked of nobody in particular: it changes nothing that a death after it could leave behind.
  check(systemQuestion(SYS_FUTEX, word, FUTEX_WAKE, EVERYBODY, 0, 0, 0), 'wake who waits');
}

/** A word of 32 bits, and what it held when it was looked at. */
export interface WatchedWord {
  readonly address: Address;
  readonly value: number;
}

/**
 * Blocks the calling thread until a word is woken, or holds another value, or the time is over. Wakes up for
 * nothing, too: whoever waits looks at the words again.
 * @param timeout milliseconds
 */
export function waitForWords(words: readonly WatchedWord[], timeout: number): void {
  const some = words.slice(0, MOST_WORDS);
  const limit = some.length < words.length ? Math.min(timeout, POLL_INTERVAL) : timeout;
  const bytes = Buffer.alloc(some.length * WAITV_BYTES);
  for (const [index, { address, value }] of some.entries()) {
    bytes.writeBigUInt64LE(BigInt(value >>> 0), index * WAITV_BYTES);
    bytes.writeBigUInt64LE(address, index * WAITV_BYTES + 8);
    bytes.writeUInt32LE(WORD_OF_32_BITS, index * WAITV_BYTES + 16);
  }
  const until = monotonicNanoseconds() + BigInt(Math.round(limit * 1e6));
  const time = Buffer.alloc(16);
  time.writeBigInt64LE(until / SECOND, 0);
  time.writeBigInt64LE(until % SECOND, 8);
  const at = addressOf(bytes);
  const answer = systemQuestion(
    SYS_FUTEX_WAITV,
    at,
    some.length,
    0,
    addressOf(time),
    CLOCK_MONOTONIC,
    0,
  );
  if (Number(answer) !== -1) return;
  const name = errnoName(lastErrno());
  if (name === 'ENOSYS' || name === 'EPERM') sleepMicroseconds(POLL_INTERVAL * 1000);
  else if (!PASSED.has(name)) throw systemError('wait for words');
}
