/** Reading one context of a segment: who owns it, its counters, its ring. */

import { PAGE_BYTES } from '../base/page.ts';
import type { DescriptorTable } from './descriptor.ts';
import { CONSUMER_COUNTER_BYTES, ContextHeader, type SegmentLayout } from './layout.ts';
import { RingReader } from './ring.ts';
import type { SegmentReaderOptions } from './segment.ts';

/** Whose events these are. Never changed: a task that changes its name gets a new object. */
export interface TaskIdentity {
  readonly pid: number;
  readonly tid: number;
  readonly comm: string;
}

/** Stands in `tid` while a context is being released; no task has this id, and it is not free. */
const RELEASING = 0xffff_ffff;
/** How old a task's name may be. */
const NAME_MILLISECONDS = 100;
const COMM_BYTES = 16;
const NOBODY: TaskIdentity = { pid: 0, tid: 0, comm: '' };

const decoder = new TextDecoder('utf-8');

/** One context. Its ring's bytes, its counters and its header are the target's to write. */
export class ContextReader {
  readonly index: number;
  readonly ring: RingReader;
  /** Nobody will commit to this ring any more. */
  dead = false;
  readonly #tid: Uint32Array;
  readonly #comm: Uint8Array;
  readonly #counters: BigUint64Array;
  #identity: TaskIdentity = NOBODY;
  /** The owner's ids as the target has them. */
  #owner = { pid: 0, tid: 0 };
  #ready = false;
  #nameRead = Number.NEGATIVE_INFINITY;
  #releasing = false;

  constructor(
    { buffer, byteOffset: contextOffset }: DataView,
    layout: SegmentLayout,
    index: number,
    table: DescriptorTable,
  ) {
    const words = (layout.consumerCapacity * CONSUMER_COUNTER_BYTES) / 8;
    this.index = index;
    this.ring = new RingReader({ buffer, contextOffset, ...layout }, table);
    this.#tid = new Uint32Array(buffer, contextOffset, ContextHeader.comm / 4);
    this.#comm = new Uint8Array(buffer, contextOffset + ContextHeader.comm, COMM_BYTES);
    this.#counters = new BigUint64Array(buffer, contextOffset + PAGE_BYTES, words);
  }

  /** The owner as far as it is known, by our ids; all zero before the first claim. */
  get identity(): TaskIdentity {
    return this.#identity;
  }

  /** Whether a task has it, be it dead: asked of the segment itself. */
  get isTaken(): boolean {
    return Atomics.load(this.#tid, ContextHeader.tid / 4) !== 0;
  }

  /** A counter by its index in 8-byte words; 0 outside. */
  counter(at: number): number {
    return at < this.#counters.length ? Number(Atomics.load(this.#counters, at)) : 0;
  }

  /** Finds out who owns the context, and how the task is called now. */
  refresh(
    nowMilliseconds: number,
    { taskName, translate }: Pick<SegmentReaderOptions, 'taskName' | 'translate'>,
  ): void {
    if (this.#releasing) return;
    // In this order: a task may claim the context between the two, and writes its id first.
    const ready = Atomics.load(this.#tid, ContextHeader.ready / 4) === 1;
    const tid = Atomics.load(this.#tid, ContextHeader.tid / 4);
    if (tid !== this.#owner.tid || ready !== this.#ready) {
      this.#ready = ready;
      const pid = ready ? Atomics.load(this.#tid, ContextHeader.pid / 4) : 0;
      this.#owner = { pid, tid };
      const ids = (ready ? translate?.(pid, tid) : undefined) ?? this.#owner;
      this.#identity = { ...ids, comm: ready ? this.#claimedComm() : '' };
      this.#nameRead = nowMilliseconds;
    } else if (ready && taskName && nowMilliseconds - this.#nameRead >= NAME_MILLISECONDS) {
      this.#nameRead = nowMilliseconds;
      const comm = taskName(this.#identity.pid, this.#identity.tid);
      if (comm !== undefined && comm !== this.#identity.comm) {
        this.#identity = { ...this.#identity, comm };
      }
    }
  }

  /**
   * First half of giving a dead task's context back. The order decides the race with a new task that
   * got the dead one's id and might take the context for its own: (1) the id is replaced by one that no
   * task has, by compare-and-exchange; from here on nobody finds the context by its id. (2) Only then
   * `isAlive` is asked. If a task with that id lives, it may have found the context before (1): the id
   * is put back. Otherwise no one uses the context, and no one can begin to.
   * (3) {@link finishRelease} clears it when nothing of it is to be read any more.
   * @returns whether the context is on its way to be free.
   */
  beginRelease(isAlive: (pid: number, tid: number) => boolean): boolean {
    const { pid, tid } = this.#owner;
    if (this.#releasing || tid === 0 || tid === RELEASING) return this.#releasing;
    const at = ContextHeader.tid / 4;
    if (Atomics.compareExchange(this.#tid, at, tid, RELEASING) !== tid) return false;
    if (isAlive(pid, tid)) {
      Atomics.store(this.#tid, at, tid);
      return false;
    }
    this.#releasing = true;
    this.dead = true;
    return true;
  }

  /**
   * Whether its records have an owner that is known: one that is being claimed this moment is read the
   * next time, so that no event comes out without its task.
   */
  get isReadable(): boolean {
    return this.#ready || this.#releasing;
  }

  /**
   * Second half: clears the header and the ring of a context that is being released, and frees its id last of
   * all; from there on another task may claim it. The counters stay: the next task goes on with them.
   */
  finishRelease(): void {
    if (!this.#releasing) return;
    this.#comm.fill(0);
    Atomics.store(this.#tid, ContextHeader.ready / 4, 0);
    Atomics.store(this.#tid, ContextHeader.pid / 4, 0);
    this.ring.reset();
    this.#releasing = this.dead = this.#ready = false;
    this.#identity = NOBODY;
    this.#owner = { pid: 0, tid: 0 };
    Atomics.store(this.#tid, ContextHeader.tid / 4, 0);
  }

  #claimedComm(): string {
    const bytes = Uint8Array.from(this.#comm); // a copy: the target may write meanwhile
    const end = bytes.indexOf(0);
    return decoder.decode(bytes.subarray(0, end < 0 ? COMM_BYTES - 1 : end));
  }
}
