/**
 * The pages that `trace_pipe_raw` gives: kernel/trace/ring_buffer.c and include/linux/ring_buffer.h, as
 * `events/header_page` and `events/header_event` describe them.
 *
 *     0    u64  time of the page
 *     8    u64  low 30 bits: bytes of data; bit 31: events were lost before it, bit 30: how many stands behind
 *               the data
 *     16   data: events, each `u32 type_len:5 time_delta:27`, then what the type says
 *
 * Where a page ends before its data says is taken for its end: nothing behind it is read.
 */

/** Of a page's header. */
export const PAGE_HEADER_BYTES = 16;

const LENGTH_MASK = 0x3fff_ffff;
const PADDING = 29;
const TIME_EXTEND = 30;
const TIME_STAMP = 31;
const WORD = 4_294_967_296;
/** An absolute time has 59 bits; the rest is the page's. */
const ABSOLUTE_HIGH = 0x07ff_ffff;

/** Walks over the events of one page. One object for all pages; makes none. */
export class PageCursor {
  /** Of the current event's data, in the page's bytes. */
  offset = 0;
  /** Of the current event's data, in bytes; a multiple of 4. */
  length = 0;
  /** The current event's time in nanoseconds: its low half. */
  timeLow = 0;
  /** The current event's time in nanoseconds: its high half. */
  timeHigh = 0;
  #page: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  /** Begins a page. @param bytes how many of the page were read */
  open(page: Buffer, bytes: number): void {
    this.#page = page;
    this.#at = PAGE_HEADER_BYTES;
    this.#end = 0;
    if (bytes < PAGE_HEADER_BYTES) return;
    this.timeLow = page.readUInt32LE(0);
    this.timeHigh = page.readUInt32LE(4);
    const data = page.readUInt32LE(8) & LENGTH_MASK;
    this.#end = Math.min(bytes, PAGE_HEADER_BYTES + data);
  }

  /** Moves to the next event that holds data. @returns false at the page's end. */
  next(): boolean {
    const page = this.#page;
    while (this.#at + 4 <= this.#end) {
      const header = page.readUInt32LE(this.#at);
      const type = header & 31;
      const delta = header >>> 5;
      const second = this.#at + 8 <= this.#end ? page.readUInt32LE(this.#at + 4) : 0;
      if (type === TIME_EXTEND) {
        this.#advance((second << 27) | delta, second >>> 5);
        this.#at += 8;
      } else if (type === TIME_STAMP) {
        this.#set((second << 27) | delta, second >>> 5);
        this.#at += 8;
      } else if (type === PADDING) {
        // Without a time the rest of the page is empty; with one it is an event that was discarded.
        if (delta === 0 || second === 0) break;
        this.#advance(delta, 0);
        this.#at += 4 + second;
      } else {
        this.#advance(delta, 0);
        const long = type === 0;
        this.offset = this.#at + (long ? 8 : 4);
        this.length = long ? second - 4 : type * 4;
        this.#at = this.offset + this.length;
        if (this.length < 0 || this.#at > this.#end) break;
        return true;
      }
    }
    this.#at = this.#end;
    return false;
  }

  #advance(low: number, high: number): void {
    const sum = this.timeLow + (low >>> 0);
    this.timeLow = sum >>> 0;
    this.timeHigh = (this.timeHigh + high + (sum >= WORD ? 1 : 0)) >>> 0;
  }

  #set(low: number, high: number): void {
    this.timeLow = low >>> 0;
    this.timeHigh = ((this.timeHigh & ~ABSOLUTE_HIGH) | (high & ABSOLUTE_HIGH)) >>> 0;
  }
}
