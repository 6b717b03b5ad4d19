/**
 * What tasks announce in a session segment, and the session's answer. They wait for it, so it has to come soon;
 * what they say is the target's word: numbers of processes are to be looked up, not believed.
 */

import { PAGE_BYTES } from '../base/page.ts';
import { Announced, ANNOUNCED_BYTES, ANNOUNCEMENTS, SegmentHeader } from './layout.ts';

/** One task that waits, by its own numbers. */
export interface Announcement {
  readonly pid: number;
  readonly tid: number;
  /** The event id of the program that announced it. */
  readonly consumer: number;
  /** The address of the stub's frame in the task's memory. */
  readonly frame: bigint;
}

/** Announcements that wait for an answer. */
export interface PendingAnnouncements {
  /** Answers all of them: for {@link Announcements.serve}. */
  readonly last: number;
  readonly known: readonly Announcement[];
  /** How many more there are of which nothing is known: there were too many, or they are being written. */
  readonly unknown: number;
}

/** So far ahead is said to be served what nobody is to announce: half of what a number can be ahead. */
const FAR_AHEAD = 1 << 30;

/** The announcements of one segment. One party answers. */
export class Announcements {
  readonly #words: Int32Array;

  /** @param buffer the segment; the caller keeps it mapped */
  constructor(buffer: ArrayBufferLike) {
    this.#words = new Int32Array(buffer, 0, PAGE_BYTES / 4);
  }

  /** How many were made so far, modulo 2^32: what a change of shows that there are new ones. */
  get count(): number {
    return this.#load(SegmentHeader.announced);
  }

  /** Says that all so far have been seen: who made them waits for longer. @returns how many there are */
  hear(): number {
    const { count } = this;
    this.#store(SegmentHeader.heard, count);
    return count;
  }

  /** Those that were not served yet; undefined when there are none. */
  pending(): PendingAnnouncements | undefined {
    const last = this.count;
    const served = this.#load(SegmentHeader.served);
    // Numbers of 32 bits that go round; the target may have written anything.
    const waiting = (last - served) | 0;
    if (waiting <= 0) return undefined;
    const known: Announcement[] = [];
    const most = Math.min(waiting, ANNOUNCEMENTS);
    for (let back = most - 1; back >= 0; back--) {
      const announcement = this.#entry((last - back) | 0);
      if (announcement !== undefined) known.push(announcement);
    }
    return { last, known, unknown: waiting - known.length };
  }

  /** Says that all announcements to this one are served. Whoever waits at `served` is to be woken. */
  serve(last: number): void {
    this.#store(SegmentHeader.served, last);
    this.#store(SegmentHeader.unserved, last);
  }

  /** Nobody serves, now or any more: nobody is to announce anything, or to wait. Whoever waits is to be woken. */
  close(): void {
    this.serve((this.count + FAR_AHEAD) | 0);
  }

  /** The pair of {@link close}: from now on announcements are served. */
  open(): void {
    this.serve(this.count);
  }

  #entry(number: number): Announcement | undefined {
    const entry = (number - 1) & (ANNOUNCEMENTS - 1);
    const at = SegmentHeader.announcements + entry * ANNOUNCED_BYTES;
    if (this.#load(at + Announced.number) !== number) return undefined;
    return {
      pid: this.#load(at + Announced.pid),
      tid: this.#load(at + Announced.tid),
      consumer: this.#load(at + Announced.consumer),
      frame: this.#loadLong(at + Announced.frame),
    };
  }

  #load(offset: number): number {
    return Atomics.load(this.#words, offset / 4);
  }

  /** Written before the number that was read, and only read where that is right. */
  #loadLong(offset: number): bigint {
    const low = BigInt(this.#load(offset) >>> 0);
    return (BigInt(this.#load(offset + 4) >>> 0) << 32n) | low;
  }

  #store(offset: number, value: number): void {
    Atomics.store(this.#words, offset / 4, value);
  }
}
