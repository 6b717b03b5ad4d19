/** How many events a second one processor reads, orders, formats and writes. */

import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { deliver } from '../src/cli/deliver.ts';
import { Clock } from '../src/events/clock.ts';
import { DescriptorTable } from '../src/events/descriptor.ts';
import { EventMerger } from '../src/events/merge.ts';
import { formatSegment, SegmentReader } from '../src/events/segment.ts';
import { layoutSegment, type SegmentLayout } from '../src/events/layout.ts';
import { JsonExporter } from '../src/exporters/json.ts';
import { LineBuffer } from '../src/exporters/line-buffer.ts';
import { RawExporter } from '../src/exporters/raw.ts';
import { TextExporter } from '../src/exporters/text.ts';
import { attach } from '../src/index.ts';
import { monotonicNanoseconds, readClockPair } from '../src/sys/clock.ts';
import { compileTarget, MeasuredTarget } from './targets.ts';
import { atLeast, Rows, type Row } from './rows.ts';
import { claimContexts, fillRings, TWO_ARGUMENTS } from './segment-writer.ts';

const CONTEXTS = 4;
const RING_BYTES = 1 << 20;
/** Laps of all rings in one figure. */
const LAPS = 5;
/** So much text is gathered before it is written, as the command does. */
const CHUNK_BYTES = 1 << 18;
const FLOOD_MILLISECONDS = 1500;

/** Measures the reader, on rings that we fill, and on a program that never pauses. */
export async function measureReader(rounds: number): Promise<Row[]> {
  const made = new Rows('Reader, one processor, rings filled before');
  const live = new Rows('Reader, a program that never pauses');
  const folder = mkdtempSync(join(tmpdir(), 'trapline-bench-'));
  // tmpfs on every Linux that has POSIX shared memory.
  const memory = mkdtempSync('/dev/shm/trapline-bench-');
  try {
    const outputs = [
      { name: '/dev/null', path: '/dev/null' },
      { name: 'a file', path: join(folder, 'events') },
    ];
    await using program = await MeasuredTarget.start(compileTarget());
    // The first laps are the compiler's.
    for (let round = -1; round < rounds; round++) {
      const rows = round < 0 ? new Rows('') : made;
      for (const format of ['json', 'text'] as const) {
        for (const { name, path } of outputs) {
          const rate = readMade(format, path);
          rows.add(`${format} into ${name}`, 'M/s', rate / 1e6, atLeast(2));
        }
      }
      const raw = readRaw(join(memory, 'records'));
      rows.add('raw records into tmpfs', 'M/s', raw / 1e6, atLeast(20));
      if (round >= 0) await readLive(live, program);
    }
  } finally {
    rmSync(folder, { recursive: true });
    rmSync(memory, { recursive: true });
  }
  return [...made.finish(), ...live.finish()];
}

/** A segment of our own, with what reads it. */
class MadeSegment {
  readonly reader: SegmentReader;
  readonly clock: Clock;
  readonly #buffer: SharedArrayBuffer;
  readonly #layout: SegmentLayout;

  constructor() {
    const shape = { contextCount: CONTEXTS, consumerCapacity: 16, ringBytes: RING_BYTES };
    this.#buffer = new SharedArrayBuffer(layoutSegment(shape).totalBytes);
    this.#layout = formatSegment(this.#buffer, shape);
    const table = new DescriptorTable();
    table.set(0, { name: 'probe_libc:malloc', layout: TWO_ARGUMENTS, address: 0x7f52_c872_4930n });
    const part = (offset: number, length: number): DataView =>
      new DataView(this.#buffer, offset, length);
    this.reader = new SegmentReader({ part, shape, table });
    claimContexts(this.#buffer, this.#layout);
    const first = readClockPair();
    const until = monotonicNanoseconds() + 2_000_000n;
    while (monotonicNanoseconds() < until);
    const second = readClockPair();
    this.clock = new Clock(
      { ticks: first.tsc, nanoseconds: first.nanoseconds },
      { ticks: second.tsc, nanoseconds: second.nanoseconds },
    );
  }

  /** Fills all rings. @returns how many records */
  fill(): number {
    return fillRings(this.#buffer, this.#layout, readClockPair().tsc);
  }
}

/** Kept, as one session is: its code is the same from lap to lap. */
const kept = new Map<string, MadeSegment>();

function segmentFor(key: string): MadeSegment {
  const segment = kept.get(key) ?? new MadeSegment();
  kept.set(key, segment);
  return segment;
}

/** Rings to lines in a file. @returns events a second of processor time, from the first poll to the last write */
function readMade(format: 'json' | 'text', path: string): number {
  const segment = segmentFor('lines');
  const merger = new EventMerger({ clock: segment.clock, now: monotonicNanoseconds });
  merger.add(segment.reader);
  const exporter = format === 'json' ? new JsonExporter() : new TextExporter();
  const lines = new LineBuffer(CHUNK_BYTES * 2);
  const file = openSync(path, 'w');
  let events = 0;
  let milliseconds = 0;
  for (let lap = 0; lap < LAPS; lap++) {
    const due = segment.fill();
    const began = processorMilliseconds();
    for (let left = due; left > 0;) {
      const batch = merger.poll();
      for (const event of batch) {
        exporter.format(event, lines);
        if (lines.length >= CHUNK_BYTES) flush(file, lines);
      }
      flush(file, lines);
      left -= batch.count;
    }
    milliseconds += processorMilliseconds() - began;
    events += due;
  }
  closeSync(file);
  return (events / milliseconds) * 1000;
}

/** Of all our threads, the compiler's and the collector's included: whatever else runs is not in it. */
function processorMilliseconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function flush(file: number, lines: LineBuffer): void {
  writeAll(file, lines.written());
  lines.clear();
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at);
}

/** Rings to records in memory, appended to an empty file: the kernel has to find each page. */
function readRaw(path: string): number {
  const segment = segmentFor('raw');
  const { reader, clock } = segment;
  const file = openSync(path, 'w');
  ftruncateSync(file, 0);
  const exporter = new RawExporter((bytes) => writeAll(file, bytes), clock);
  let records = 0;
  let milliseconds = 0;
  for (let lap = 0; lap < LAPS; lap++) {
    const due = segment.fill();
    const began = processorMilliseconds();
    let got = 0;
    while (got < due) got += exporter.drain(reader, performance.now());
    milliseconds += processorMilliseconds() - began;
    records += due;
  }
  closeSync(file);
  return (records / milliseconds) * 1000;
}

/** A session as the command has it, on a program that calls without a pause. */
async function readLive(rows: Rows, program: MeasuredTarget): Promise<void> {
  const probe = `work@${compileTarget()} a=%di:u64 b=%si:u64`;
  await using session = await attach({ pids: [program.pid] }, { probes: [probe] });
  const file = openSync('/dev/null', 'w');
  const sink = { write: async (bytes: Uint8Array): Promise<void> => writeAll(file, bytes) };
  const done = deliver(session.batches(), sink, { format: 'json' }, { ask: () => undefined });
  const began = performance.now();
  await program.ask(`flood 1 ${FLOOD_MILLISECONDS}`);
  const [event] = (await session.summary()).events;
  const seconds = (performance.now() - began) / 1000;
  if (event === undefined) throw new Error('nothing was counted');
  await session.stop();
  await done;
  closeSync(file);
  rows.add('hits', 'M/s', event.hits / seconds / 1e6);
  rows.add('events, json into /dev/null', 'M/s', event.recorded / seconds / 1e6, atLeast(2));
}
