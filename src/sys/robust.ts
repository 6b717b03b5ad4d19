/**
 * Liveness words: how a target knows that we are gone, whatever killed us.
 *
 * The kernel walks a dying thread's robust list (kernel/futex/core.c, exit_robust_list): for each
 * node it looks at the 32-bit word `futex_offset` bytes further on. If the word's low 30 bits
 * (FUTEX_TID_MASK) are the dying thread's id, it sets bit 30, FUTEX_OWNER_DIED, and clears the id.
 * The list's nodes hold pointers that the kernel follows, so they stay in private memory; only the
 * page with the word is shared. One offset serves all nodes, so nodes and words lie in two arenas at a
 * fixed distance:
 *
 *     page 0                  the list's head
 *     page 1 … SLOTS          node i, at the start of its page
 *     page SLOTS+1 … 2·SLOTS  word i, at the start of its page: the first page of its file
 */

import { address } from '../base/brand.ts';
import { ensure, TraplineError } from '../base/errors.ts';
import { PAGE_BYTES } from '../base/page.ts';
import { addressOf, check, systemCall, type Long } from './call.ts';
import { mapMemory, Protection, viewMemory, type Mapping } from './mapping.ts';
import { ownTaskId } from './signals.ts';

const SYS_SET_ROBUST_LIST = 273;
const SYS_GET_ROBUST_LIST = 274;
/** sizeof(struct robust_list_head): next, futex_offset, list_op_pending. */
const HEAD_BYTES = 24;
/** The kernel follows 2048 nodes at most (ROBUST_LIST_LIMIT). */
const SLOTS = 256;
const FUTEX_OFFSET = SLOTS * PAGE_BYTES;

/** Set in a liveness word when its owner is gone: by the kernel, or by us at the end. */
export const FUTEX_OWNER_DIED = 0x4000_0000;
/** The bits of a liveness word that hold the living owner's thread id. */
export const FUTEX_TID_MASK = 0x3fff_ffff;

/** A liveness word in use. Disposing it says to the target that we are gone. */
export interface LivenessWord extends Disposable {
  /** The word's value now. */
  read(): number;
}

/**
 * The robust list of the calling thread. It takes the place of libc's own, which serves only
 * robust pthread mutexes locked by this thread; disposing gives that back.
 */
export class LivenessList implements Disposable {
  readonly #memory: Mapping;
  readonly #words: BigUint64Array;
  readonly #owner: number = ownTaskId();
  readonly #former: readonly [head: Long, length: Long];
  readonly #used = new Set<number>();

  constructor() {
    this.#memory = mapMemory((1 + 2 * SLOTS) * PAGE_BYTES);
    this.#words = new BigUint64Array(this.#memory.view);
    this.#words[0] = this.#memory.address;
    this.#words[1] = BigInt(FUTEX_OFFSET);
    this.#words[2] = 0n;
    this.#former = currentList();
    setList(this.#memory.address, HEAD_BYTES);
  }

  /**
   * Makes the first four bytes of a file in memory say that this thread lives. The file must be
   * writable now; it may be sealed FUTURE_WRITE afterwards. `fd` may be closed.
   * @throws TraplineError `limit` when all words are in use.
   */
  register(fd: number): LivenessWord {
    ensure(ownTaskId() === this.#owner, 'a liveness list belongs to the thread that made it');
    const slot = this.#freeSlot();
    const at = address(this.#nodeAddress(slot) + BigInt(FUTEX_OFFSET));
    mapMemory(PAGE_BYTES, { at, fd });
    const word = new Uint32Array(viewMemory(at, 4));
    Atomics.store(word, 0, this.#owner);
    this.#link(slot);
    return {
      read: () => Atomics.load(word, 0),
      [Symbol.dispose]: () => this.#release(slot, word),
    };
  }

  [Symbol.dispose](): void {
    ensure(this.#used.size === 0, 'a liveness word is still in use');
    setList(...this.#former);
    this.#memory[Symbol.dispose]();
  }

  #freeSlot(): number {
    for (let slot = 0; slot < SLOTS; slot++) if (!this.#used.has(slot)) return slot;
    throw new TraplineError({
      code: 'limit',
      message: `more than ${SLOTS} targets in one session`,
      hint: 'end another target first, or start a second session',
    });
  }

  #nodeAddress(slot: number): bigint {
    return this.#memory.address + BigInt((1 + slot) * PAGE_BYTES);
  }

  #nodeIndex(slot: number): number {
    return ((1 + slot) * PAGE_BYTES) / 8;
  }

  // Each step leaves a list that the kernel can walk: we may die between any two.
  #link(slot: number): void {
    this.#used.add(slot);
    this.#words[this.#nodeIndex(slot)] = this.#words[0] ?? this.#memory.address;
    this.#words[0] = this.#nodeAddress(slot);
  }

  #release(slot: number, word: Uint32Array): void {
    if (!this.#used.has(slot)) return;
    Atomics.store(word, 0, FUTEX_OWNER_DIED);
    const node = this.#nodeAddress(slot);
    let before = 0;
    while (this.#words[before] !== node) {
      const next = this.#words[before] ?? this.#memory.address;
      before = Number(next - this.#memory.address) / 8;
      ensure(before > 0, 'the liveness list lost a node');
    }
    this.#words[before] = this.#words[this.#nodeIndex(slot)] ?? this.#memory.address;
    const at = address(node + BigInt(FUTEX_OFFSET));
    mapMemory(PAGE_BYTES, { at, protection: Protection.read | Protection.write });
    this.#used.delete(slot);
  }
}

function setList(head: Long, length: Long): void {
  check(systemCall(SYS_SET_ROBUST_LIST, head, length, 0, 0, 0, 0), 'set the robust list');
}

function currentList(): [head: Long, length: Long] {
  const result = Buffer.alloc(16);
  const at = addressOf(result);
  const answer = systemCall(SYS_GET_ROBUST_LIST, 0, at, at + 8n, 0, 0, 0);
  check(answer, 'read the robust list');
  return [result.readBigUInt64LE(0), result.readBigUInt64LE(8)];
}
