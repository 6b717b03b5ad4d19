/** The main thread's reader: records in, events in order out, counts. Asks nobody; never blocks. */

import { addBilled, type BilledAccount } from '../../events/account.ts';
import type { Announcement } from '../../events/announcements.ts';
import type { EventBatch } from '../../events/batch.ts';
import { EventMerger } from '../../events/merge.ts';
import type { SegmentLoss } from '../../events/segment.ts';
import type { EngineName } from '../../probe/engine.ts';
import { monotonicNanoseconds } from '../../sys/clock.ts';
import type { EventOrigin } from './event-origin.ts';
import { KernelOrigin } from './kernel-origin.ts';
import type { AddReply, ConsumerHandle, SourceHandle } from '../protocol.ts';
import { SegmentOrigin } from './segment-origin.ts';
import { SessionClock } from './session-clock.ts';

/** While contexts are scarce, those of dead tasks are looked for this often, in milliseconds. */
const SEARCH_INTERVAL = 2;
/** One part in so many of our time is spent on that at most. */
const SEARCH_SHARE = 10;

/** One consumer's counts. */
export interface CollectedAccount {
  readonly consumer: ConsumerHandle;
  readonly account: BilledAccount;
}

/** Tasks of one source that wait for an answer. */
export interface AnnouncedTasks {
  readonly source: number;
  /** Answers all of them, for {@link Collector.serve}. */
  readonly last: number;
  /** As they say themselves, by our ids; undefined where not all of them are known. */
  readonly tasks: readonly Announcement[] | undefined;
}

/** Reads all sources of a session. */
export class Collector {
  readonly #clock: SessionClock;
  readonly #merger: EventMerger;
  readonly #origins = new Map<number, EventOrigin>();
  #consumers: ConsumerHandle[] = [];
  #polled = Number.NEGATIVE_INFINITY;
  /** Sources that nobody writes to any more, and that are still to be read once. */
  readonly #abandoned = new Set<number>();
  /** Sources that were read to their end, until {@link takeFinished}. */
  #finished: number[] = [];
  /** What consumers of finished sources came to, by event: nothing grows with the number of processes. */
  readonly #past = new Map<string, CollectedAccount>();
  #pastLoss: SegmentLoss = { abandoned: 0, corrupt: 0, overrun: 0 };
  #nextSearch = 0;

  constructor(engine: EngineName) {
    this.#clock = new SessionClock(engine);
    const { clock, marginNanoseconds } = this.#clock;
    this.#merger = new EventMerger({ clock, marginNanoseconds, now: monotonicNanoseconds });
  }

  /** Takes new sources and consumers in. No poll may come between the patch and this. */
  add(reply: AddReply): void {
    this.#consumers.push(...reply.consumers);
    for (const consumer of reply.consumers) this.#origins.get(consumer.source)?.define(consumer);
    for (const handle of reply.sources) this.#addSource(handle);
  }

  /** A consumer of a probe, if it has one now. */
  consumerOf(probe: number): ConsumerHandle | undefined {
    return this.#consumers.find((consumer) => consumer.probe === probe);
  }

  /** Events that are final by now. The batch is reused: it is valid until the next poll. */
  poll(): EventBatch {
    this.#polled = performance.now();
    this.#clock.calibrate();
    this.search();
    const batch = this.#merger.poll();
    for (const source of this.#abandoned) this.#finish(source);
    return batch;
  }

  /** Whether somebody has polled within so many milliseconds. */
  wasPolled(milliseconds: number): boolean {
    return performance.now() - this.#polled < milliseconds;
  }

  /** The process of a source has ended, or runs another program now. Its children may go on. */
  markEnded(source: number): void {
    this.#origins.get(source)?.markEnded();
  }

  /** Nobody writes to a source any more: the next poll reads the rest. */
  abandon(source: number): void {
    const origin = this.#origins.get(source);
    if (origin === undefined) return;
    origin.markAllDead();
    this.#abandoned.add(source);
    // There is nothing to read where hits are only counted, and perhaps nobody who polls.
    const consumers = this.#consumers.filter((one) => one.source === source);
    if (consumers.every(({ program }) => program.action === 'count')) this.#finish(source);
  }

  /** The sources that were read to their end since the last call: their memory is not looked at any more. */
  takeFinished(): number[] {
    const finished = this.#finished;
    this.#finished = [];
    return finished;
  }

  /** Whether sources are there that nobody writes to any more: to be read to their end, or to be taken. */
  get isRetiring(): boolean {
    return this.#abandoned.size + this.#finished.length > 0;
  }

  /** The tasks that wait for us, by source. */
  announced(): AnnouncedTasks[] {
    return [...this.#origins].flatMap(([source, origin]) => {
      const tasks = origin instanceof SegmentOrigin ? origin.announced() : undefined;
      return tasks === undefined ? [] : [{ source, ...tasks }];
    });
  }

  /** The tasks of a source go on that have announced themselves up to `last`. */
  serve(source: number, last: number): void {
    const origin = this.#origins.get(source);
    if (origin instanceof SegmentOrigin) origin.serve(last);
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

  /** Frees contexts of dead tasks where they are scarce; may be asked as often as one likes. @returns whether they are. */
  search(): boolean {
    if (!this.isScarce) return false;
    const began = performance.now();
    if (began < this.#nextSearch) return true;
    this.releaseDeadTasks();
    const ended = performance.now();
    this.#nextSearch = ended + Math.max(SEARCH_INTERVAL, (ended - began) * SEARCH_SHARE);
    return true;
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
    const accounts: CollectedAccount[] = [...this.#past.values()];
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
    return [...this.#origins.values()]
      .map((origin) => origin.loss())
      .reduce(addLoss, this.#pastLoss);
  }

  /** Whether tasks have more than half of the contexts of a target. */
  get isScarce(): boolean {
    for (const origin of this.#origins.values()) if (origin.isScarce) return true;
    return false;
  }

  #finish(source: number): void {
    const origin = this.#origins.get(source);
    this.#abandoned.delete(source);
    if (origin === undefined) return;
    const consumers = this.#consumers.filter((one) => one.source === source);
    origin.accounts(consumers, true).forEach((account, index) => {
      const consumer = consumers[index];
      if (consumer === undefined) return;
      const known = this.#past.get(consumer.event);
      const sum = known === undefined ? account : addBilled(known.account, account);
      this.#past.set(consumer.event, { consumer: known?.consumer ?? consumer, account: sum });
    });
    this.#pastLoss = addLoss(this.#pastLoss, origin.loss());
    if (origin instanceof SegmentOrigin) this.#merger.remove(origin.reader);
    this.#consumers = this.#consumers.filter((one) => one.source !== source);
    this.#origins.delete(source);
    this.#finished.push(source);
  }

  #addSource(handle: SourceHandle): void {
    const { source } = handle;
    const origin = this.#open(handle);
    this.#origins.set(source, origin);
    // Some may have been told of before: a program that starts up gets probes, and is told of when it is through.
    for (const consumer of this.#consumers) if (consumer.source === source) origin.define(consumer);
  }

  #open(handle: SourceHandle): EventOrigin {
    if (handle.kind === 'segment') {
      const origin = new SegmentOrigin(handle);
      this.#merger.add(origin.reader);
      return origin;
    }
    const origin = new KernelOrigin(handle.ring);
    this.#merger.addSource(origin.reader);
    return origin;
  }
}

function addLoss(one: SegmentLoss, other: SegmentLoss): SegmentLoss {
  return {
    abandoned: one.abandoned + other.abandoned,
    corrupt: one.corrupt + other.corrupt,
    overrun: one.overrun + other.overrun,
  };
}
