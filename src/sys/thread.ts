/**
 * A thread of our process that runs machine code and nothing else: no JavaScript, so no heap, no event loop, and
 * nothing that keeps the process from exiting.
 */

import type { Address } from '../base/brand.ts';
import { bind, systemError } from './call.ts';

/** More than pthread_attr_t (56 bytes) and sigset_t (128) have in glibc and musl. */
const OPAQUE_BYTES = 256;
/** Room for what libc and Node keep of a thread at its stack's end; the code itself needs a few words. */
const STACK_BYTES = 256 << 10;
/** SIG_SETMASK (include/uapi/asm-generic/signal-defs.h). */
const SET_MASK = 2;

const create: (
  thread: Uint8Array,
  attributes: Uint8Array,
  start: bigint,
  argument: bigint,
) => number = bind(
  'int pthread_create(void *thread, const void *attributes, uint64_t start, uint64_t argument)',
);
const join: (thread: bigint, result: bigint) => number = bind(
  'int pthread_join(uint64_t thread, uint64_t result)',
);
const attributesInit: (attributes: Uint8Array) => number = bind(
  'int pthread_attr_init(void *attributes)',
);
const attributesStack: (attributes: Uint8Array, bytes: number) => number = bind(
  'int pthread_attr_setstacksize(void *attributes, size_t bytes)',
);
const attributesDestroy: (attributes: Uint8Array) => number = bind(
  'int pthread_attr_destroy(void *attributes)',
);
const mask: (how: number, signals: Uint8Array, before: Uint8Array) => number = bind(
  'int pthread_sigmask(int how, const void *signals, void *before)',
);

/** A thread that {@link startThread} started. */
export interface NativeThread {
  /** Waits for its end and gives back its stack. To be called once, when the code is about to return. */
  readonly join: () => void;
}

/**
 * Starts a thread. It gets no signals but those that libc sends for its own purposes (setuid in all threads).
 * @param code a C function `void *(void *argument)`; the caller keeps it mapped until the thread has ended
 * @throws TraplineError `system` where there can't be one more.
 */
export function startThread(code: Address, argument: Address): NativeThread {
  const attributes = Buffer.alloc(OPAQUE_BYTES);
  const thread = Buffer.alloc(8);
  const before = Buffer.alloc(OPAQUE_BYTES);
  demand(attributesInit(attributes), 'describe a thread');
  try {
    demand(attributesStack(attributes, STACK_BYTES), "set the size of a thread's stack");
    // A thread begins with the mask of who creates it. libc leaves out what it needs itself.
    demand(mask(SET_MASK, Buffer.alloc(OPAQUE_BYTES, 0xff), before), 'block signals');
    try {
      demand(create(thread, attributes, code, argument), 'start a thread');
    } finally {
      demand(mask(SET_MASK, before, Buffer.alloc(OPAQUE_BYTES)), 'unblock signals');
    }
  } finally {
    attributesDestroy(attributes);
  }
  const id = thread.readBigUInt64LE();
  return { join: () => demand(join(id, 0n), 'wait for the end of a thread') };
}

/** These functions give back the error itself. */
function demand(errno: number, what: string): void {
  if (errno !== 0) throw systemError(what, errno);
}
