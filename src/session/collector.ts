/** The main thread's reader: records in, events in order out, counts. Asks nobody; never blocks. */

import type { ConsumerAccount } from '../events/account.ts';
import type { EventBatch } from '../events/batch.ts';
import { EventMerger } from '../events/merge.ts';
import type { SegmentLoss } from '../events/segment.ts';
import type { EngineName } from '../probe/engine.ts';
import { monotonicNanoseconds } from '../sys/clock.ts';
import type { EventOrigin } from './event-origin.ts';
import { KernelOrigin } from './kernel-origin.ts';
import type { AddReply, ConsumerHandle, SourceHandle } from './protocol.ts';
import { SegmentOrigin } from './segment-origin.ts';
import { SessionClock } from './session-clock.ts';

/** While contexts are scarce, those of dead tasks are looked for this often, in milliseconds. */
const SEARCH_INTERVAL = 2;
/** One part in so many of our time is spent on that at most. */
const SEARCH_SHARE = 10;

/** One consumer's counts. */
export interface CollectedAccount {
  readonly consumer: ConsumerHandle;
  readonly account: ConsumerAccount;
}

/** Reads all sources of a session. */
export class Collector {
  readonly #clock: SessionClock;
  readonly #merger: EventMerger;
  readonly #origins = new Map<number, EventOrigin>();
  readonly #consumers: ConsumerHandle[] = [];
  #nextSearch = 0;

  constructor(engine: EngineName) {
    this.#clock = new SessionClock(engine);
    const { clock, marginNanoseconds } = this.#clock;
    this.#merger = new EventMerger({ clock, marginNanoseconds, now: monotonicNanoseconds });
  }

  /** Takes new sources and consumers in. No poll may come between the patch and this. */
  add(reply: AddReply): void {
    for (const handle of reply.sources) this.#addSource(handle);
    for (const consumer of reply.consumers) {
      this.#consumers.push(consumer);
      this.#origins.get(consumer.source)?.define(consumer);
    }
  }

  /** Events that are final by now. The batch is reused: it is valid until the next poll. */
  poll(): EventBatch {
    this.#clock.calibrate();
    if (performance.now() > this.#nextSearch && this.isScarce) {
      const began = performance.now();
      this.releaseDeadTasks();
      const ended = performance.now();
      this.#nextSearch = ended + Math.max(SEARCH_INTERVAL, (ended - began) * SEARCH_SHARE);
    }
    return this.#merger.poll();
  }

  /** A probe is about to be taken out. */
  closing(probe: number): void {
    for (const [source, origin] of this.#origins) {
      const its = this.#consumers.filter((one) => one.source === source && one.probe === probe);
      origin.closing(its.map(({ consumer }) => consumer));
    }
  }

  /** The session is about to leave its targets. */
  beginEnd(): void {
    for (const origin of this.#origins.values()) origin.beginEnd();
  }

  /** All that is left, when nothing more is written. Nothing is read behind it. */
  flush(): EventBatch {
    for (const origin of this.#origins.values()) origin.markAllDead();
    const rest = this.#merger.flush();
    for (const origin of this.#origins.values()) origin.finish();
    return rest;
  }

  /** A process has ended: what its tasks have not committed now never will be. Its children go on. */
  markDead(pid: number): void {
    for (const origin of this.#origins.values()) origin.markDead(pid);
  }

  /** Frees the contexts of tasks that ended, so that new ones find room. */
  releaseDeadTasks(): void {
    for (const origin of this.#origins.values()) origin.releaseDeadTasks();
  }

  /**
   * The counts of every consumer, as they are now.
   * @param isFinal nobody writes any more, and all was read
   */
  accounts(isFinal: boolean): CollectedAccount[] {
    const accounts: CollectedAccount[] = [];
    for (const [source, origin] of this.#origins) {
      const consumers = this.#consumers.filter((consumer) => consumer.source === source);
      origin.accounts(consumers, isFinal).forEach((account, index) => {
        const consumer = consumers[index];
        if (consumer !== undefined) accounts.push({ consumer, account });
      });
    }
    return accounts;
  }

  /** What rings lost, all targets together. */
  loss(): SegmentLoss {
    const sum = { abandoned: 0, corrupt: 0, overrun: 0 };
    for (const origin of this.#origins.values()) {
      const { abandoned, corrupt, overrun } = origin.loss();
      sum.abandoned += abandoned;
      sum.corrupt += corrupt;
      sum.overrun += overrun;
    }
    return sum;
  }

  /** Whether a target has claimed half of its contexts: dead tasks' are looked for at every poll then. */
  get isScarce(): boolean {
    for (const origin of this.#origins.values()) if (origin.isScarce) return true;
    return false;
  }

  #addSource(handle: SourceHandle): void {
    if (handle.kind === 'segment') {
      const origin = new SegmentOrigin(handle);
      this.#origins.set(handle.source, origin);
      this.#merger.add(origin.reader);
    } else {
      const origin = new KernelOrigin(handle.ring);
      this.#origins.set(handle.source, origin);
      this.#merger.addSource(origin.reader);
    }
  }
}
