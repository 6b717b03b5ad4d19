/** What the reader knows about each consumer of a segment, in a form that the record loop can use. */

import {
  MAX_RECORD_BYTES,
  RECORD_HEADER_BYTES,
  slotBytes,
  VOID_EVENT,
  type RecordLayout,
} from './layout.ts';

/** One consumer as its events show it. */
export interface EventDescriptor {
  /** `group:event`, as in `probe_zsh:zfree`. */
  readonly name: string;
  readonly layout: RecordLayout;
  /** The address of the site in the target. */
  readonly address: bigint;
}

/** Event ids are u16: see `RecordHeader.event`. */
const EVENT_IDS = 65_536;

/**
 * The descriptors of one segment by event id. The sizes are kept in typed arrays of 65,536 entries,
 * so that an event id read from a hostile segment is a valid index, whatever it is.
 */
export class DescriptorTable {
  /** By event id: bytes of the fixed part, 0 where the id is unknown. */
  readonly fixedBytes: Int32Array = new Int32Array(EVENT_IDS);
  /** By event id: where the record's size is, 0 for records of fixed size. */
  readonly sizeOffset: Int32Array = new Int32Array(EVENT_IDS);
  /** By event id: the largest size. */
  readonly maxBytes: Int32Array = new Int32Array(EVENT_IDS);
  readonly #descriptors: (EventDescriptor | undefined)[] = [];

  constructor() {
    this.fixedBytes[VOID_EVENT] = RECORD_HEADER_BYTES + 8;
    this.sizeOffset[VOID_EVENT] = RECORD_HEADER_BYTES;
    this.maxBytes[VOID_EVENT] = MAX_RECORD_BYTES;
  }

  /**
   * Makes an event known. An id stays known as long as records of it may lie in a ring: a removed
   * consumer's descriptor is not taken out.
   * @throws RangeError when the id, or a size of the layout, is outside its bounds.
   */
  set(eventId: number, descriptor: EventDescriptor): void {
    const { fixedBytes, sizeOffset, maxBytes, fields } = descriptor.layout;
    const wordIn = (offset: number): boolean =>
      Number.isInteger(offset) && offset % 8 === 0 && offset >= 16 && offset + 8 <= fixedBytes;
    const sizes = fixedBytes % 8 === 0 && maxBytes % 8 === 0 && fixedBytes <= maxBytes;
    if (
      !Number.isInteger(eventId) ||
      eventId < 0 ||
      eventId >= VOID_EVENT ||
      !sizes ||
      fixedBytes < RECORD_HEADER_BYTES ||
      maxBytes > MAX_RECORD_BYTES ||
      (sizeOffset === undefined ? maxBytes !== fixedBytes : !wordIn(sizeOffset)) ||
      !fields.every(
        (field) => wordIn(field.offset) && field.offset + slotBytes(field) <= fixedBytes,
      )
    ) {
      throw new RangeError(`event ${eventId} (${descriptor.name}) has an impossible layout`);
    }
    while (this.#descriptors.length <= eventId) this.#descriptors.push(undefined);
    this.#descriptors[eventId] = descriptor;
    this.fixedBytes[eventId] = fixedBytes;
    this.sizeOffset[eventId] = sizeOffset ?? 0;
    this.maxBytes[eventId] = maxBytes;
  }

  /** One more than the largest event id that was ever known. */
  get end(): number {
    return this.#descriptors.length;
  }

  /** The descriptor of an event id, or undefined. */
  get(eventId: number): EventDescriptor | undefined {
    return this.#descriptors[eventId];
  }

  /** All event ids with their descriptors. */
  *entries(): Generator<[number, EventDescriptor], void> {
    for (const [id, descriptor] of this.#descriptors.entries()) {
      if (descriptor !== undefined) yield [id, descriptor];
    }
  }
}
