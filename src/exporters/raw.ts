/**
 * Raw records: the rings' bytes, copied whole. For twenty million events a second; read back by
 * `readRaw` (raw-reader.ts).
 *
 * A file is a sequence of blocks, little-endian, after the 8 bytes "TRAPRAW1":
 *
 *     u32 kind, u32 length of what follows
 *     kind 1, note:  JSON in UTF-8, one of
 *       {"clock": {"ticks": "…", "nanoseconds": "…", "ticksPerSecond": …}}   the first, then more points
 *       {"event": {"segment": 0, "id": 0, "name": "…", "address": "…", "layout": {…}}}
 *       {"source": {"id": 0, "segment": 0, "pid": 1, "tid": 1, "comm": "…"}}
 *     kind 2, chunk: u32 source, u32 0, u64 position of the first record, then committed records
 *
 * A note comes before whatever needs it. Records are as src/events/layout.ts describes them; they hold
 * the stamps of their positions. A chunk has no gaps. The bytes are the target's: whoever reads a file
 * checks all of it. A file that ends within a block was cut off there and is good up to it.
 */

import type { Clock, ClockPoint } from '../events/clock.ts';
import type { ContextReader, TaskIdentity } from '../events/context.ts';
import type { RecordIndex } from '../events/record-index.ts';
import type { SegmentReader } from '../events/segment.ts';

/** What a file begins with. */
export const RAW_MAGIC = 'TRAPRAW1';
/** Kinds of blocks. */
export const RawBlock = { note: 1, chunk: 2 } as const;
/** Of a block's header. */
export const RAW_BLOCK_BYTES = 8;
/** Of what comes before the records in a chunk. */
export const RAW_CHUNK_BYTES = 16;

/** Writes bytes, all of them, before it returns. They may change afterwards. */
export type RawWrite = (bytes: Uint8Array) => void;

/** Copies segments' rings into a file. */
export class RawExporter {
  readonly #write: RawWrite;
  readonly #clock: Clock;
  readonly #segments = new Map<SegmentReader, Set<number>>();
  readonly #sources = new WeakMap<TaskIdentity, number>();
  readonly #header = new DataView(new ArrayBuffer(RAW_BLOCK_BYTES + RAW_CHUNK_BYTES));
  #nextSource = 0;
  #lastPoint: ClockPoint | undefined;

  /** Begins a file. */
  constructor(write: RawWrite, clock: Clock) {
    this.#write = write;
    this.#clock = clock;
    write(Buffer.from(RAW_MAGIC, 'latin1'));
    this.#noteClock();
  }

  /**
   * Moves what is committed in all rings of a segment into the file.
   * @param nowMilliseconds see {@link SegmentReader.drain}
   * @returns how many records
   */
  drain(segment: SegmentReader, nowMilliseconds: number): number {
    this.#noteClock();
    const number = this.#noteEvents(segment);
    let records = 0;
    segment.drain((context, index) => {
      if (index.count > 0) this.#chunks(number, context, index);
      records += index.count;
    }, nowMilliseconds);
    return records;
  }

  #chunks(segment: number, context: ContextReader, index: RecordIndex): void {
    const source = this.#sourceOf(segment, context.identity);
    const header = this.#header;
    for (let chunk = 0; chunk < index.chunkCount; chunk++) {
      const start = index.chunkStart[chunk] ?? 0;
      const end = index.chunkEnd[chunk] ?? start;
      header.setUint32(0, RawBlock.chunk, true);
      header.setUint32(4, RAW_CHUNK_BYTES + end - start, true);
      header.setUint32(8, source, true);
      header.setUint32(12, 0, true);
      header.setBigUint64(16, BigInt(index.chunkPosition[chunk] ?? 0), true);
      this.#write(new Uint8Array(header.buffer));
      this.#write(context.ring.bytes.subarray(start, end));
    }
  }

  #noteClock(): void {
    const { points, ticksPerSecond } = this.#clock;
    const from = this.#lastPoint === undefined ? 0 : points.lastIndexOf(this.#lastPoint) + 1;
    for (const point of points.slice(from)) {
      const { ticks, nanoseconds } = point;
      this.#note({ clock: { ticks: `${ticks}`, nanoseconds: `${nanoseconds}`, ticksPerSecond } });
      this.#lastPoint = point;
    }
  }

  #noteEvents(segment: SegmentReader): number {
    let known = this.#segments.get(segment);
    if (known === undefined) {
      known = new Set();
      this.#segments.set(segment, known);
    }
    const number = [...this.#segments.keys()].indexOf(segment);
    for (const [id, { name, address, layout }] of segment.table.entries()) {
      if (known.has(id)) continue;
      known.add(id);
      this.#note({ event: { segment: number, id, name, address: `${address}`, layout } });
    }
    return number;
  }

  #sourceOf(segment: number, task: TaskIdentity): number {
    let id = this.#sources.get(task);
    if (id === undefined) {
      id = this.#nextSource++;
      this.#sources.set(task, id);
      const { pid, tid, comm } = task;
      this.#note({ source: { id, segment, pid, tid, comm } });
    }
    return id;
  }

  #note(note: object): void {
    const text = Buffer.from(JSON.stringify(note), 'utf8');
    const block = Buffer.alloc(RAW_BLOCK_BYTES + text.length);
    block.writeUInt32LE(RawBlock.note, 0);
    block.writeUInt32LE(text.length, 4);
    text.copy(block, RAW_BLOCK_BYTES);
    this.#write(block);
  }
}
