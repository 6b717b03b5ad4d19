import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import * as fc from 'fast-check';

import { Clock } from '../../../src/events/clock.ts';
import {
  ContextHeader,
  RECORD_HEADER_BYTES,
  RecordHeader,
  VOID_EVENT,
  layoutRecord,
} from '../../../src/events/layout.ts';
import { EventMerger } from '../../../src/events/merge.ts';
import { JsonExporter } from '../../../src/exporters/json.ts';
import { LineBuffer } from '../../../src/exporters/line-buffer.ts';
import { TextExporter } from '../../../src/exporters/text.ts';
import { PAIR, TaskWriter, makeSegment } from './writer.ts';

const RING = 4096;
const STRINGS = layoutRecord([
  { name: 'text', type: 'string', canFault: true, maxLength: 200 },
  { name: 'n', type: 's32', canFault: true },
]);

function setUp(layouts = [PAIR, STRINGS]) {
  const segment = makeSegment(1, RING, layouts);
  const writer = new TaskWriter(segment.buffer, segment.layout, 0);
  writer.claim(7, 6, 'task');
  const positions = new BigUint64Array(segment.buffer, segment.layout.contextsOffset, 32);
  const values: number[] = [];
  const drain = (now = 0): number[] => {
    const found: number[] = [];
    segment.reader.drain((context, index) => {
      const view = new DataView(
        context.ring.bytes.buffer,
        context.ring.bytes.byteOffset,
        context.ring.bytes.byteLength,
      );
      for (let at = 0; at < index.count; at++) {
        found.push(view.getUint32((index.offset[at] ?? 0) + 16, true));
      }
    }, now);
    values.push(...found);
    return found;
  };
  return { ...segment, writer, positions, drain, values };
}

describe('a ring', () => {
  it('passes over what holds no record, at its wrap too', () => {
    const { writer, drain, positions, reader, values } = setUp();
    const commitNothing = (bytes: number): void => {
      const position = writer.reserve(bytes);
      assert.ok(position !== undefined);
      writer.put(position, RECORD_HEADER_BYTES, bytes);
      writer.commit(position, VOID_EVENT, 0);
    };
    for (let value = 0; value < 300; value++) {
      assert.ok(writer.record(PAIR, 0, 0, 0n, [value, 0]));
      commitNothing(208);
      if (value % 3 === 0) commitNothing(64);
      if (value % 7 === 6) drain();
    }
    drain();
    assert.deepEqual(
      values,
      Array.from({ length: 300 }, (_, at) => at),
    );
    assert.equal(reader.counts(0).recorded, 300);
    assert.deepEqual(reader.loss(), { abandoned: 0, corrupt: 0, overrun: 0 });
    assert.equal(positions[ContextHeader.tail / 8], positions[ContextHeader.head / 8]);
  });

  it('wraps without splitting a record, and moves the tail after each drain', () => {
    const layout = layoutRecord(
      ['a', 'b', 'c'].map((name) => ({ name, type: 'u64', canFault: false })),
    );
    const { writer, drain, positions, values, reader } = setUp([layout]); // 40 bytes: no divisor
    for (let value = 0; value < 1000; value++) {
      assert.ok(writer.record(layout, 0, 0, 0n, [value, 0, 0]));
      if (value % 50 === 49) drain();
    }
    assert.deepEqual(
      values,
      Array.from({ length: 1000 }, (_, at) => at),
    );
    assert.equal(positions[ContextHeader.tail / 8], BigInt(RING + 40 * 1000));
    assert.equal(reader.counts(0).recorded, 1000);
  });

  it('finds any number of records in one scan', () => {
    const { buffer, layout, reader } = makeSegment(1, 1 << 18);
    const writer = new TaskWriter(buffer, layout, 0);
    writer.claim(1, 1, 'x');
    let written = 0;
    while (writer.record(PAIR, 0, 0, BigInt(written), [written])) written++;
    reader.drain((_, index) => {
      assert.equal(index.count, written);
      assert.equal(index.clockLow[written - 1], written - 1);
    }, 0);
  });

  it('a full ring refuses, and takes again after a drain', () => {
    const { writer, drain } = setUp();
    let written = 0;
    while (writer.record(PAIR, 0, 0, 0n, [written])) written++;
    assert.equal(written, RING / 32);
    assert.equal(drain().length, written);
    assert.ok(writer.record(PAIR, 0, 0, 0n, [1]));
  });

  it('a dead task leaves its uncommitted record at once', () => {
    const { writer, drain, reader } = setUp();
    writer.record(PAIR, 0, 0, 0n, [1]);
    writer.reserve(32);
    assert.deepEqual(drain(), [1]);
    reader.markAllDead();
    assert.deepEqual(drain(), []);
    assert.equal(reader.loss().abandoned, 1);
    assert.equal(reader.contexts[0]?.ring.frontier, RING + 64);
  });

  it('the previous lap never looks committed', () => {
    const { writer, drain, values } = setUp();
    for (let value = 0; value < RING / 32; value++) writer.record(PAIR, 0, 0, 0n, [value]);
    drain();
    for (let value = 0; value < RING / 32; value++) writer.reserve(32);
    assert.deepEqual(drain(), []);
    assert.equal(values.length, RING / 32);
  });

  it('a head that was read before a reservation shrank may lie inside a later record', () => {
    const { writer, positions, reader, drain, values } = setUp();
    const large = writer.reserve(STRINGS.maxBytes) ?? 0;
    const stale = positions[ContextHeader.head / 8] ?? 0n;
    // The task shrinks its record, commits it, and goes on past the head that the reader knows.
    positions[ContextHeader.head / 8] = BigInt(large + STRINGS.fixedBytes);
    writer.put(large, STRINGS.sizeOffset ?? 0, STRINGS.fixedBytes);
    writer.commit(large, 1, 0);
    let value = 0;
    while (BigInt(writer.head) <= stale) writer.record(PAIR, 0, 0, 0n, [++value]);
    assert.notEqual(BigInt(writer.head) - 32n, stale, 'the head would be a boundary again');
    const now = positions[ContextHeader.head / 8] ?? 0n;
    positions[ContextHeader.head / 8] = stale;
    drain();
    positions[ContextHeader.head / 8] = now;
    drain();
    assert.equal(values.length, 1 + value);
    assert.deepEqual(reader.loss(), { abandoned: 0, corrupt: 0, overrun: 0 });
    assert.equal(reader.counts(0).recorded, value);
  });

  it('an unknown event is passed over and counted', () => {
    const { writer, drain, reader } = setUp();
    writer.record(PAIR, 0, 0, 0n, [1]);
    writer.record(PAIR, 9, 0, 0n, [2]);
    writer.record(PAIR, 0, 0, 0n, [3]);
    assert.deepEqual(drain(), [1, 3]);
    assert.equal(reader.loss().corrupt, 1);
  });

  const sizes: [string, number, number][] = [
    ['too small', STRINGS.fixedBytes - 8, 0],
    ['too large', STRINGS.maxBytes + 8, 0],
    ['not a multiple of 8', STRINGS.fixedBytes + 4, 0],
    ['beyond 32 bits', STRINGS.fixedBytes, 1],
    ['past the head', STRINGS.fixedBytes + 128, 0],
  ];
  for (const [name, low, high] of sizes) {
    it(`a size that is ${name} is not believed`, () => {
      const { writer, drain, reader } = setUp();
      const position = writer.reserve(STRINGS.fixedBytes) ?? 0;
      writer.put(position, STRINGS.sizeOffset ?? 0, low, high);
      writer.commit(position, 1, 0);
      assert.deepEqual(drain(), []);
      writer.record(PAIR, 0, 0, 0n, [5]);
      drain();
      assert.equal(reader.loss().corrupt, 1);
    });
  }

  const heads: [string, bigint][] = [
    ['backwards', BigInt(RING)],
    ['too far', BigInt(RING * 9)],
    ['not aligned', BigInt(RING + 65)],
    ['beyond 2^53', 2n ** 63n + 8n],
    ['zero', 0n],
  ];
  for (const [name, head] of heads) {
    it(`a head that is ${name} is counted once, and reading goes on when it is sane again`, () => {
      const { writer, drain, reader, positions } = setUp();
      writer.record(PAIR, 0, 0, 0n, [1]);
      writer.record(PAIR, 0, 0, 0n, [2]);
      drain();
      const tail = positions[ContextHeader.tail / 8] ?? 0n;
      positions[ContextHeader.head / 8] = head;
      assert.deepEqual(drain(), []);
      assert.deepEqual(drain(), []);
      assert.equal(reader.loss().overrun, 1);
      const moved = positions[ContextHeader.tail / 8] ?? 0n;
      positions[ContextHeader.head / 8] = moved;
      assert.ok(moved === tail || moved === head);
      writer.record(PAIR, 0, 0, 0n, [3]);
      assert.deepEqual(drain(), [3]);
    });
  }
});

describe('a hostile segment', () => {
  const mutation = fc.record({
    word: fc.nat(),
    value: fc.oneof(fc.nat(0xffff_ffff), fc.nat(300), fc.constantFrom(0, 0xffff_ffff)),
    region: fc.constantFrom('anywhere', 'ring', 'ring', 'header', 'positions'),
  });
  it('ends every read quickly and never throws, whatever stands in it', () => {
    fc.assert(
      fc.property(fc.array(mutation, { maxLength: 60 }), fc.nat(200), (mutations, records) => {
        const { buffer, layout, reader } = makeSegment(3, RING, [PAIR, STRINGS]);
        let time = 10n ** 9n;
        const clock = new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9);
        const merger = new EventMerger({ clock, now: () => time });
        merger.add(reader);
        for (let context = 0; context < 3; context++) {
          const writer = new TaskWriter(buffer, layout, context);
          writer.claim(context + 1, 1, 'x');
          for (let at = 0; at < records; at++) writeEither(writer, at);
        }
        const words = new Uint32Array(buffer);
        const out = new LineBuffer();
        const exporters = [new TextExporter(), new JsonExporter()];
        for (const { word, value, region } of mutations) {
          words[placeOf(region, word, layout, words.length)] = value;
          time += 30_000_000n;
          const batch = merger.poll();
          assert.ok(batch.total <= 3 * (RING / 16) * 4);
          out.clear();
          batch.forEach((view) => {
            for (const exporter of exporters) exporter.format(view, out);
            view.toEvent();
          });
          for (const line of out.written().toString('utf8').split('\n')) {
            if (line.startsWith('{')) JSON.parse(line);
          }
        }
        reader.counts(0);
        reader.release(1, () => false);
        reader.markAllDead();
        merger.flush();
      }),
      { numRuns: 200 },
    );
  });

  it('one that makes every look for the next record as long as can be ends quickly', () => {
    const { buffer, layout, reader } = makeSegment(1, 1 << 20, [PAIR]);
    const writer = new TaskWriter(buffer, layout, 0);
    writer.claim(1, 1, 'x');
    const size = 1 << 20;
    for (let distance = 0; distance < size - 32; distance += 48)
      writer.commit(size + distance, 0, 0);
    new BigUint64Array(buffer, layout.contextsOffset, 32)[ContextHeader.head / 8] = BigInt(
      size * 2,
    );
    const started = performance.now();
    let found = 0;
    reader.markAllDead();
    reader.drain((_, index) => (found += index.count), 0);
    assert.ok(found > 20_000);
    assert.ok(performance.now() - started < 2000);
  });
});

/** A record of either kind, the second with a string and a fault. */
function writeEither(writer: TaskWriter, at: number): void {
  if (at % 3 > 0) {
    writer.record(PAIR, 0, 0, BigInt(at), [at, at]);
    return;
  }
  const text = Buffer.from('naïve'.repeat(at % 9));
  const bytes = (STRINGS.fixedBytes + text.length + 7) & ~7;
  const position = writer.reserve(bytes);
  if (position === undefined) return;
  writer.clock(position, BigInt(at));
  writer.put(position, STRINGS.sizeOffset ?? 0, bytes);
  writer.put(position, STRINGS.faultOffset ?? 0, at & 2);
  writer.put(position, STRINGS.fields[0]?.offset ?? 0, STRINGS.fixedBytes, text.length);
  writer.put(position, STRINGS.fields[1]?.offset ?? 0, at);
  writer.putBytes(position, STRINGS.fixedBytes, text);
  writer.commit(position, 1, 0);
}

function placeOf(
  region: string,
  word: number,
  layout: { contextsOffset: number; contextStride: number; ringOffset: number },
  words: number,
): number {
  const context = layout.contextsOffset + (word % 3) * layout.contextStride;
  if (region === 'ring') return (context + layout.ringOffset) / 4 + (word % (RING / 4));
  if (region === 'header') return word % 16;
  if (region === 'positions') {
    const field = [ContextHeader.tid, ContextHeader.tail, ContextHeader.head, RecordHeader.clock];
    return (context + (field[word % 4] ?? 0)) / 4;
  }
  return word % words;
}

describe('another thread writes while the reader drains', () => {
  it('every committed record is read once, none torn', async () => {
    const count = 60_000;
    const { buffer, layout, reader } = makeSegment(2, 1 << 14);
    const workers = [0, 1].map(
      (context) =>
        new Worker(new URL('./ring-worker.js', import.meta.url), {
          workerData: { buffer, layout, context, count },
        }),
    );
    const seen = [new Uint8Array(count + 1), new Uint8Array(count + 1)];
    let total = 0;
    const running = new Set(workers);
    let failure: Error | undefined;
    for (const worker of workers) {
      worker.on('exit', () => running.delete(worker));
      worker.on('error', (error) => (failure = error instanceof Error ? error : new Error('?')));
    }
    const drain = (): void => {
      reader.drain((context, index) => {
        const { bytes } = context.ring;
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
        for (let at = 0; at < index.count; at++) {
          const offset = index.offset[at] ?? 0;
          const value = view.getUint32(offset + 16, true);
          assert.equal(view.getUint32(offset + 20, true), context.index);
          assert.equal(view.getUint32(offset + 24, true), ~value >>> 0);
          assert.equal(view.getUint32(offset + 28, true), value);
          assert.equal(index.clockLow[at], value);
          const mine = seen[context.index];
          assert.ok(mine !== undefined && mine[value] === 0, `${value} twice`);
          mine[value] = 1;
          total++;
        }
      }, 0);
    };
    while (running.size > 0) {
      drain();
      await setImmediate();
    }
    drain();
    assert.equal(failure, undefined);
    for (const values of seen) assert.equal(values.indexOf(0), count, 'none missing');
    assert.equal(reader.counts(0).recorded, total);
    assert.deepEqual(reader.loss(), { abandoned: 0, corrupt: 0, overrun: 0 });
  });
});
