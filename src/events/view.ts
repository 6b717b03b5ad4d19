/** Looking at one event of a batch without making an object of it. */

import { unreachable } from '../base/errors.ts';
import type { EventBatch, EventSource } from './batch.ts';
import type { EventDescriptor } from './descriptor.ts';
import { FAULT, type EventValue, type SingleValue, type TraceEvent } from './event.ts';
import { elementBytes, layoutRecord, type FieldType, type RecordField } from './layout.ts';

/** Strings up to this length are looked through for a byte that is not ASCII. */
const SHORT_STRING = 64;

const NO_DESCRIPTOR: EventDescriptor = {
  name: '',
  address: 0n,
  layout: layoutRecord([]),
};
const NO_SOURCE: Pick<EventSource, 'task'> = { task: { pid: 0, tid: 0, comm: '' } };

/**
 * A cursor over a batch: one object, moved from event to event, valid only during the iteration or
 * callback that hands it out. Fields are numbered as in `fields`; a number outside it reads as 0.
 */
export class EventView {
  readonly batch: EventBatch;
  /** What is known of this event's consumer. */
  descriptor: EventDescriptor = NO_DESCRIPTOR;
  /** Whose event it is: the same object for the same task within a batch. */
  task: EventSource['task'] = NO_SOURCE.task;
  /** Of the record, in the batch's bytes. */
  offset = 0;
  /** Of the record. */
  size = 0;
  #fields: readonly RecordField[] = [];
  #key = 0;
  #event = 0;

  constructor(batch: EventBatch) {
    this.batch = batch;
  }

  /** Moves to the `at`-th event of the batch, below `batch.count`. */
  moveTo(at: number): this {
    const { batch } = this;
    const entry = batch.order.indices[at] ?? 0;
    this.offset = batch.offset[entry] ?? 0;
    this.size = batch.size[entry] ?? 0;
    this.#key = batch.key[entry] ?? 0;
    this.#event = batch.event[entry] ?? 0;
    const source = batch.sources[batch.source[entry] ?? 0];
    this.task = source?.task ?? NO_SOURCE.task;
    this.descriptor = source?.table.get(this.#event & 0xffff) ?? NO_DESCRIPTOR;
    this.#fields = this.descriptor.layout.fields;
    return this;
  }

  /** Converts this event's time; read it from the clock that is returned, at once. */
  convertTime(): { readonly seconds: number; readonly nanoseconds: number } {
    this.batch.clock.convertKey(this.#key);
    return this.batch.clock;
  }

  /** CLOCK_MONOTONIC, whole seconds. */
  get seconds(): number {
    return this.convertTime().seconds;
  }

  /** CLOCK_MONOTONIC, the part below a second. */
  get nanoseconds(): number {
    return this.convertTime().nanoseconds;
  }

  /** CLOCK_MONOTONIC in nanoseconds. */
  get timestamp(): bigint {
    const { seconds, nanoseconds } = this.convertTime();
    return BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
  }

  get pid(): number {
    return this.task.pid;
  }

  get tid(): number {
    return this.task.tid;
  }

  get comm(): string {
    return this.task.comm;
  }

  /** The processor. */
  get cpu(): number {
    return this.#event >>> 16;
  }

  /** `group:event`. */
  get event(): string {
    return this.descriptor.name;
  }

  /** Of the site. */
  get address(): bigint {
    if (this.descriptor.layout.addressOffset === undefined) return this.descriptor.address;
    return (BigInt(this.addressHigh) << 32n) | BigInt(this.addressLow);
  }

  /** The low half of the site's address, where the record holds it (`layout.addressOffset`); else 0. */
  get addressLow(): number {
    return this.#addressWord(0);
  }

  /** Its high half, likewise. */
  get addressHigh(): number {
    return this.#addressWord(1);
  }

  /** Older than an event that an earlier batch delivered. */
  get late(): boolean {
    return this.#key < this.batch.lateBefore;
  }

  /** Names, types and places of this event's fields. */
  get fields(): readonly RecordField[] {
    return this.#fields;
  }

  /**
   * Whether a field could not be read; also a string whose place contradicts the record's size. Of an array
   * of strings, each is asked for; one of integers is read whole or not at all.
   */
  isFault(field: number, element = 0): boolean {
    const at = this.#fields[field];
    if (at === undefined) return false;
    const { faultOffset } = this.descriptor.layout;
    const isString = at.type === 'string';
    if (at.faultBit !== undefined && faultOffset !== undefined) {
      const bit = at.faultBit + (isString ? element : 0);
      const word = (this.offset + faultOffset) / 4 + (bit >>> 5);
      if (((this.batch.words[word] ?? 0) >>> (bit & 31)) & 1) return true;
    }
    return isString && !this.#stringFits(at, element);
  }

  /** The low 32 bits of a field's slot, or of an array's element, unsigned. */
  low(field: number, element = 0): number {
    const at = this.#fields[field];
    if (at === undefined) return 0;
    const byte = this.offset + at.offset;
    if (at.count === undefined) return this.batch.words[byte >>> 2] ?? 0;
    return this.#elementLow(at, byte, element);
  }

  /** The high 32 bits of a field's slot, or of an array's element, unsigned. */
  high(field: number, element = 0): number {
    const at = this.#fields[field];
    if (at === undefined) return 0;
    if (at.count !== undefined && elementBytes(at.type) < 8) return 0;
    return this.batch.words[((this.offset + at.offset) >>> 2) + element * 2 + 1] ?? 0;
  }

  #elementLow({ type, count = 1 }: RecordField, start: number, element: number): number {
    if (element >= count) return 0;
    const bytes = elementBytes(type);
    const byte = start + element * bytes;
    const word = (this.batch.words[byte >>> 2] ?? 0) >>> ((byte & 3) * 8);
    return bytes === 1 ? word & 0xff : bytes === 2 ? word & 0xffff : word;
  }

  /** An integer field, or an array's element, with the sign of its type. */
  bigint(field: number, element = 0): bigint {
    const type = this.#fields[field]?.type ?? 'u64';
    const value = (BigInt(this.high(field, element)) << 32n) | BigInt(this.low(field, element));
    return type.charAt(0) === 's' && type !== 'symbol'
      ? BigInt.asIntN(widthOf(type), value)
      : BigInt.asUintN(widthOf(type), value);
  }

  /** An integer field of at most 32 bits, with the sign of its type; wider ones lose their high half. */
  number(field: number, element = 0): number {
    return narrow(this.#fields[field]?.type ?? 'u32', this.low(field, element));
  }

  /** Where a string's bytes lie in `batch.bytes`. Meaningful only where {@link isFault} is false. */
  stringOffset(field: number, element = 0): number {
    return this.offset + this.low(field, element);
  }

  /** How many bytes a string has. Meaningful only where {@link isFault} is false. */
  stringLength(field: number, element = 0): number {
    return this.high(field, element);
  }

  /** A string field; what is not UTF-8 becomes U+FFFD. Empty where it could not be read. */
  string(field: number, element = 0): string {
    if (this.#fields[field]?.type !== 'string' || this.isFault(field, element)) return '';
    const { bytes } = this.batch;
    const start = this.stringOffset(field, element);
    const end = start + this.stringLength(field, element);
    if (end - start > SHORT_STRING) return bytes.toString('utf8', start, end);
    for (let at = start; at < end; at++) {
      if ((bytes[at] ?? 0) >= 0x80) return bytes.toString('utf8', start, end);
    }
    return bytes.toString('latin1', start, end);
  }

  /** A field as handlers see it. */
  value(field: number): EventValue {
    const { type, count } = this.#fields[field] ?? {};
    if (type === undefined) return 0;
    if (count === undefined) return this.#single(field, type, 0);
    if (type !== 'string' && this.isFault(field)) return FAULT;
    return Array.from({ length: count }, (_, element) => this.#single(field, type, element));
  }

  #single(field: number, type: FieldType, element: number): SingleValue {
    if (this.isFault(field, element)) return FAULT;
    if (type === 'string') return this.string(field, element);
    if (type === 'char') return String.fromCharCode(this.low(field, element) & 0xff);
    return widthOf(type) === 64 ? this.bigint(field, element) : this.number(field, element);
  }

  /** A copy that stays valid. */
  toEvent(): TraceEvent {
    // A null prototype: an argument may be called __proto__ or toString.
    const args = Object.create(null) as Record<string, EventValue>; // Object.create returns any
    for (const [at, field] of this.#fields.entries()) args[field.name] = this.value(at);
    return {
      ts: this.timestamp,
      pid: this.pid,
      tid: this.tid,
      cpu: this.cpu,
      comm: this.comm,
      event: this.event,
      address: this.address,
      args,
      late: this.late,
    };
  }

  #addressWord(half: number): number {
    const { addressOffset } = this.descriptor.layout;
    if (addressOffset === undefined) return 0;
    return this.batch.words[((this.offset + addressOffset) >>> 2) + half] ?? 0;
  }

  #stringFits(field: RecordField, element: number): boolean {
    const word = ((this.offset + field.offset) >>> 2) + element * 2;
    const place = this.batch.words[word] ?? 0;
    const length = this.batch.words[word + 1] ?? 0;
    return place >= this.descriptor.layout.fixedBytes && place + length <= this.size;
  }
}

/** Bits of an integer type, of a single one of an array; 64 for strings. */
export function widthOf(type: FieldType): number {
  switch (type) {
    case 'u8':
    case 's8':
    case 'x8':
    case 'char':
      return 8;
    case 'u16':
    case 's16':
    case 'x16':
      return 16;
    case 'u32':
    case 's32':
    case 'x32':
      return 32;
    case 'u64':
    case 's64':
    case 'x64':
    case 'symbol':
    case 'string':
      return 64;
    default:
      return unreachable(type);
  }
}

/** The low 32 bits of a slot as a type of at most 32 bits reads them. */
export function narrow(type: FieldType, low: number): number {
  switch (type) {
    case 'u8':
    case 'x8':
    case 'char':
      return low & 0xff;
    case 'u16':
    case 'x16':
      return low & 0xffff;
    case 's8':
      return (low << 24) >> 24;
    case 's16':
      return (low << 16) >> 16;
    case 's32':
      return low | 0;
    case 'u32':
    case 'x32':
    case 'u64':
    case 's64':
    case 'x64':
    case 'symbol':
    case 'string':
      return low >>> 0;
    default:
      return unreachable(type);
  }
}
