/**
 * The events of one poll: copies of records in one byte buffer, with an index sorted by time. Reused
 * from poll to poll, so that no event costs an allocation.
 */

import type { Clock } from './clock.ts';
import type { TaskIdentity } from './context.ts';
import type { DescriptorTable } from './descriptor.ts';
import { RECORD_HEADER_BYTES } from './layout.ts';
import { grown, type RecordIndex } from './record-index.ts';
import { TimeOrder } from './order.ts';
import { EventView } from './view.ts';

/** Where an event comes from. */
export interface EventSource {
  readonly task: TaskIdentity;
  readonly table: DescriptorTable;
  /** The segment's number in its merger. */
  readonly segment: number;
}

/**
 * Events in order of time. Valid, with the views on it, until the next poll of the merger that made it.
 * The arrays are for exporters that can't afford a view: entry `order.indices[i]` is the i-th event.
 */
export class EventBatch {
  /** Events to deliver. */
  count = 0;
  /** Events before this tick key come after one that was delivered in an earlier batch. */
  lateBefore: number = Number.NEGATIVE_INFINITY;
  readonly clock: Clock;
  readonly order: TimeOrder = new TimeOrder();
  readonly sources: EventSource[] = [];
  /** Records held: those to deliver and those that wait for the next poll. */
  total = 0;
  bytes: Buffer = Buffer.allocUnsafeSlow(1 << 16);
  /** The same bytes in words. */
  words: Uint32Array = new Uint32Array(this.bytes.buffer);
  /** Bytes in use. */
  length = 0;
  offset: Uint32Array = new Uint32Array(1024);
  size: Uint32Array = new Uint32Array(1024);
  event: Uint32Array = new Uint32Array(1024);
  source: Uint32Array = new Uint32Array(1024);
  key: Float64Array = new Float64Array(1024);
  readonly #view: EventView;

  constructor(clock: Clock) {
    this.clock = clock;
    this.#view = new EventView(this);
  }

  /** The events, oldest first, through one view that moves: take `toEvent()` of what is to stay. */
  *[Symbol.iterator](): Generator<EventView, void> {
    for (let at = 0; at < this.count; at++) yield this.#view.moveTo(at);
  }

  /** Calls `visit` with each event: faster than iteration. The view moves on when it returns. */
  forEach(visit: (event: EventView) => void): void {
    for (let at = 0; at < this.count; at++) visit(this.#view.moveTo(at));
  }

  /** Forgets everything. */
  clear(): void {
    this.count = this.total = this.length = this.sources.length = 0;
  }

  /**
   * Copies records; what they were copied from may change afterwards.
   * @param from what the offsets of `index` count in: a ring's bytes, under a lease
   */
  append(origin: EventSource, from: Uint8Array, index: RecordIndex): void {
    if (index.count === 0) return;
    const source = this.sources.push(origin) - 1;
    this.#reserveRecords(index.count);
    for (let chunk = 0; chunk < index.chunkCount; chunk++) {
      const start = index.chunkStart[chunk] ?? 0;
      const end = index.chunkEnd[chunk] ?? start;
      this.#reserveBytes(end - start);
      this.bytes.set(from.subarray(start, end), this.length);
      const last = chunk + 1 < index.chunkCount ? index.chunkFirst[chunk + 1] : index.count;
      this.#index(index, index.chunkFirst[chunk] ?? 0, last ?? 0, this.length - start, source);
      this.length += end - start;
    }
  }

  /** Takes over the records of `other` that it has not delivered, in their order. */
  carry(other: EventBatch): void {
    this.#reserveRecords(other.total - other.count);
    const moved = new Map<number, number>();
    for (let at = other.count; at < other.total; at++) {
      const from = other.order.indices[at]!; // at < total
      const size = other.size[from]!; // an index from the order is below total
      this.#reserveBytes(size);
      const offset = other.offset[from]!; // likewise
      const words = this.words;
      const start = this.length >>> 2;
      for (let word = 0; word < size >>> 2; word++) {
        words[start + word] = other.words[(offset >>> 2) + word]!; // inside the record
      }
      const entry = this.total++;
      const oldSource = other.source[from]!; // an index from the order is below total
      let source = moved.get(oldSource);
      if (source === undefined) {
        source = this.sources.push(other.sources[oldSource]!) - 1; // its own source
        moved.set(oldSource, source);
      }
      this.offset[entry] = this.length;
      this.size[entry] = size;
      this.event[entry] = other.event[from]!; // likewise
      this.key[entry] = other.key[from]!; // likewise
      this.source[entry] = source;
      this.length += size;
    }
  }

  /** No time is later than `limit`: what claims to be is set to it. Then all are put in order. */
  sort(limit: number): void {
    const { key, total } = this;
    for (let at = 0; at < total; at++) {
      if (key[at]! > limit) key[at] = limit; // at < total
    }
    this.order.sort(key, total);
  }

  /** Delivers the events before a tick key; the rest waits. Needs {@link sort}. */
  deliverBefore(watermark: number): void {
    let low = 0;
    let high = this.total;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = this.order.indices[middle]!; // middle < total
      if (this.key[at]! < watermark) low = middle + 1;
      else high = middle;
    }
    this.count = low;
  }

  #index(index: RecordIndex, first: number, last: number, shift: number, source: number): void {
    const { clock, offset, size, event, key } = this;
    let entry = this.total;
    for (let at = first; at < last; at++, entry++) {
      offset[entry] = index.offset[at]! + shift; // at < index.count
      size[entry] = index.bytes[at]!; // likewise
      event[entry] = index.event[at]!; // likewise
      key[entry] = clock.key(index.clockLow[at]!, index.clockHigh[at]!); // likewise
      this.source[entry] = source;
    }
    this.total = entry;
  }

  #reserveRecords(count: number): void {
    const needed = this.total + count;
    if (needed <= this.offset.length) return;
    const capacity = Math.max(needed, this.offset.length * 2);
    this.offset = grown(this.offset, capacity);
    this.size = grown(this.size, capacity);
    this.event = grown(this.event, capacity);
    this.source = grown(this.source, capacity);
    const key = new Float64Array(capacity);
    key.set(this.key);
    this.key = key;
  }

  #reserveBytes(count: number): void {
    // A record's header is read even where a hostile size left less.
    const needed = this.length + count + RECORD_HEADER_BYTES;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
    this.words = new Uint32Array(larger.buffer, 0, larger.length >>> 2);
  }
}
