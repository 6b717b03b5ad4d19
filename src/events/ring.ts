/**
 * Reading the ring of one task, in three levels: raw positions, a lease on what is committed, and (by
 * the holder of the lease) a safe copy. The other side is a program that nobody trusts, and that runs
 * at the same time: each value is read once, checked, and used from there.
 *
 * The record loop counts in three small integers (ring offset, stamp, bytes left), so that 64-bit
 * positions are touched once per scan. Positions are doubles, exact below 2^53.
 */

import type { DescriptorTable } from './descriptor.ts';
import { HeadHistory } from './head-history.ts';
import { ContextHeader, MAX_RECORD_BYTES, RecordHeader, VOID_EVENT } from './layout.ts';
import type { RecordIndex } from './record-index.ts';

/** Positions from here on are not believed: a ring would have to run for years to reach them. */
const POSITION_LIMIT = 2 ** 52;
/** Where a context's parts lie in a segment's buffer, in bytes. */
export interface RingPlace {
  readonly buffer: ArrayBufferLike;
  /** Of the context. A multiple of 8. */
  readonly contextOffset: number;
  /** Of the ring, from the context's start. */
  readonly ringOffset: number;
  /** A power of two. */
  readonly ringBytes: number;
}

/**
 * Raw positions: the head that the task moves, the tail that we move. The head may also move back, to
 * shrink a reservation that is not committed yet; never to before an uncommitted record's start.
 */
export class RingPositions {
  readonly #words: BigUint64Array;

  constructor(place: RingPlace) {
    const words = (ContextHeader.head + 8) / 8;
    this.#words = new BigUint64Array(place.buffer, place.contextOffset, words);
  }

  /** The end of the last reservation; whatever the target says, unchecked. One atomic 8-byte load. */
  head(): number {
    return Number(Atomics.load(this.#words, ContextHeader.head / 8));
  }

  /** Gives everything before `position` back to the task, in one atomic 8-byte store. */
  setTail(position: number): void {
    Atomics.store(this.#words, ContextHeader.tail / 8, BigInt(position));
  }

  /** For the owner of an unclaimed context only: puts both where a new ring starts. */
  reset(ringBytes: number): void {
    Atomics.store(this.#words, ContextHeader.tail / 8, BigInt(ringBytes));
    Atomics.store(this.#words, ContextHeader.head / 8, BigInt(ringBytes));
  }
}

/** What a ring's reader could not deliver. Numbers only ever grow. */
export interface RingLoss {
  /** Stretches given up because a task reserved them and never committed. */
  abandoned: number;
  /** Committed records of events that nobody described, or of impossible size. */
  corrupt: number;
  /** Heads that ran backwards, or further than the ring is long. */
  overrun: number;
}

/** When a scan happens, and what is known about the ring's owner. */
export interface ScanTime {
  /** Any monotone clock, in milliseconds. */
  readonly nowMilliseconds: number;
  /** How long an uncommitted record may hold back the records of others. */
  readonly holdMilliseconds: number;
  /** How long those behind it wait for it. A task that is only not running must not lose its record. */
  readonly abandonMilliseconds: number;
  /** The task is dead: it will commit nothing any more. */
  readonly dead: boolean;
}

/**
 * Reads one ring. {@link RingReader.scan} takes a lease on what is committed: the bytes stay the
 * ring's until {@link RingReader.release} gives them back to the task.
 */
export class RingReader {
  /** The ring with its spill area; the target may write it at any time. */
  readonly bytes: Uint8Array;
  readonly ringBytes: number;
  readonly loss: RingLoss = { abandoned: 0, corrupt: 0, overrun: 0 };
  readonly #words: Int32Array;
  readonly #positions: RingPositions;
  readonly #table: DescriptorTable;
  /** Our own position: never read back from the segment. */
  #tail: number;
  /** The position that the last scan reached. */
  #frontier: number;
  /** The head that the last scan saw. */
  #head: number;
  #released: number;
  readonly #history = new HeadHistory();
  /** Since when an uncommitted record stands at #blockedAt. */
  #blockedSince = 0;
  #blockedAt = -1;
  #overdue = false;
  /** Where the scan stopped at a committed record that is not sane. */
  #corruptAt = -1;
  /** The scan stopped at a committed record that ends behind the head that it knows. */
  #crossing = false;
  #insane = false;

  constructor(place: RingPlace, table: DescriptorTable) {
    const start = place.contextOffset + place.ringOffset;
    const length = place.ringBytes + MAX_RECORD_BYTES;
    this.bytes = new Uint8Array(place.buffer, start, length);
    this.#words = new Int32Array(place.buffer, start, length / 4);
    this.ringBytes = place.ringBytes;
    this.#positions = new RingPositions(place);
    this.#table = table;
    this.#tail = place.ringBytes;
    this.#frontier = place.ringBytes;
    this.#head = place.ringBytes;
    this.#released = place.ringBytes;
  }

  /** The position up to which everything was scanned, in bytes. */
  get frontier(): number {
    return this.#frontier;
  }

  /** The head that the last scan believed, in bytes. */
  get head(): number {
    return this.#head;
  }

  /** Whether the ring holds nothing now that is still to be scanned or released. */
  get isEmpty(): boolean {
    return this.#frontier === this.#tail && this.#positions.head() === this.#tail;
  }

  /** Whether the last scan ended at an uncommitted record that others should still wait for. */
  get blocked(): boolean {
    return this.#blockedAt >= 0 && !this.#overdue;
  }

  /**
   * Fills `index` with the committed records from the tail on. Work is bounded by the ring's size.
   * The lease lasts until {@link release}; scanning again without it finds the same records again.
   */
  scan(index: RecordIndex, time: ScanTime): void {
    index.clear();
    const head = this.#readHead();
    if (head === undefined) return;
    let position = this.#tail;
    this.#history.forget(position);
    this.#history.note(head, time.nowMilliseconds);
    this.#crossing = false;
    for (;;) {
      if (position < head) position = this.#scanRun(index, position, head);
      if (position >= head || this.#crossing) this.#blockedAt = -1;
      // All from here on was reserved after the head was read: the next scan takes it.
      if (this.#crossing) break;
      const next = position < head ? this.#afterGap(position, head, time) : undefined;
      if (next === undefined) break;
      position = next; // always further on: the loop ends at the head
      this.#blockedAt = -1;
    }
    this.#frontier = position;
    this.#head = head;
  }

  /** Ends the lease: the task may overwrite what the last scan found. */
  release(): void {
    this.#tail = this.#frontier;
    if (this.#released === this.#tail) return;
    this.#positions.setTail(this.#tail);
    this.#released = this.#tail;
  }

  /**
   * For an owner that freed the context (see SegmentReader.release): clears what was written, so that
   * no stamp of the old owner is believed of the new one, and starts over at `ringBytes`.
   */
  reset(): void {
    const used = Math.max(this.#head, this.#tail) - this.ringBytes;
    const all = this.#insane || this.loss.overrun > 0 || used >= this.ringBytes;
    this.bytes.fill(0, 0, all ? this.bytes.length : used);
    this.#positions.reset(this.ringBytes);
    this.#tail = this.#frontier = this.#head = this.#released = this.ringBytes;
    this.#blockedAt = -1;
    this.#insane = false;
    this.#history.forget(Number.POSITIVE_INFINITY);
  }

  /** The head, or undefined where nothing may be read from this ring now. */
  #readHead(): number | undefined {
    const head = this.#positions.head();
    const ahead = head - this.#tail;
    if (ahead >= 0 && ahead <= this.ringBytes && head % 8 === 0 && head < POSITION_LIMIT) {
      this.#insane = false;
      return head;
    }
    // A context that nobody has used yet is all zeros.
    if (head === 0 && this.#tail === this.ringBytes) return undefined;
    if (!this.#insane) this.loss.overrun++;
    this.#insane = true;
    this.#blockedAt = -1;
    if (head % 8 === 0 && head >= this.ringBytes && head < POSITION_LIMIT) {
      this.#tail = this.#frontier = this.#head = head;
      this.release();
    }
    return undefined;
  }

  /** Indexes records from `from` until the head or one that is not committed or not sane. */
  #scanRun(index: RecordIndex, from: number, head: number): number {
    const words = this.#words;
    let offset = from % this.ringBytes;
    let stamp = stampOf(from);
    let left = head - from;
    this.#corruptAt = -1;
    index.openChunk(offset, from);
    while (left > 0) {
      const word = offset >>> 2;
      if (Atomics.load(words, word + RecordHeader.stamp / 4) !== stamp) break;
      const bytes = this.#recordBytes(offset);
      if (bytes === 0 || bytes > left) {
        // The head that we read was that of a reservation which has been shrunk since: records behind
        // it need not end there. At the tail it can't be: that one was reserved when the head was read.
        this.#crossing = bytes > left && head - left !== this.#tail;
        if (!this.#crossing) this.#corruptAt = head - left;
        break;
      }
      const event = words[word + RecordHeader.event / 4]!; // inside, see #recordBytes
      const isVoid = (event & 0xffff) === VOID_EVENT;
      if (isVoid) {
        index.closeChunk(offset);
      } else {
        index.reserve();
        const entry = index.count++;
        index.offset[entry] = offset;
        index.bytes[entry] = bytes;
        index.event[entry] = event;
        index.clockLow[entry] = words[word + RecordHeader.clock / 4]!; // likewise
        index.clockHigh[entry] = words[word + RecordHeader.clock / 4 + 1]!; // likewise
      }
      left -= bytes;
      offset += bytes;
      stamp = (stamp + (bytes >>> 3)) | 0;
      if (isVoid) index.openChunk(offset % this.ringBytes, head - left);
      if (offset >= this.ringBytes) {
        index.closeChunk(offset);
        offset -= this.ringBytes;
        index.openChunk(offset, head - left);
      }
    }
    index.closeChunk(offset);
    return head - left;
  }

  /** Where to go on behind a record that can't be read, or undefined while it is waited for. */
  #afterGap(at: number, head: number, time: ScanTime): number | undefined {
    // Not the stamp is asked, a second time: it may have been written since the scan stopped here.
    if (this.#corruptAt === at) {
      this.loss.corrupt++;
      return this.#resynchronize(at, head);
    }
    if (this.#blockedAt !== at) {
      this.#blockedAt = at;
      this.#blockedSince = this.#history.since(at, time.nowMilliseconds);
    }
    const waited = time.nowMilliseconds - this.#blockedSince;
    this.#overdue = waited >= time.holdMilliseconds;
    // A ring that fills up meanwhile would lose more than the one record.
    const isFilling = head - at > this.ringBytes / 2;
    const patience = isFilling ? time.holdMilliseconds : time.abandonMilliseconds;
    if (!time.dead && waited < patience) return undefined;
    const next = this.#resynchronize(at, head);
    // The task lives and nothing stands behind: it may have been stopped. It loses nothing by our
    // waiting, and until it commits it may still shrink its reservation, which moves the head back.
    if (!time.dead && next === head) return undefined;
    this.loss.abandoned++;
    return next;
  }

  /**
   * The first position behind `at` where a valid record stands, else the head: at most one look per 8
   * bytes. One record is enough, as the next may be another gap; leftovers of 4 bytes that happen to be
   * the stamp of their own place are one in 2^32.
   */
  #resynchronize(at: number, head: number): number {
    let offset = at % this.ringBytes;
    let stamp = stampOf(at);
    for (let position = at + 8; position < head; position += 8) {
      offset += 8;
      if (offset >= this.ringBytes) offset = 0;
      stamp = (stamp + 1) | 0;
      if (Atomics.load(this.#words, offset >>> 2) !== stamp) continue;
      const bytes = this.#recordBytes(offset);
      if (bytes > 0 && bytes <= head - position) return position;
    }
    return head;
  }

  /** The size of the committed record at a ring offset, or 0 where it is not sane. */
  #recordBytes(offset: number): number {
    const { fixedBytes, sizeOffset, maxBytes } = this.#table;
    const words = this.#words;
    // All loads are bounded: offset < ringBytes, and a spill of the largest record follows the ring.
    const id = words[(offset + RecordHeader.event) >>> 2]! & 0xffff; // inside, see above
    let bytes = fixedBytes[id]!; // 65,536 entries: every u16 is inside
    const sizeAt = sizeOffset[id]!; // likewise
    if (bytes !== 0 && sizeAt !== 0) {
      const at = (offset + sizeAt) >>> 2;
      const size = words[at]! >>> 0; // inside: sizeAt < fixedBytes <= MAX_RECORD_BYTES
      const sane = words[at + 1] === 0 && size >= bytes && (size & 7) === 0;
      bytes = sane && size <= maxBytes[id]! ? size : 0; // 65,536 entries
    }
    return bytes;
  }
}

/** The commit stamp of a position: the low 32 bits of position / 8, as a signed number. */
export function stampOf(position: number): number {
  return (position / 8) | 0;
}
