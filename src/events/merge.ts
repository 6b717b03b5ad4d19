/** One stream of events, in order of time, out of the rings of any number of segments. */

import { EventBatch } from './batch.ts';
import type { Clock } from './clock.ts';
import type { ContextReader } from './context.ts';
import type { SegmentReader } from './segment.ts';

/** How events are merged. */
export interface MergerOptions {
  readonly clock: Clock;
  /** CLOCK_MONOTONIC now, in nanoseconds. */
  readonly now: () => bigint;
  /** How long an uncommitted record may hold back events of other tasks. */
  readonly holdMilliseconds?: number;
  /** How far the calibration may be off, in nanoseconds. */
  readonly marginNanoseconds?: number;
}

/** The instant of a poll. */
export interface PollInstant {
  /** What is older has been reserved before any ring is looked at: a tick key. */
  readonly key: number;
  /** The same of the last poll. */
  readonly previous: number;
  /** CLOCK_MONOTONIC in milliseconds. */
  readonly milliseconds: number;
}

/** What records are merged from: a segment, or the kernel's rings. */
export interface RecordSource {
  /**
   * Reads all that is there once, and appends it to a batch.
   * @param number its own number in the merger, for the origins of its records
   * @returns a tick key: no record that is still to come from it is older.
   */
  drainInto(batch: EventBatch, number: number, poll: PollInstant): number;
}

/** Up to where a ring is known to be complete. */
interface RingBound {
  /** The head that the last poll saw. */
  head: number;
  /** No record that is still to come from this ring is older: a tick key. */
  time: number;
}

/** Beyond so many bytes held back, order gives way to memory. */
const MAX_HELD_BYTES = 256 * 1024 * 1024;

/**
 * Polls segments. What a poll delivers is final: every record older than the *watermark* was reserved
 * before the heads were read, so no older event comes later, but for a task that was held up for longer
 * than the hold time between reserving and committing; its event is flagged `late`.
 */
export class EventMerger {
  readonly #options: MergerOptions;
  readonly #sources = new Map<RecordSource, number>();
  readonly #segments = new Map<SegmentReader, RecordSource>();
  #batch: EventBatch;
  #spare: EventBatch;
  #nextSource = 0;
  #previousPoll: number = Number.NEGATIVE_INFINITY;
  #delivered: number = Number.NEGATIVE_INFINITY;

  constructor(options: MergerOptions) {
    this.#options = options;
    this.#batch = new EventBatch(options.clock);
    this.#spare = new EventBatch(options.clock);
  }

  /** Includes a segment in the next polls. @returns its number, as `EventSource.segment` shows it. */
  add(segment: SegmentReader): number {
    const source = this.#segments.get(segment) ?? new SegmentSource(segment);
    this.#segments.set(segment, source);
    return this.addSource(source);
  }

  /** Includes any source in the next polls. @returns its number, as `EventSource.segment` shows it. */
  addSource(source: RecordSource): number {
    const known = this.#sources.get(source);
    if (known !== undefined) return known;
    this.#sources.set(source, this.#nextSource);
    return this.#nextSource++;
  }

  /** Leaves a segment out from now on; what was read from it is still delivered. */
  remove(segment: SegmentReader): void {
    const source = this.#segments.get(segment);
    if (source !== undefined) this.#sources.delete(source);
    this.#segments.delete(segment);
  }

  /** Reads all rings once. @returns the events that are final; valid until the next poll. */
  poll(): EventBatch {
    return this.#poll(false);
  }

  /** Reads all rings once and delivers everything, final or not: for the end of a session. */
  flush(): EventBatch {
    return this.#poll(true);
  }

  #poll(everything: boolean): EventBatch {
    const { clock, now, marginNanoseconds = 20_000, holdMilliseconds = 100 } = this.#options;
    const batch = this.#spare;
    this.#spare = this.#batch;
    this.#batch = batch;
    batch.clear();
    batch.carry(this.#spare);

    // The time comes before the heads: what is older than it has been reserved when a head is read.
    const started = now();
    const pollKey = clock.keyAt(started - BigInt(marginNanoseconds));
    const oldest = clock.keyAt(started - BigInt(Math.round(holdMilliseconds * 1e6)));
    const poll = {
      key: pollKey,
      previous: this.#previousPoll,
      milliseconds: Number(started) / 1e6,
    };
    let watermark = pollKey;
    for (const [source, number] of this.#sources) {
      watermark = Math.min(watermark, source.drainInto(batch, number, poll));
    }
    this.#previousPoll = pollKey;

    const limit = clock.keyAt(now() + BigInt(marginNanoseconds));
    batch.sort(limit);
    const all = everything || batch.length > MAX_HELD_BYTES;
    batch.deliverBefore(all ? Number.POSITIVE_INFINITY : Math.max(watermark, oldest));
    this.#noteDelivered(batch);
    return batch;
  }

  #noteDelivered(batch: EventBatch): void {
    batch.lateBefore = this.#delivered;
    if (batch.count === 0) return;
    const last = batch.order.indices[batch.count - 1] ?? 0;
    this.#delivered = Math.max(this.#delivered, batch.key[last] ?? this.#delivered);
  }
}

/** A segment's rings, each with the bound up to which it is complete. */
class SegmentSource implements RecordSource {
  readonly #segment: SegmentReader;
  readonly #bounds = new WeakMap<ContextReader, RingBound>();

  constructor(segment: SegmentReader) {
    this.#segment = segment;
  }

  drainInto(batch: EventBatch, number: number, poll: PollInstant): number {
    const segment = this.#segment;
    let watermark = poll.key;
    segment.drain((context, index) => {
      const source = { task: context.identity, table: segment.table, segment: number };
      batch.append(source, context.ring.bytes, index);
      watermark = Math.min(watermark, this.#boundOf(context, poll));
    }, poll.milliseconds);
    return watermark;
  }

  #boundOf(context: ContextReader, poll: PollInstant): number {
    const { ring } = context;
    let bound = this.#bounds.get(context);
    if (bound === undefined) {
      bound = { head: 0, time: poll.previous };
      this.#bounds.set(context, bound);
    }
    if (!ring.blocked) bound.time = poll.key;
    // Reserved after the last poll read the head, so its time is later than that poll's.
    else if (ring.frontier >= bound.head) bound.time = poll.previous;
    bound.head = ring.head;
    return bound.time;
  }
}
