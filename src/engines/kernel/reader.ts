/** Reads the rings of a tracing instance: one a processor, in binary, without ever waiting. */

import { closeSync, constants, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

import type { EventBatch, EventSource } from '../../events/batch.ts';
import type { TaskIdentity } from '../../events/context.ts';
import { DescriptorTable, type EventDescriptor } from '../../events/descriptor.ts';
import type { PollInstant, RecordSource } from '../../events/merge.ts';
import { RecordIndex } from '../../events/record-index.ts';
import { readAvailable } from '../../sys/read.ts';
import type { TextCount } from './account.ts';
import { COMMON_PID_OFFSET, type KernelFormat } from './format.ts';
import { PageCursor } from './page.ts';
import { passedInstance, type PassedHits } from './passed.ts';
import { read32, RecordWriter, type RecordPlan } from './record-writer.ts';
import { KernelTasks } from './tasks.ts';
import { attempt } from './tracefs.ts';

/** A tracing instance as its reader has to know it. Survives a message between threads. */
export interface KernelRing {
  readonly tracefs: string;
  /** Of the instance and of the group of its events. */
  readonly name: string;
  /** Bytes that one read gives at most. */
  readonly pageBytes: number;
  /** Bytes of one processor's ring. */
  readonly ringBytes: number;
  /** The process whose events are nobody's: ours, where every process is a target. */
  readonly without: number | undefined;
}

/** The ring of one processor. */
interface ProcessorRing {
  readonly processor: number;
  readonly file: number;
  readonly path: string;
}

/** Of a consumer whose records hold texts: while its hits are counted twice, in nanoseconds, and the counts. */
interface TextWindow {
  readonly since: number;
  until: number;
  passed: number;
  shown: number;
}

const WORD = 4_294_967_296;

/** Reads a session's events out of the kernel. Close it before the instance is removed. */
export class KernelReader implements RecordSource {
  readonly table: DescriptorTable = new DescriptorTable();
  readonly #ring: KernelRing;
  readonly #rings: ProcessorRing[];
  readonly #page: Buffer;
  readonly #cursor = new PageCursor();
  readonly #writer = new RecordWriter(new RecordIndex());
  readonly #tasks: KernelTasks;
  readonly #plans: (RecordPlan | undefined)[] = [];
  /** Kernel event type → where our number for the place is. */
  readonly #formats = new Map<number, KernelFormat>();
  /** Records by consumer. */
  readonly #seen = new Float64Array(65_536);
  readonly #texts = new Map<number, TextWindow>();
  /** Kernel event types of records that are counted only, and have no name of a task: see passed.ts. */
  readonly #passed = new Set<number>();
  #format: KernelFormat | undefined;
  #run: EventSource | undefined;
  #isOpen = true;

  /** Opens the rings. @throws TraplineError `system`. */
  constructor(ring: KernelRing) {
    this.#ring = ring;
    this.#page = Buffer.alloc(ring.pageBytes);
    this.#tasks = new KernelTasks(ring.tracefs);
    this.#rings = openRings(ring.tracefs, ring.name);
  }

  /** Makes a consumer's records known, before any of them is read. */
  define(
    consumer: number,
    { format, texts }: { readonly format: KernelFormat; readonly texts?: PassedHits },
    descriptor: EventDescriptor,
  ): void {
    this.table.set(consumer, descriptor);
    this.#plans[consumer] = { format, layout: descriptor.layout };
    this.#formats.set(format.type, format);
    if (texts === undefined) return;
    if (this.#passed.size === 0) {
      this.#rings.push(...openRings(this.#ring.tracefs, passedInstance(this.#ring.name)));
    }
    this.#passed.add(texts.format.type);
    this.#formats.set(texts.format.type, texts.format);
    const { since } = texts;
    this.#texts.set(consumer, { since, until: Number.POSITIVE_INFINITY, passed: 0, shown: 0 });
  }

  /**
   * From now on a consumer's hits are not counted twice any more: its events are about to be switched off.
   * @param now CLOCK_MONOTONIC in nanoseconds
   */
  closeTexts(consumer: number, now: number): void {
    const texts = this.#texts.get(consumer);
    if (texts !== undefined) texts.until = Math.min(texts.until, now);
  }

  /** A consumer's hits that were counted twice; undefined for one whose records hold no texts. */
  texts(consumer: number): TextCount | undefined {
    return this.#texts.get(consumer);
  }

  /** Records of a consumer that were read so far. */
  seen(consumer: number): number {
    return this.#seen[consumer] ?? 0;
  }

  drainInto(batch: EventBatch, number: number, poll: PollInstant): number {
    if (!this.#isOpen) return poll.key;
    let watermark = poll.key;
    for (const ring of this.#rings) {
      // What comes while we read is for the next poll: a busy processor must not keep us here.
      let left = Math.ceil(this.#ring.ringBytes / this.#ring.pageBytes) + 2;
      for (; left > 0; left--) {
        const bytes = readAvailable(ring.file, this.#page, ring.path);
        if (bytes === 0) break;
        this.#take(batch, number, ring.processor, bytes, poll);
      }
      if (left === 0) {
        const { timeLow, timeHigh } = this.#cursor;
        watermark = Math.min(watermark, batch.clock.key(timeLow, timeHigh));
      }
    }
    return watermark;
  }

  /** Closes the rings; nothing more is read. */
  close(): void {
    if (this.#isOpen) for (const { file } of this.#rings) closeSync(file);
    this.#isOpen = false;
  }

  #take(
    batch: EventBatch,
    number: number,
    processor: number,
    bytes: number,
    poll: PollInstant,
  ): void {
    const cursor = this.#cursor;
    cursor.open(this.#page, bytes);
    while (cursor.next()) this.#meet(poll.milliseconds);
    this.#tasks.settle(poll.milliseconds);
    cursor.open(this.#page, bytes);
    while (cursor.next()) this.#record(batch, number, processor);
    this.#endRun(batch);
  }

  /** Before a page's records are taken: whose they are. */
  #meet(now: number): void {
    const page = this.#page;
    const { offset, length } = this.#cursor;
    const end = offset + length;
    const format = this.#formatOf(read32(page, offset, end) & 0xffff);
    if (format?.comm !== undefined)
      this.#tasks.meet(read32(page, offset + COMMON_PID_OFFSET, end), now);
  }

  #record(batch: EventBatch, number: number, processor: number): void {
    const page = this.#page;
    const { offset, length, timeLow, timeHigh } = this.#cursor;
    const end = offset + length;
    const format = this.#formatOf(read32(page, offset, end) & 0xffff);
    if (format === undefined) return; // not an event of ours
    const consumer = read32(page, offset + format.site, end);
    const plan = this.#plans[consumer];
    if (plan === undefined) return;
    if (format.comm === undefined) {
      if (this.#passed.has(format.type)) this.#countPassed(consumer, timeLow, timeHigh);
      else this.#count(consumer);
      return;
    }
    const tid = read32(page, offset + COMMON_PID_OFFSET, end);
    const location = read32(page, offset + format.comm, end);
    const name = offset + (location & 0xffff);
    const inside = Math.max(0, Math.min(location >>> 16, end - name) - 1);
    const task = this.#tasks.identify(tid, page, name, lengthOf(page, name, inside));
    if (task.pid === this.#ring.without) return;
    this.#count(consumer);
    const texts = this.#textsAt(consumer, timeLow, timeHigh);
    if (texts !== undefined) texts.shown++;
    if (this.#run?.task !== task) this.#beginRun(batch, task, number);
    this.#writer.put(plan, page, offset, end, consumer | (processor << 16), timeLow, timeHigh);
  }

  #count(consumer: number): void {
    this.#seen[consumer] = (this.#seen[consumer] ?? 0) + 1;
  }

  #countPassed(consumer: number, timeLow: number, timeHigh: number): void {
    const texts = this.#textsAt(consumer, timeLow, timeHigh);
    if (texts !== undefined) texts.passed++;
  }

  #textsAt(consumer: number, timeLow: number, timeHigh: number): TextWindow | undefined {
    if (this.#texts.size === 0) return undefined;
    const texts = this.#texts.get(consumer);
    if (texts === undefined) return undefined;
    const time = timeHigh * WORD + timeLow;
    return time >= texts.since && time < texts.until ? texts : undefined;
  }

  #formatOf(type: number): KernelFormat | undefined {
    if (this.#format?.type !== type) this.#format = this.#formats.get(type);
    return this.#format;
  }

  #beginRun(batch: EventBatch, task: TaskIdentity, segment: number): void {
    this.#endRun(batch);
    this.#run = { task, table: this.table, segment };
  }

  /** Records of one task in a row are appended together. */
  #endRun(batch: EventBatch): void {
    const run = this.#run;
    this.#run = undefined;
    if (run === undefined) return;
    this.#writer.close();
    batch.append(run, this.#writer.bytes, this.#writer.index);
    this.#writer.clear();
  }
}

/** Opens the rings of an instance. @throws TraplineError `system`. */
function openRings(tracefs: string, instance: string): ProcessorRing[] {
  const folder = join(tracefs, 'instances', instance, 'per_cpu');
  return attempt(`open the rings in ${folder}`, () =>
    readdirSync(folder)
      .map((name) => ({ processor: Number(name.slice('cpu'.length)), path: join(folder, name) }))
      .map(({ processor, path }) => ({ processor, path, file: openRing(path) })),
  );
}

function openRing(folder: string): number {
  return openSync(join(folder, 'trace_pipe_raw'), constants.O_RDONLY | constants.O_NONBLOCK);
}

function lengthOf(page: Buffer, start: number, most: number): number {
  for (let at = 0; at < most; at++) if (page[start + at] === 0) return at;
  return most;
}
