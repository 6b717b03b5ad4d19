/** The main thread's reader: segments in, events in order out, counts. Asks nobody; never blocks. */

import { existsSync, readFileSync } from 'node:fs';

import { address } from '../base/brand.ts';
import { accountFor, type ConsumerAccount } from '../events/account.ts';
import type { EventBatch } from '../events/batch.ts';
import { Clock } from '../events/clock.ts';
import { DescriptorTable } from '../events/descriptor.ts';
import { layoutSegment } from '../events/layout.ts';
import { EventMerger } from '../events/merge.ts';
import { SegmentReader, type SegmentLoss } from '../events/segment.ts';
import { monotonicNanoseconds, readClockPair } from '../sys/clock.ts';
import { viewMemory } from '../sys/mapping.ts';
import { NamespaceTasks } from './name-spaces.ts';
import type { AddReply, ConsumerHandle, SegmentHandle } from './protocol.ts';

/** How often the clocks are compared, in milliseconds. */
const CALIBRATION_INTERVAL = 1000;
/** Two clock readings this far apart give a rate that holds for the first second. */
const FIRST_CALIBRATION_NANOSECONDS = 2_000_000n;

/** While contexts are scarce, those of dead tasks are looked for this often, in milliseconds. */
const SEARCH_INTERVAL = 2;
/** One part in so many of our time is spent on that at most. */
const SEARCH_SHARE = 10;

interface Source {
  readonly reader: SegmentReader;
  readonly table: DescriptorTable;
  /** For a target in another pid namespace. */
  readonly tasks: NamespaceTasks | undefined;
}

/** One consumer's counts. */
export interface CollectedAccount {
  readonly consumer: ConsumerHandle;
  readonly account: ConsumerAccount;
}

/** Reads all segments of a session. */
export class Collector {
  readonly #clock: Clock;
  readonly #merger: EventMerger;
  readonly #sources = new Map<number, Source>();
  readonly #consumers: ConsumerHandle[] = [];
  #calibrated = performance.now();
  #nextSearch = 0;

  constructor() {
    const first = clockPoint();
    let second = clockPoint();
    while (second.nanoseconds - first.nanoseconds < FIRST_CALIBRATION_NANOSECONDS) {
      second = clockPoint();
    }
    this.#clock = new Clock(first, second);
    this.#merger = new EventMerger({ clock: this.#clock, now: monotonicNanoseconds });
  }

  /** Takes new segments and consumers in. No poll may come between the patch and this. */
  add(reply: AddReply): void {
    for (const handle of reply.segments) this.#addSegment(handle);
    for (const consumer of reply.consumers) {
      this.#consumers.push(consumer);
      const { event, layout, address: site } = consumer;
      this.#sources.get(consumer.pid)?.table.set(consumer.consumer, {
        name: event,
        layout,
        address: site,
      });
    }
  }

  /** Events that are final by now. The batch is reused: it is valid until the next poll. */
  poll(): EventBatch {
    if (performance.now() - this.#calibrated > CALIBRATION_INTERVAL) {
      this.#calibrated = performance.now();
      this.#clock.add(clockPoint());
    }
    if (performance.now() > this.#nextSearch && this.isScarce) {
      const began = performance.now();
      this.releaseDeadTasks();
      const ended = performance.now();
      this.#nextSearch = ended + Math.max(SEARCH_INTERVAL, (ended - began) * SEARCH_SHARE);
    }
    return this.#merger.poll();
  }

  /** All that is left, when nothing more is written. */
  flush(): EventBatch {
    for (const { reader } of this.#sources.values()) reader.markAllDead();
    return this.#merger.flush();
  }

  /** A process has ended: what its tasks have not committed now never will be. Its children go on. */
  markDead(pid: number): void {
    this.#sources.get(pid)?.reader.markDead(pid);
  }

  /** Frees the contexts of tasks that ended, so that new ones find room. */
  releaseDeadTasks(): void {
    for (const { reader, tasks } of this.#sources.values()) {
      const isOwnerAlive = (pid: number, tid: number): boolean =>
        tasks === undefined ? isTaskAlive(pid, tid) : tasks.find(pid, tid) !== undefined;
      reader.contexts.forEach(({ identity: { pid, tid } }, index) => {
        // Asked first: a living task whose context is looked at this way would claim a second one.
        if (pid !== 0 && !isTaskAlive(pid, tid)) reader.release(index, isOwnerAlive);
      });
    }
  }

  /**
   * The counts of every consumer, as they are now.
   * @param isFinal nobody writes any more, and all was read
   */
  accounts(isFinal: boolean): CollectedAccount[] {
    const accounts: CollectedAccount[] = [];
    for (const [pid, { reader }] of this.#sources) {
      // Counts are asked for where nobody reads events, too.
      reader.discover();
      const consumers = this.#consumers.filter((consumer) => consumer.pid === pid);
      const ids = consumers.map(({ consumer }) => consumer);
      accountFor(reader, ids, isFinal).consumers.forEach((account, index) => {
        const consumer = consumers[index];
        if (consumer !== undefined) accounts.push({ consumer, account });
      });
    }
    return accounts;
  }

  /** What rings lost, all targets together. */
  loss(): SegmentLoss {
    const sum = { abandoned: 0, corrupt: 0, overrun: 0 };
    for (const { reader } of this.#sources.values()) {
      const { abandoned, corrupt, overrun } = reader.loss();
      sum.abandoned += abandoned;
      sum.corrupt += corrupt;
      sum.overrun += overrun;
    }
    return sum;
  }

  /** Whether a target has claimed half of its contexts: dead tasks' are looked for at every poll then. */
  get isScarce(): boolean {
    for (const { reader } of this.#sources.values()) {
      const { contexts, layout } = reader;
      if (contexts.length * 2 <= layout.contextCount) continue;
      const used = contexts.reduce((sum, { identity }) => sum + (identity.tid === 0 ? 0 : 1), 0);
      if (used * 2 > layout.contextCount) return true;
    }
    return false;
  }

  #addSegment(handle: SegmentHandle): void {
    const table = new DescriptorTable();
    const tasks = handle.samePidNamespace ? undefined : new NamespaceTasks(handle.pid);
    const reader = new SegmentReader({
      buffer: viewMemory(address(handle.address), layoutSegment(handle.shape).totalBytes),
      shape: handle.shape,
      table,
      taskName,
      ...(tasks && { translate: (pid, tid) => tasks.find(pid, tid) }),
    });
    this.#sources.set(handle.pid, { reader, table, tasks });
    this.#merger.add(reader);
  }
}

function clockPoint(): { ticks: bigint; nanoseconds: bigint } {
  const { tsc, nanoseconds } = readClockPair();
  return { ticks: tsc, nanoseconds };
}

function taskName(pid: number, tid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').slice(0, -1);
  } catch {
    return undefined; // ended: the name that it had when it claimed its context stays
  }
}

function isTaskAlive(pid: number, tid: number): boolean {
  return existsSync(`/proc/${pid}/task/${tid}`);
}
