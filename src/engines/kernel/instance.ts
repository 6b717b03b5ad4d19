/** A tracing instance: rings, switches and filters of its own, so that nobody else's are touched. */

import { existsSync, mkdirSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';

import { debugLog } from '../../base/debug.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { sleepMicroseconds } from '../../sys/wait.ts';
import { attempt, readText, writeCommand } from './tracefs.ts';

const log = debugLog('kernel');

/** Bytes of one part of a ring: enough for the largest event, whose data has a page. */
const PART_KIB = 8;
/** The file of an instance that says whose events are never recorded. */
const LEFT_OUT = 'set_event_notrace_pid';
/** The one that says whose are, if not everybody's. */
const WATCHED = 'set_event_pid';
/** A thread of the kernel's own (kthreadd), which hits nothing. */
const NOBODY = 2;
/** Attempts to remove an instance, and microseconds between them: a reader may just be closing its files. */
const ATTEMPTS = 50;
const PAUSE = 20_000;

/** Who is watched. */
export interface WatchedTasks {
  /** Threads whose events are recorded; every one if undefined. */
  readonly only: readonly number[] | undefined;
  /** Whether the threads and processes that those make are watched too. */
  readonly children: boolean;
  /** Threads whose events are never recorded. */
  readonly without: readonly number[];
}

/** How an instance is used. */
export interface InstanceUse {
  /** Bytes of one processor's ring. */
  readonly ringBytes: number;
  /** How its events are read: with texts, without (so that a page is enough), or not at all. */
  readonly reading: 'texts' | 'numbers' | 'none';
}

/** An instance of one session, made and owned by it. */
export class TracingInstance {
  readonly folder: string;
  /** Bytes that one read of a ring gives at most. */
  readonly pageBytes: number;
  readonly #tracefs: string;

  /**
   * Makes an instance.
   * @throws TraplineError `system`, `busy`, `not-permitted`; nothing is left then.
   */
  constructor(tracefs: string, name: string, { ringBytes, reading }: InstanceUse) {
    this.#tracefs = tracefs;
    this.folder = join(tracefs, 'instances', name);
    attempt(`make the tracing instance ${name}`, () => mkdirSync(this.folder));
    try {
      if (reading !== 'none') this.#prepareReading();
      this.pageBytes = reading === 'texts' ? this.#widenParts() : PAGE_BYTES;
      this.write('buffer_size_kb', String(ringBytes >>> 10));
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  /** Decides whose events are recorded. Before any event is on. */
  watch({ only, children, without }: WatchedTasks): void {
    if (children) this.write('options/event-fork', '1');
    if (only !== undefined) this.addTasks(only);
    // Before Linux 5.7 the reader leaves our own process out.
    if (without.length > 0 && this.leavesOut) this.write(LEFT_OUT, without.join(' '));
  }

  /** Whether events of single threads can be left out: from Linux 5.7 on. */
  get leavesOut(): boolean {
    return existsSync(join(this.folder, LEFT_OUT));
  }

  /** Watches those whom another one of the same session watches, with what they made meanwhile. */
  watchAs(other: TracingInstance, watched: WatchedTasks): void {
    this.watch({ ...watched, only: undefined });
    if (watched.only === undefined) return;
    const known = new Set<number>();
    for (;;) {
      const now = other.read(WATCHED).split('\n').filter(Boolean).map(Number);
      const more = now.filter((tid) => !known.has(tid));
      if (more.length === 0) break;
      this.addTasks(more);
      for (const tid of more) known.add(tid);
    }
    // Without a list everybody would be watched.
    if (known.size === 0) this.addTasks([NOBODY]);
  }

  /** Adds threads to those that are watched. */
  addTasks(tids: readonly number[]): void {
    if (tids.length > 0) this.write(WATCHED, tids.join(' '));
  }

  /** Writes to one of its files. @throws TraplineError as `writeCommand` does. */
  write(file: string, text: string): void {
    writeCommand(join(this.folder, file), text);
  }

  /** Reads one of its files. @throws TraplineError `system`. */
  read(file: string): string {
    return readText(join(this.folder, file));
  }

  /**
   * Removes it, with what its rings hold; its events are switched off by that.
   * @throws TraplineError `busy` while somebody has files of it open.
   */
  remove(): void {
    removeInstance(this.#tracefs, this.folder);
  }

  #prepareReading(): void {
    // The time of our events is CLOCK_MONOTONIC everywhere.
    this.write('trace_clock', 'mono');
    // A full ring keeps what it has, as ours do, and what came too late is counted.
    this.write('options/overwrite', '0');
    // Which process a thread belonged to, when both have ended.
    this.write('options/record-tgid', '1');
  }

  /** Parts of more than a page are there from Linux 6.8 on. */
  #widenParts(): number {
    const file = 'buffer_subbuf_size_kb';
    if (!existsSync(join(this.folder, file))) return PAGE_BYTES;
    this.write(file, String(PART_KIB));
    return Number(this.read(file)) * 1024;
  }
}

/**
 * Removes the instance of a folder, waiting a second for files of it that are just being closed.
 * @throws TraplineError `busy`.
 */
export function removeInstance(tracefs: string, folder: string): void {
  for (let attempts = 1; existsSync(folder); attempts++) {
    try {
      attempt(`remove the tracing instance ${folder}`, () => rmdirSync(folder));
    } catch (error) {
      if (!(error instanceof TraplineError) || error.code !== 'busy') throw error;
      if (attempts >= ATTEMPTS) throw error;
      log('%s: %s, in %s', folder, messageOf(error), tracefs);
      sleepMicroseconds(PAUSE);
    }
  }
}

/** Records that were lost in all rings of an instance, exactly: what `stats` counts. */
export function countLost(tracefs: string, name: string): number {
  const folder = join(tracefs, 'instances', name, 'per_cpu');
  let lost = 0;
  for (const processor of attempt(`read ${folder}`, () => readdirSync(folder))) {
    const text = readText(join(folder, processor, 'stats'));
    for (const [, count] of text.matchAll(/^(?:overrun|commit overrun|dropped events): (\d+)$/gm)) {
      lost += Number(count);
    }
  }
  return lost;
}
