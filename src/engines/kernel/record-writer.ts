/**
 * From the kernel's records to ours (events/layout.ts), so that whoever reads events knows one kind only.
 * Makes no object a record.
 */

import { PAGE_BYTES } from '../../base/page.ts';
import { RECORD_HEADER_BYTES, type RecordField, type RecordLayout } from '../../events/layout.ts';
import type { RecordIndex } from '../../events/record-index.ts';
import type { KernelField, KernelFormat, PointerField } from './format.ts';

/** How one consumer's records are made. */
export interface RecordPlan {
  readonly format: KernelFormat;
  readonly layout: RecordLayout;
}

/** Records of one task in a row, in memory of their own, with their index. */
export class RecordWriter {
  readonly index: RecordIndex;
  bytes: Buffer = Buffer.allocUnsafeSlow(1 << 16);
  #words = new Uint32Array(this.bytes.buffer);
  #length = 0;

  constructor(index: RecordIndex) {
    this.index = index;
  }

  /** Forgets all records. */
  clear(): void {
    this.index.clear();
    this.#length = 0;
  }

  /** Ends the run, so that it can be copied. */
  close(): void {
    this.index.closeChunk(this.#length);
  }

  /**
   * Appends a record.
   * @param page holds the kernel's record
   * @param at where it begins there
   * @param end where it ends there: nothing behind is read
   * @param event the event id in the low half, the processor in the high half
   */
  put(
    plan: RecordPlan,
    page: Buffer,
    at: number,
    end: number,
    event: number,
    timeLow: number,
    timeHigh: number,
  ): void {
    const { layout, format } = plan;
    // A string takes no more room than it has in the page.
    this.#reserve(layout.fixedBytes + (end - at) * countStrings(format) + textBytes(format));
    const start = this.#length;
    const words = this.#words;
    words.fill(0, start >>> 2, (start + layout.fixedBytes) >>> 2);
    let tail = start + layout.fixedBytes;
    if (layout.addressOffset !== undefined) {
      const word = (start + layout.addressOffset) >>> 2;
      words[word] = read32(page, at + format.ip, end);
      words[word + 1] = read32(page, at + format.ip + 4, end);
    }
    const { fields } = format;
    for (let number = 0; number < fields.length; number++) {
      const field = fields[number];
      const ours = layout.fields[number];
      if (field === undefined || ours === undefined) break;
      const slot = (start + ours.offset) >>> 2;
      if (isGuarded(field, page, at, end)) this.#faultAll(layout, ours, start);
      else if (field.text !== undefined) tail = this.#text(field.text, slot, start, tail);
      else if (field.kind === 'integer') this.#integer(field, page, at, end, slot);
      else if (field.kind === 'array') this.#array(field, page, at, end, slot << 2);
      else tail = this.#strings(field, ours, layout, page, at, end, start, tail);
    }
    const size = (tail - start + 7) & ~7;
    this.#note(start, size, event, timeLow, timeHigh);
  }

  #note(start: number, size: number, event: number, timeLow: number, timeHigh: number): void {
    const { index } = this;
    if (index.count === 0) index.openChunk(start, start);
    index.reserve();
    index.offset[index.count] = start;
    index.bytes[index.count] = size;
    index.event[index.count] = event;
    index.clockLow[index.count] = timeLow;
    index.clockHigh[index.count] = timeHigh;
    index.count++;
    this.#length = start + size;
  }

  #integer(field: KernelField, page: Buffer, at: number, end: number, slot: number): void {
    const place = at + field.offset;
    if (place + field.bytes > end) return;
    const words = this.#words;
    switch (field.bytes) {
      case 1:
        words[slot] = page[place] ?? 0;
        return;
      case 2:
        words[slot] = page.readUInt16LE(place);
        return;
      default:
        words[slot] = page.readUInt32LE(place);
        if (field.bytes === 8) words[slot + 1] = page.readUInt32LE(place + 4);
    }
  }

  #text(text: Uint8Array, slot: number, start: number, tail: number): number {
    this.bytes.set(text, tail);
    this.#words[slot] = tail - start;
    this.#words[slot + 1] = text.length;
    return tail + text.length;
  }

  /** An array lies as it did in memory, here as there. */
  #array(
    { offset, bytes }: KernelField,
    page: Buffer,
    at: number,
    end: number,
    into: number,
  ): void {
    const from = at + offset;
    if (from + bytes > end) return;
    for (let place = 0; place < bytes; place++) this.bytes[into + place] = page[from + place] ?? 0;
  }

  /** One string, or an array of them. @returns where what follows may be written */
  #strings(
    field: KernelField,
    ours: RecordField,
    layout: RecordLayout,
    page: Buffer,
    at: number,
    end: number,
    start: number,
    from: number,
  ): number {
    const slot = (start + ours.offset) >>> 2;
    let tail = from;
    for (let element = 0; element * 4 < field.bytes; element++) {
      const word = at + field.offset + element * 4;
      const copied = this.#string(word, page, at, end, tail);
      if (copied < 0) {
        const bit = ours.faultBit === undefined ? undefined : ours.faultBit + element;
        this.#fault(layout, bit, start);
      }
      // A constant text has no bit, and is never a fault.
      this.#words[slot + element * 2] = tail - start;
      this.#words[slot + element * 2 + 1] = Math.max(0, copied);
      tail += Math.max(0, copied);
    }
    return tail;
  }

  /** Copies a string without its NUL. @returns its bytes; -1 where the kernel could not read it. */
  #string(word: number, page: Buffer, at: number, end: number, into: number): number {
    // `__data_loc`: the low half is where, the high half how long, the NUL included.
    const location = read32(page, word, end);
    const from = at + (location & 0xffff);
    const length = location >>> 16;
    if (length === 0 || from + length > end) return -1;
    let copied = 0;
    for (; copied < length; copied++) {
      const byte = page[from + copied] ?? 0;
      if (byte === 0) break;
      this.bytes[into + copied] = byte;
    }
    return copied;
  }

  #faultAll(layout: RecordLayout, { faultBit, type, count = 1 }: RecordField, start: number): void {
    if (faultBit === undefined) return;
    const bits = type === 'string' ? count : 1;
    for (let bit = 0; bit < bits; bit++) this.#fault(layout, faultBit + bit, start);
  }

  #fault({ faultOffset }: RecordLayout, bit: number | undefined, start: number): void {
    if (faultOffset === undefined || bit === undefined) return;
    const word = ((start + faultOffset) >>> 2) + (bit >>> 5);
    this.#words[word] = (this.#words[word] ?? 0) | (1 << (bit & 31));
  }

  #reserve(bytes: number): void {
    const needed = this.#length + bytes + RECORD_HEADER_BYTES;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2) & ~7);
    larger.set(this.bytes.subarray(0, this.#length));
    this.bytes = larger;
    this.#words = new Uint32Array(larger.buffer);
  }
}

/** Whether a pointer on the way to a value could not be read, or is null: nothing lies behind it. */
function isGuarded({ guards }: KernelField, page: Buffer, at: number, end: number): boolean {
  for (let number = 0; number < guards.length; number++) {
    const guard = guards[number];
    if (guard !== undefined && !isWhole(guard, page, at, end)) return true;
  }
  return false;
}

/**
 * Whether a pointer was read. One that lies across the end of a page, with zeros in the next, is not known to
 * have been: no compiler puts a pointer there.
 */
function isWhole(
  { offset, base, added }: PointerField,
  page: Buffer,
  at: number,
  end: number,
): boolean {
  const low = read32(page, at + offset, end);
  const high = read32(page, at + offset + 4, end);
  if (low === 0 && high === 0) return false;
  const place =
    ((base === undefined ? 0 : read32(page, at + base, end)) + added) & (PAGE_BYTES - 1);
  const within = PAGE_BYTES - place;
  if (within >= 8) return true;
  return within >= 4 ? high >>> (8 * (within - 4)) !== 0 : high !== 0 || low >>> (8 * within) !== 0;
}

function countStrings({ fields }: KernelFormat): number {
  let count = 0;
  for (let at = 0; at < fields.length; at++) {
    const field = fields[at];
    if (field?.kind === 'string') count += field.bytes >>> 2;
  }
  return count;
}

function textBytes({ fields }: KernelFormat): number {
  let bytes = 0;
  for (let at = 0; at < fields.length; at++) bytes += fields[at]?.text?.length ?? 0;
  return bytes;
}

/** A u32 at a place that may be misaligned; 0 where the record ends before it. */
export function read32(page: Buffer, place: number, end: number): number {
  return place + 4 <= end ? page.readUInt32LE(place) : 0;
}
