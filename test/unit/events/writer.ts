/** What a stub does, in TypeScript: the other side of a ring, one step at a time. */

import { PAGE_BYTES } from '../../../src/base/page.ts';
import {
  CONSUMER_COUNTER_BYTES,
  ContextHeader,
  ConsumerCounter,
  RecordHeader,
  SegmentHeader,
  layoutRecord,
  layoutSegment,
  type RecordLayout,
  type SegmentLayout,
} from '../../../src/events/layout.ts';
import { DescriptorTable } from '../../../src/events/descriptor.ts';
import { SegmentReader, formatSegment, type SegmentPart } from '../../../src/events/segment.ts';

/** A segment that lies in one buffer, in parts as its reader asks for them. */
export function partsOf(buffer: ArrayBufferLike): SegmentPart {
  return (offset, length) => new DataView(buffer, offset, length);
}

/** One context's writer, as the one task that owns it. */
export class TaskWriter {
  readonly #view: DataView;
  readonly #words: Int32Array;
  readonly #positions: BigUint64Array;
  readonly #counters: BigUint64Array;
  readonly #layout: SegmentLayout;
  readonly #context: number;
  readonly #buffer: ArrayBufferLike;

  constructor(buffer: ArrayBufferLike, layout: SegmentLayout, context: number) {
    this.#buffer = buffer;
    this.#layout = layout;
    this.#context = layout.contextsOffset + context * layout.contextStride;
    const ring = this.#context + layout.ringOffset;
    this.#view = new DataView(buffer, ring, layout.contextStride - layout.ringOffset);
    this.#words = new Int32Array(buffer, ring, (layout.contextStride - layout.ringOffset) / 4);
    this.#positions = new BigUint64Array(buffer, this.#context, PAGE_BYTES / 8);
    this.#counters = new BigUint64Array(
      buffer,
      this.#context + PAGE_BYTES,
      layout.consumerCapacity * 4,
    );
  }

  claim(tid: number, pid: number, comm: string): void {
    const header = new Uint32Array(this.#buffer, this.#context, 4);
    header[ContextHeader.tid / 4] = tid;
    const { ringBytes } = this.#layout;
    if (this.head === 0) {
      this.#positions[ContextHeader.tail / 8] = BigInt(ringBytes);
      this.#positions[ContextHeader.head / 8] = BigInt(ringBytes);
    }
    header[ContextHeader.pid / 4] = pid;
    const bytes = new Uint8Array(this.#buffer, this.#context + ContextHeader.comm, 16);
    bytes.set(Buffer.from(comm));
    Atomics.store(header, ContextHeader.ready / 4, 1);
    const claimed = new BigUint64Array(this.#buffer, SegmentHeader.claimed, 1);
    Atomics.add(claimed, 0, 1n);
  }

  count(event: number, counter: keyof typeof ConsumerCounter): void {
    const at = (event * CONSUMER_COUNTER_BYTES + ConsumerCounter[counter]) / 8;
    Atomics.add(this.#counters, at, 1n);
  }

  get head(): number {
    return Number(Atomics.load(this.#positions, ContextHeader.head / 8));
  }

  /** The position, or undefined when the ring is full. */
  reserve(bytes: number): number | undefined {
    for (;;) {
      const head = Atomics.load(this.#positions, ContextHeader.head / 8);
      const tail = Atomics.load(this.#positions, ContextHeader.tail / 8);
      const next = head + BigInt(bytes);
      if (next - tail > BigInt(this.#layout.ringBytes)) return undefined;
      const seen = Atomics.compareExchange(this.#positions, ContextHeader.head / 8, head, next);
      if (seen === head) return Number(head);
    }
  }

  /** Writes a word of a reserved record, anything but its first 8 bytes. */
  put(position: number, offset: number, low: number, high = 0): void {
    const at = (position % this.#layout.ringBytes) + offset;
    this.#view.setUint32(at, low >>> 0, true);
    this.#view.setUint32(at + 4, high >>> 0, true);
  }

  putBytes(position: number, offset: number, bytes: Uint8Array): void {
    const at = (position % this.#layout.ringBytes) + offset;
    for (const [place, byte] of bytes.entries()) this.#view.setUint8(at + place, byte);
  }

  clock(position: number, ticks: bigint): void {
    this.put(position, RecordHeader.clock, Number(ticks & 0xffff_ffffn), Number(ticks >> 32n));
  }

  /** The last store: on x86-64 one of 8 bytes; here the stamp goes last, as Node has no such plain one. */
  commit(position: number, event: number, cpu: number): void {
    const at = (position % this.#layout.ringBytes) / 4;
    this.#words[at + 1] = event | (cpu << 16);
    Atomics.store(this.#words, at, (position / 8) | 0);
  }

  /** A whole record with integer fields, from reservation to commit. */
  record(
    layout: RecordLayout,
    event: number,
    cpu: number,
    ticks: bigint,
    values: number[],
  ): boolean {
    const position = this.reserve(layout.fixedBytes);
    if (position === undefined) return false;
    this.clock(position, ticks);
    if (layout.faultOffset !== undefined) this.put(position, layout.faultOffset, 0);
    for (const [at, field] of layout.fields.entries()) {
      this.put(position, field.offset, values[at] ?? 0, Math.floor((values[at] ?? 0) / 2 ** 32));
    }
    this.commit(position, event, cpu);
    return true;
  }
}

/** Two u64 arguments: 32 bytes. */
export const PAIR: RecordLayout = layoutRecord([
  { name: 'a', type: 'u64', canFault: false },
  { name: 'b', type: 'u64', canFault: false },
]);

/** A segment in memory with one event, 0, of layout {@link PAIR}, and others as given. */
export function makeSegment(
  contextCount: number,
  ringBytes: number,
  layouts: readonly RecordLayout[] = [PAIR],
  holdMilliseconds = 100,
): {
  buffer: SharedArrayBuffer;
  layout: SegmentLayout;
  reader: SegmentReader;
  table: DescriptorTable;
} {
  const shape = { contextCount, consumerCapacity: 16, ringBytes };
  const buffer = new SharedArrayBuffer(layoutSegment(shape).totalBytes);
  const layout = formatSegment(buffer, shape);
  const table = new DescriptorTable();
  for (const [id, record] of layouts.entries()) {
    table.set(id, { name: `group:event${id}`, layout: record, address: 0x5500_0000_1000n });
  }
  const reader = new SegmentReader({
    part: partsOf(buffer),
    shape,
    table,
    holdMilliseconds,
    abandonMilliseconds: holdMilliseconds,
  });
  return { buffer, layout, reader, table };
}
