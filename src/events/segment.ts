/**
 * Reading a whole session segment: its contexts as tasks claim them, their rings, their counters.
 * The shape is ours, never read back from the segment; everything else in it is the target's word.
 */

import { PAGE_BYTES } from '../base/page.ts';
import { ContextReader } from './context.ts';
import type { DescriptorTable } from './descriptor.ts';
import {
  CONSUMER_COUNTER_BYTES,
  SEGMENT_MAGIC,
  SEGMENT_VERSION,
  SHARED_COUNTER_BYTES,
  SegmentHeader,
  SharedCounter,
  TID_UNKNOWN,
  layoutSegment,
  type SegmentLayout,
  type SegmentShape,
} from './layout.ts';
import { RecordIndex } from './record-index.ts';

/** How many numbers one consumer has in a context. */
const COUNTERS = CONSUMER_COUNTER_BYTES / 8;

/** Hits that were explained, though no context was left for their tasks. */
export interface ContextlessCounts {
  readonly filtered: number;
  readonly aggregated: number;
}

/** What is known of one consumer in one segment, summed over all tasks that ever hit. */
export interface ConsumerCounts {
  /** Every hit: aggregated, without a context and after the session's end included. */
  readonly hits: number;
  readonly filtered: number;
  readonly ringFull: number;
  readonly aggregated: number;
  /** What of those were hits of tasks without a context. */
  readonly contextless: ContextlessCounts;
  readonly noContext: number;
  readonly tracerGone: number;
  /** Records that the reader took out of the rings; counted by the reader itself. */
  readonly recorded: number;
}

/** What the reader passed over in one segment. */
export interface SegmentLoss {
  readonly abandoned: number;
  readonly corrupt: number;
  readonly overrun: number;
}

/** Asked for the present name of a task; undefined where it is not known any more. */
export type TaskNameLookup = (pid: number, tid: number) => string | undefined;

/**
 * Asked once for each task that claims a context: the ids by which we know a task that calls itself by
 * these. Undefined when they are the same, or it is gone.
 */
export type TaskTranslation = (
  pid: number,
  tid: number,
) => { readonly pid: number; readonly tid: number } | undefined;

/** How a segment is read. */
export interface SegmentReaderOptions {
  /**
   * Gives a part of the mapping, from an offset on, never past what the shape asks. Asked once for what all contexts share,
   * and once for each context that is claimed: a view of all of a large segment would make V8 collect garbage. The caller
   * keeps it mapped.
   */
  readonly part: SegmentPart;
  readonly shape: SegmentShape;
  readonly table: DescriptorTable;
  /** How long an uncommitted record may hold back the records of others; 100 if absent. */
  readonly holdMilliseconds?: number;
  /** How long those of its own task wait for it; 1000 if absent. */
  readonly abandonMilliseconds?: number;
  /** Refreshes the tasks' names, at most every 100 ms a task. */
  readonly taskName?: TaskNameLookup;
  /** Needed where the target is in another pid namespace. */
  readonly translate?: TaskTranslation;
}

/** A view of `length` bytes of a segment from `offset` on; both are multiples of 8. */
export type SegmentPart = (offset: number, length: number) => DataView;

/** Takes the committed records of one ring; the bytes may be read until it returns. */
export type RecordSink = (context: ContextReader, index: RecordIndex) => void;

/**
 * Writes the header of a new segment. Before any task can see it. Contexts stay as they are, all zeros: the
 * target stands still meanwhile, and each would cost a page.
 * @param buffer the segment, or its first page
 */
export function formatSegment(buffer: ArrayBufferLike, shape: SegmentShape): SegmentLayout {
  const layout = layoutSegment(shape);
  const view = new DataView(buffer, 0, PAGE_BYTES);
  view.setUint32(SegmentHeader.version, SEGMENT_VERSION, true);
  view.setUint32(SegmentHeader.headerBytes, PAGE_BYTES, true);
  view.setUint32(SegmentHeader.contextCount, shape.contextCount, true);
  view.setUint32(SegmentHeader.consumerCapacity, shape.consumerCapacity, true);
  view.setUint32(SegmentHeader.ringBytes, shape.ringBytes, true);
  view.setUint32(SegmentHeader.tidOffset, TID_UNKNOWN, true);
  view.setBigUint64(SegmentHeader.contextStride, BigInt(layout.contextStride), true);
  view.setBigUint64(SegmentHeader.contextsOffset, BigInt(layout.contextsOffset), true);
  view.setBigUint64(SegmentHeader.magic, SEGMENT_MAGIC, true);
  return layout;
}

/** Reads one segment. Not for use by two readers at once: it moves the rings' tails. */
export class SegmentReader {
  readonly layout: SegmentLayout;
  readonly table: DescriptorTable;
  readonly #options: SegmentReaderOptions;
  readonly #header: BigUint64Array;
  readonly #shared: BigUint64Array;
  readonly #contexts: ContextReader[] = [];
  readonly #index = new RecordIndex();
  /** By event id, as many as were described. */
  #recorded = new Float64Array(0);
  #allDead = false;

  constructor(options: SegmentReaderOptions) {
    const { part, shape, table } = options;
    this.layout = layoutSegment(shape);
    this.table = table;
    this.#options = options;
    const { buffer, byteOffset } = part(0, this.layout.contextsOffset);
    this.#header = new BigUint64Array(buffer, byteOffset, PAGE_BYTES / 8);
    const sharedWords = (shape.consumerCapacity * SHARED_COUNTER_BYTES) / 8;
    this.#shared = new BigUint64Array(buffer, byteOffset + PAGE_BYTES, sharedWords);
  }

  /** The contexts that were claimed so far, by index. */
  get contexts(): readonly ContextReader[] {
    return this.#contexts;
  }

  /**
   * Reads every ring once: each one's committed records go to `sink`, then back to the task. Which
   * rings there are is read at the start, so a time read before this call bounds all that is missing.
   */
  drain(sink: RecordSink, nowMilliseconds: number): void {
    this.discover();
    if (this.table.end > this.#recorded.length) this.#growRecorded();
    const { holdMilliseconds = 100, abandonMilliseconds = 1000 } = this.#options;
    for (const context of this.#contexts) {
      context.refresh(nowMilliseconds, this.#options);
      if (!context.isReadable) continue;
      const dead = this.#allDead || context.dead;
      context.ring.scan(this.#index, {
        nowMilliseconds,
        holdMilliseconds,
        abandonMilliseconds,
        dead,
      });
      this.#countRecorded();
      sink(context, this.#index);
      context.ring.release();
      context.finishRelease();
    }
  }

  /** A process is gone: what its tasks have not committed now never will be. */
  markDead(pid: number): void {
    this.discover();
    for (const context of this.#contexts) if (context.identity.pid === pid) context.dead = true;
  }

  /** Nobody writes any more: what is not committed now never will be. */
  markAllDead(): void {
    this.#allDead = true;
  }

  /** Finds out who owns which context, for {@link release}, where perhaps nobody drains. */
  identify(nowMilliseconds: number): void {
    this.discover();
    const { translate } = this.#options;
    for (const context of this.#contexts) {
      context.refresh(nowMilliseconds, { ...(translate && { translate }) });
    }
  }

  /**
   * Frees the context of a dead task for reuse: at once where its ring holds nothing, since nobody drains where
   * hits are only counted; else once its last records were drained. See {@link ContextReader.beginRelease} for the
   * race that `isAlive` decides.
   * @param isAlive asked by the ids that the task itself sees
   * @returns false when the task lives, or the context is free already.
   */
  release(contextIndex: number, isAlive: (pid: number, tid: number) => boolean): boolean {
    const context = this.#contexts[contextIndex];
    if (context === undefined || !context.beginRelease(isAlive)) return false;
    if (context.ring.isEmpty) context.finishRelease();
    return true;
  }

  /** The sums of one consumer. Reads the segment: for summaries, not for the record loop. */
  counts(eventId: number): ConsumerCounts {
    const sums = [0, 0, 0, 0];
    if (eventId >= 0 && eventId < this.layout.consumerCapacity) {
      for (let counter = 0; counter < COUNTERS; counter++) {
        const at = eventId * COUNTERS + counter;
        for (const context of this.#contexts) sums[counter]! += context.counter(at); // just set
      }
    }
    const [hits = 0, filtered = 0, ringFull = 0, aggregated = 0] = sums;
    const shared = (offset: number): number => this.#sharedCounter(eventId, offset);
    const noContext = shared(SharedCounter.noContext);
    const tracerGone = shared(SharedCounter.tracerGone);
    const contextless = {
      filtered: shared(SharedCounter.filtered),
      aggregated: shared(SharedCounter.aggregated),
    };
    const explained = {
      filtered: filtered + contextless.filtered,
      aggregated: aggregated + contextless.aggregated,
    };
    return {
      hits: hits + explained.aggregated + explained.filtered + noContext + tracerGone,
      ...explained,
      ringFull,
      contextless,
      noContext,
      tracerGone,
      recorded: this.#recorded[eventId] ?? 0,
    };
  }

  /** What was passed over, summed over all rings. */
  loss(): SegmentLoss {
    const sum = { abandoned: 0, corrupt: 0, overrun: 0 };
    for (const { ring } of this.#contexts) {
      sum.abandoned += ring.loss.abandoned;
      sum.corrupt += ring.loss.corrupt;
      sum.overrun += ring.loss.overrun;
    }
    return sum;
  }

  #sharedCounter(eventId: number, offset: number): number {
    const at = (eventId * SHARED_COUNTER_BYTES + offset) / 8;
    return at >= 0 && at < this.#shared.length ? Number(Atomics.load(this.#shared, at)) : 0;
  }

  /**
   * Takes note of the contexts that were claimed since the last look. They are found in the order of their indices;
   * a target can't make us look past the last.
   */
  discover(): void {
    const claimed = Number(Atomics.load(this.#header, SegmentHeader.claimed / 8));
    const count = Math.min(claimed, this.layout.contextCount);
    for (let index = this.#contexts.length; index < count; index++) {
      const { contextsOffset, contextStride } = this.layout;
      const part = this.#options.part(contextsOffset + index * contextStride, contextStride);
      this.#contexts.push(new ContextReader(part, this.layout, index, this.table));
    }
  }

  #countRecorded(): void {
    const recorded = this.#recorded;
    const { count, event } = this.#index;
    for (let entry = 0; entry < count; entry++) {
      const id = event[entry]! & 0xffff; // entry < count
      recorded[id]!++; // described, or it were not in the index
    }
  }

  #growRecorded(): void {
    const recorded = new Float64Array(this.table.end);
    recorded.set(this.#recorded);
    this.#recorded = recorded;
  }
}
