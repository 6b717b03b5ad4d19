import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { PAGE_BYTES } from '../../../src/base/page.ts';
import { accountFor, isExact } from '../../../src/events/account.ts';
import { DescriptorTable } from '../../../src/events/descriptor.ts';
import { readHits, type ReadSegment } from '../../../src/events/hit-counts.ts';
import {
  ContextHeader,
  SEGMENT_MAGIC,
  SegmentHeader,
  SharedCounter,
  layoutRecord,
} from '../../../src/events/layout.ts';
import { SegmentReader } from '../../../src/events/segment.ts';
import { PAIR, partsOf, TaskWriter, makeSegment } from './writer.ts';

const RING = 4096;

function setUp() {
  const segment = makeSegment(2, RING);
  const writer = new TaskWriter(segment.buffer, segment.layout, 0);
  writer.claim(7, 6, 'first');
  const drain = (now = 0): string[] => {
    const found: string[] = [];
    segment.reader.drain((context, index) => {
      const { pid, tid, comm } = context.identity;
      for (let at = 0; at < index.count; at++) found.push(`${comm}-${pid}/${tid}`);
    }, now);
    return found;
  };
  const header = new Uint32Array(segment.buffer, segment.layout.contextsOffset, 40);
  return { ...segment, writer, drain, header };
}

/** Reads a segment from outside. */
function over(buffer: ArrayBufferLike): ReadSegment {
  return (offset, length) =>
    offset + length <= buffer.byteLength ? new Uint8Array(buffer, offset, length) : undefined;
}

describe('a segment', () => {
  it('is formatted as the layout says, every context untouched', () => {
    const { buffer, layout } = makeSegment(2, RING);
    const view = new DataView(buffer);
    assert.equal(view.getBigUint64(SegmentHeader.magic, true), SEGMENT_MAGIC);
    assert.equal(view.getUint32(SegmentHeader.contextCount, true), 2);
    for (const context of [0, 1]) {
      const at = layout.contextsOffset + context * layout.contextStride;
      assert.equal(view.getBigUint64(at + ContextHeader.head, true), 0n);
      assert.equal(view.getBigUint64(at + ContextHeader.tail, true), 0n);
    }
  });

  it('is looked at in parts: a context when it is claimed, nothing behind the last', () => {
    const { buffer, layout } = makeSegment(3, RING);
    const asked: [number, number][] = [];
    const shape = { contextCount: 3, consumerCapacity: 16, ringBytes: RING };
    const reader = new SegmentReader({
      part: (offset, length) => {
        asked.push([offset, length]);
        return partsOf(buffer)(offset, length);
      },
      shape,
      table: new DescriptorTable(),
    });
    const { contextsOffset, contextStride, totalBytes } = layout;
    assert.deepEqual(asked.splice(0), [[0, contextsOffset]]);
    new TaskWriter(buffer, layout, 0).claim(7, 6, 'first');
    new TaskWriter(buffer, layout, 1).claim(8, 6, 'second');
    for (let time = 0; time < 2; time++) reader.discover();
    assert.deepEqual(asked.splice(0), [
      [contextsOffset, contextStride],
      [contextsOffset + contextStride, contextStride],
    ]);
    new BigUint64Array(buffer, SegmentHeader.claimed, 1)[0] = 2n ** 64n - 1n;
    reader.discover();
    assert.deepEqual(asked, [[totalBytes - contextStride, contextStride]]);
  });

  it('refuses layouts that are impossible', () => {
    const table = new DescriptorTable();
    const descriptor = { name: 'a:b', address: 0n, layout: { ...PAIR, fixedBytes: 20 } };
    assert.throws(() => table.set(0, descriptor), RangeError);
    assert.throws(() => table.set(65_536, { ...descriptor, layout: PAIR }), RangeError);
  });

  it('knows the owner of every event, whenever during a read the context is claimed', (context) => {
    // The claim falls behind each load of the reader in turn.
    for (let at = 1; at <= 12; at++) {
      const segment = makeSegment(1, RING);
      const writer = new TaskWriter(segment.buffer, segment.layout, 0);
      const found: string[] = [];
      const drain = (): void =>
        segment.reader.drain(({ identity: { pid, tid, comm } }, index) => {
          for (let entry = 0; entry < index.count; entry++) found.push(`${comm}-${pid}/${tid}`);
        }, 0);
      new BigUint64Array(segment.buffer)[SegmentHeader.claimed / 8] = 1n;
      drain();
      const load = Atomics.load;
      let loads = 0;
      const mock = context.mock.method(Atomics, 'load', (...words: Parameters<typeof load>) => {
        const value = load(...words);
        if (++loads === at) {
          writer.claim(7, 6, 'first');
          writer.record(PAIR, 0, 0, 0n, [at]);
        }
        return value;
      });
      drain();
      mock.mock.restore();
      drain();
      assert.ok(loads < at || found.length === 1, `after load ${at}`);
      assert.deepEqual([...new Set(found)], loads < at ? [] : ['first-6/7'], `after load ${at}`);
    }
  });

  it('never looks past the last context, whatever number is claimed', () => {
    const { buffer, reader, drain } = setUp();
    new BigUint64Array(buffer, SegmentHeader.claimed, 1)[0] = 2n ** 64n - 1n;
    drain();
    assert.equal(reader.contexts.length, 2);
  });

  it('asks for the name of a task at most every 100 ms', () => {
    const { buffer, layout, table } = setUp();
    let asked = 0;
    const shape = { contextCount: 2, consumerCapacity: 16, ringBytes: RING };
    const taskName = (): string => `name${asked++}`;
    const reader = new SegmentReader({ part: partsOf(buffer), shape, table, taskName });
    const seen: (string | undefined)[] = [];
    for (let now = 0; now <= 250; now += 10) {
      reader.drain(() => undefined, now);
      seen.push(reader.contexts[0]?.identity.comm);
    }
    assert.equal(layout.contextCount, 2);
    assert.equal(asked, 2);
    assert.deepEqual([...new Set(seen)], ['first', 'name0', 'name1']);
  });
});

describe('a context given back', () => {
  it('delivers its last records, keeps its counts, and serves another task', () => {
    const { writer, drain, reader, header, buffer, layout } = setUp();
    drain();
    for (let at = 0; at < 100; at++) {
      writer.count(0, 'hits');
      writer.record(PAIR, 0, 0, 0n, [at]);
    }
    writer.count(0, 'hits');
    writer.reserve(32); // it died inside
    assert.ok(reader.release(0, () => false));
    assert.notEqual(header[ContextHeader.tid / 4], 0, 'not free before the last drain');
    assert.deepEqual(
      drain(),
      Array.from({ length: 100 }, () => 'first-6/7'),
    );
    assert.equal(header[ContextHeader.tid / 4], 0);
    const ring = new Uint8Array(buffer, layout.contextsOffset + layout.ringOffset, RING);
    assert.ok(ring.every((byte) => byte === 0));
    writer.claim(9, 8, 'second');
    writer.count(0, 'hits');
    writer.record(PAIR, 0, 0, 0n, [1]);
    assert.deepEqual(drain(), ['second-8/9']);
    assert.equal(reader.counts(0).hits, 102);
    assert.equal(reader.counts(0).recorded, 101);
    const account = accountFor(reader, [0]);
    assert.ok(account.exact);
    assert.equal(account.consumers[0]?.missed.abandoned, 1);
  });

  it('is free at once where its ring holds nothing: nobody may drain', () => {
    const { writer, reader, header } = setUp();
    writer.count(0, 'aggregated');
    reader.identify(0);
    assert.ok(reader.contexts[0]?.isTaken);
    assert.ok(reader.release(0, () => false));
    assert.equal(header[ContextHeader.tid / 4], 0);
    assert.ok(!reader.contexts[0]?.isTaken);
    writer.claim(9, 8, 'second');
    writer.count(0, 'aggregated');
    reader.identify(0);
    assert.deepEqual(reader.contexts[0]?.identity, { pid: 8, tid: 9, comm: 'second' });
    assert.equal(reader.counts(0).aggregated, 2);
  });

  it('stays with a task that lives, and is asked after its id was taken away', () => {
    const { drain, reader, header } = setUp();
    drain();
    const during: (number | undefined)[] = [];
    const isAlive = (): boolean => {
      during.push(header[ContextHeader.tid / 4]);
      return true;
    };
    assert.equal(reader.release(0, isAlive), false);
    assert.deepEqual(during, [0xffff_ffff]);
    assert.equal(header[ContextHeader.tid / 4], 7);
  });

  it('is left alone when somebody else has it by now, or nobody', () => {
    const { drain, reader, header } = setUp();
    drain();
    header[ContextHeader.tid / 4] = 11;
    assert.equal(
      reader.release(0, () => false),
      false,
    );
    assert.equal(
      reader.release(1, () => false),
      false,
    );
    assert.equal(header[ContextHeader.tid / 4], 11);
  });
});

describe('the account', () => {
  it('adds up every reason', () => {
    const { writer, drain, reader, buffer } = setUp();
    const shared = new BigUint64Array(buffer, PAGE_BYTES, 4);
    shared[SharedCounter.noContext / 8] = 3n;
    shared[SharedCounter.tracerGone / 8] = 2n;
    shared[SharedCounter.aggregated / 8] = 7n;
    shared[SharedCounter.filtered / 8] = 6n;
    for (let at = 0; at < 200; at++) {
      if (at % 10 === 0) {
        writer.count(0, 'filtered');
        continue;
      }
      writer.count(0, 'hits');
      if (!writer.record(PAIR, 0, 0, 0n, [])) writer.count(0, 'ringFull');
    }
    drain();
    for (let at = 0; at < 5; at++) writer.count(0, 'aggregated');
    const { consumers, exact } = accountFor(reader, [0]);
    assert.deepEqual(consumers, [
      {
        hits: 223,
        recorded: 128,
        aggregated: 12,
        filtered: 26,
        contextless: { filtered: 6, aggregated: 7 },
        missed: { ringFull: 52, noContext: 3, tracerGone: 2, abandoned: 0, textsTooLong: 0 },
      },
    ]);
    assert.ok(exact);
    assert.ok(consumers.every(isExact));
  });

  it('is not exact where a hit has no reason, or a record no hit', () => {
    const { writer, drain, reader } = setUp();
    drain();
    writer.count(0, 'hits');
    assert.equal(accountFor(reader, [0]).exact, false);
    writer.record(PAIR, 0, 0, 0n, []);
    drain();
    assert.ok(accountFor(reader, [0]).exact);
    writer.record(PAIR, 0, 0, 0n, []);
    drain();
    assert.equal(accountFor(reader, [0]).exact, false);
  });
});

describe('hits read from outside', () => {
  it('are those of the account, with the tasks of contexts that were given back', () => {
    const { writer, drain, reader, buffer } = setUp();
    const shared = new BigUint64Array(buffer, PAGE_BYTES, 4);
    shared[SharedCounter.noContext / 8] = 3n;
    shared[SharedCounter.tracerGone / 8] = 2n;
    shared[SharedCounter.aggregated / 8] = 1n;
    shared[SharedCounter.filtered / 8] = 1n;
    for (const counter of ['hits', 'filtered', 'aggregated', 'ringFull'] as const) {
      writer.count(0, counter);
    }
    drain();
    reader.release(0, () => false);
    drain();
    writer.claim(9, 8, 'second');
    writer.count(0, 'hits');
    drain();
    assert.equal(reader.counts(0).hits, 11);
    const hits = readHits(over(buffer), buffer.byteLength, [0, 1 << 20]);
    assert.deepEqual([...(hits ?? [])], [[0, 11]]);
  });

  it('are none where the segment contradicts itself, or ends early', () => {
    const { buffer } = setUp();
    const view = new DataView(buffer);
    assert.equal(readHits(over(buffer), buffer.byteLength - 1, [0]), undefined);
    assert.equal(
      readHits(() => undefined, buffer.byteLength, [0]),
      undefined,
    );
    for (const [at, value] of [
      [SegmentHeader.contextCount, 0xffff_ffff],
      [SegmentHeader.consumerCapacity, 0xffff_ffff],
      [SegmentHeader.ringBytes, 0xffff_ffff],
      [SegmentHeader.version, 0],
      [SegmentHeader.magic, 0],
    ] as const) {
      const before = view.getUint32(at, true);
      view.setUint32(at, value, true);
      assert.equal(readHits(over(buffer), 2 ** 32, [0]), undefined);
      view.setUint32(at, before, true);
    }
    // As many contexts as it likes: those behind the last are not there.
    new BigUint64Array(buffer)[SegmentHeader.claimed / 8] = 2n ** 64n - 1n;
    assert.deepEqual([...(readHits(over(buffer), buffer.byteLength, [0]) ?? [])], [[0, 0]]);
  });
});

describe('a record layout', () => {
  it('gives each faulting field a bit, past 64 of them too', () => {
    const fields = Array.from({ length: 70 }, (_, at) => ({
      name: `f${at}`,
      type: 'u64' as const, // the literal, for FieldSpecification
      canFault: true,
    }));
    const layout = layoutRecord(fields);
    assert.equal(layout.fields[69]?.faultBit, 69);
    assert.equal((layout.fields[0]?.offset ?? 0) - (layout.faultOffset ?? 0), 16);
  });
});
