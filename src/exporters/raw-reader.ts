/** Reading files of raw records (raw.ts). Nothing in them is believed: the bytes were a target's. */

import { ByteReader } from '../base/bytes.ts';
import { TraplineError, messageOf } from '../base/errors.ts';
import { EventBatch, type EventSource } from '../events/batch.ts';
import { Clock, type ClockPoint } from '../events/clock.ts';
import { DescriptorTable } from '../events/descriptor.ts';
import { RecordHeader, type RecordLayout } from '../events/layout.ts';
import { RecordIndex } from '../events/record-index.ts';
import { stampOf } from '../events/ring.ts';
import { parseNote, type RawNote } from './raw-note.ts';
import { RAW_BLOCK_BYTES, RAW_CHUNK_BYTES, RAW_MAGIC, RawBlock } from './raw.ts';

/** What a file of raw records held. */
export interface RawContents {
  /** All events, in order of time. */
  readonly batch: EventBatch;
  /** The file ends within a block: the session that wrote it was cut off. */
  readonly truncated: boolean;
}

/**
 * Reads a whole file of raw records.
 * @param bytes the file, below 4 GiB
 * @param source its name, for errors
 * @throws TraplineError `bad-input` where it contradicts itself.
 */
export function readRaw(bytes: Uint8Array, source: string): RawContents {
  const reader = new ByteReader(bytes, source);
  const magic = reader.remaining >= RAW_MAGIC.length ? reader.take(RAW_MAGIC.length) : bytes;
  if (Buffer.from(magic).toString('latin1') !== RAW_MAGIC) {
    throw new TraplineError({
      code: 'bad-input',
      message: `${source} is not a file of raw records`,
      hint: 'such files are written by the raw format',
    });
  }
  const contents = new Contents(source);
  let truncated = false;
  while (reader.remaining > 0) {
    truncated = reader.remaining < RAW_BLOCK_BYTES;
    if (truncated) break;
    const kind = reader.u32();
    const length = reader.u32();
    truncated = length > reader.remaining;
    if (truncated) break;
    contents.block(kind, reader.take(length), reader.offset - length);
  }
  return { batch: contents.finish(), truncated };
}

/** What was read so far. */
class Contents {
  readonly #source: string;
  readonly #tables = new Map<number, DescriptorTable>();
  readonly #sources = new Map<number, EventSource>();
  readonly #index = new RecordIndex();
  #batch: EventBatch | undefined;

  constructor(source: string) {
    this.#source = source;
  }

  block(kind: number, payload: Uint8Array, offset: number): void {
    if (kind === RawBlock.note) this.#note(payload, offset);
    else if (kind === RawBlock.chunk) this.#chunk(payload, offset);
    else this.#fail(offset, `a block of unknown kind ${kind}`);
  }

  finish(): EventBatch {
    const batch = this.#batch ?? new EventBatch(new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9));
    batch.sort(Number.POSITIVE_INFINITY);
    batch.deliverBefore(Number.POSITIVE_INFINITY);
    return batch;
  }

  #note(payload: Uint8Array, offset: number): void {
    let note: RawNote;
    try {
      note = parseNote(Buffer.from(payload).toString('utf8'));
      this.#apply(note);
    } catch (error) {
      this.#fail(offset, `a note that is not valid (${messageOf(error)})`, error);
    }
  }

  #apply(note: RawNote): void {
    switch (note.kind) {
      case 'clock':
        this.#addPoint(note.point, note.ticksPerSecond);
        break;
      case 'event':
        this.#table(note.segment).set(note.id, note.descriptor);
        break;
      case 'source': {
        const { segment, task } = note;
        this.#sources.set(note.id, { segment, task, table: this.#table(segment) });
        break;
      }
    }
  }

  #addPoint(point: ClockPoint, ticksPerSecond: number): void {
    if (this.#batch === undefined) this.#batch = new EventBatch(new Clock(point, ticksPerSecond));
    else this.#batch.clock.add(point);
  }

  #table(segment: number): DescriptorTable {
    let table = this.#tables.get(segment);
    if (table === undefined) {
      table = new DescriptorTable();
      this.#tables.set(segment, table);
    }
    return table;
  }

  #chunk(payload: Uint8Array, offset: number): void {
    const reader = new ByteReader(payload, this.#source);
    const source = this.#sources.get(reader.u32());
    reader.skip(4); // reserved, so that the position is aligned
    const position = reader.size();
    if (source === undefined || this.#batch === undefined) {
      this.#fail(offset, 'records whose task or clock is not known');
    }
    const index = this.#index;
    index.clear();
    index.openChunk(RAW_CHUNK_BYTES, position);
    while (reader.remaining > 0) {
      const at = reader.offset;
      const stamp = reader.u32() | 0;
      const event = reader.u32();
      const layout = source.table.get(event & 0xffff)?.layout;
      const expected = stampOf(position + at - RAW_CHUNK_BYTES);
      const bytes = layout === undefined ? 0 : sizeOf(layout, reader, at);
      if (stamp !== expected || bytes === 0) this.#fail(offset + at, 'a damaged record');
      index.reserve();
      const entry = index.count++;
      index.offset[entry] = at;
      index.bytes[entry] = bytes;
      index.event[entry] = event;
      reader.seek(at + RecordHeader.clock);
      index.clockLow[entry] = reader.u32();
      index.clockHigh[entry] = reader.u32();
      reader.seek(at + bytes);
    }
    index.closeChunk(reader.offset);
    this.#batch.append(source, payload, index);
  }

  #fail(offset: number, what: string, cause?: unknown): never {
    throw new TraplineError({
      code: 'bad-input',
      message: `${this.#source}: ${what} at offset ${offset}`,
      ...(cause === undefined ? {} : { cause }),
    });
  }
}

/** The size of the record at `at`, or 0 where it is not possible. */
function sizeOf(layout: RecordLayout, reader: ByteReader, at: number): number {
  let bytes = layout.fixedBytes;
  if (layout.sizeOffset !== undefined) {
    reader.seek(at + layout.sizeOffset);
    bytes = reader.u32();
    if (reader.u32() !== 0 || bytes < layout.fixedBytes || bytes > layout.maxBytes) return 0;
    if (bytes % 8 !== 0) return 0;
  }
  return at + bytes <= reader.bytes.length ? bytes : 0;
}
