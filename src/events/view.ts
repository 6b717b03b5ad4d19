/** Looking at one event of a batch without making an object of it. */

import { unreachable } from '../base/errors.ts';
import type { EventBatch, EventSource } from './batch.ts';
import type { EventDescriptor } from './descriptor.ts';
import { FAULT, type EventValue, type TraceEvent } from './event.ts';
import { layoutRecord, type FieldType, type RecordField } from './layout.ts';

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
    return this.descriptor.address;
  }

  /** Older than an event that an earlier batch delivered. */
  get late(): boolean {
    return this.#key < this.batch.lateBefore;
  }

  /** Names, types and places of this event's fields. */
  get fields(): readonly RecordField[] {
    return this.#fields;
  }

  /** Whether a field could not be read; also a string whose place contradicts the record's size. */
  isFault(field: number): boolean {
    const at = this.#fields[field];
    if (at === undefined) return false;
    const { faultOffset } = this.descriptor.layout;
    if (at.faultBit !== undefined && faultOffset !== undefined) {
      const word = (this.offset + faultOffset) / 4 + (at.faultBit >>> 5);
      if (((this.batch.words[word] ?? 0) >>> (at.faultBit & 31)) & 1) return true;
    }
    return at.type === 'string' && !this.#stringFits(at);
  }

  /** The low 32 bits of a field's slot, unsigned. */
  low(field: number): number {
    const at = this.#fields[field];
    return at === undefined ? 0 : (this.batch.words[(this.offset + at.offset) >>> 2] ?? 0);
  }

  /** The high 32 bits of a field's slot, unsigned. */
  high(field: number): number {
    const at = this.#fields[field];
    return at === undefined ? 0 : (this.batch.words[((this.offset + at.offset) >>> 2) + 1] ?? 0);
  }

  /** An integer field, with the sign of its type. */
  bigint(field: number): bigint {
    const type = this.#fields[field]?.type ?? 'u64';
    const value = (BigInt(this.high(field)) << 32n) | BigInt(this.low(field));
    return type.charAt(0) === 's'
      ? BigInt.asIntN(widthOf(type), value)
      : BigInt.asUintN(widthOf(type), value);
  }

  /** An integer field of at most 32 bits, with the sign of its type; wider ones lose their high half. */
  number(field: number): number {
    return narrow(this.#fields[field]?.type ?? 'u32', this.low(field));
  }

  /** Where a string's bytes lie in `batch.bytes`. Meaningful only where {@link isFault} is false. */
  stringOffset(field: number): number {
    return this.offset + this.low(field);
  }

  /** How many bytes a string has. Meaningful only where {@link isFault} is false. */
  stringLength(field: number): number {
    return this.high(field);
  }

  /** A string field; what is not UTF-8 becomes U+FFFD. Empty where it could not be read. */
  string(field: number): string {
    if (this.#fields[field]?.type !== 'string' || this.isFault(field)) return '';
    const { bytes } = this.batch;
    const start = this.stringOffset(field);
    const end = start + this.stringLength(field);
    if (end - start > SHORT_STRING) return bytes.toString('utf8', start, end);
    for (let at = start; at < end; at++) {
      if ((bytes[at] ?? 0) >= 0x80) return bytes.toString('utf8', start, end);
    }
    return bytes.toString('latin1', start, end);
  }

  /** A field as handlers see it. */
  value(field: number): EventValue {
    const type = this.#fields[field]?.type;
    if (type === undefined) return 0;
    if (this.isFault(field)) return FAULT;
    if (type === 'string') return this.string(field);
    return widthOf(type) === 64 ? this.bigint(field) : this.number(field);
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

  #stringFits(field: RecordField): boolean {
    const word = (this.offset + field.offset) >>> 2;
    const place = this.batch.words[word] ?? 0;
    const length = this.batch.words[word + 1] ?? 0;
    return place >= this.descriptor.layout.fixedBytes && place + length <= this.size;
  }
}

/** Bits of an integer type; 64 for strings. */
export function widthOf(type: FieldType): number {
  switch (type) {
    case 'u8':
    case 's8':
    case 'x8':
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
    case 'string':
      return low >>> 0;
    default:
      return unreachable(type);
  }
}
