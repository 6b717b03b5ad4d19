import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';

import { Clock } from '../../../src/events/clock.ts';
import type { TraceEvent } from '../../../src/events/event.ts';
import { EventMerger } from '../../../src/events/merge.ts';
import { ContextHeader } from '../../../src/events/layout.ts';
import { PAIR, TaskWriter, makeSegment } from './writer.ts';

const RING = 4096;

/** A world with a clock of one tick a nanosecond that the test moves. */
function world(contexts: number, ringBytes = RING) {
  const segment = makeSegment(contexts, ringBytes);
  let time = 1_000_000_000n;
  const clock = new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9);
  const merger = new EventMerger({ clock, now: () => time, marginNanoseconds: 0 });
  merger.add(segment.reader);
  const writers = Array.from({ length: contexts }, (_, at) => {
    const writer = new TaskWriter(segment.buffer, segment.layout, at);
    writer.claim(100 + at, 50, `task${at}`);
    return writer;
  });
  return {
    ...segment,
    merger,
    writers,
    now: () => time,
    advance: (nanoseconds: number) => (time += BigInt(nanoseconds)),
  };
}

describe('merging', () => {
  it('delivers what is older than the poll, in order of time', () => {
    const { merger, writers, advance, now } = world(3);
    for (let round = 0; round < 20; round++) {
      advance(10);
      writers[(round * 2) % 3]?.record(PAIR, 0, round, now(), [round, 0]);
    }
    advance(1);
    const events = Array.from(merger.poll(), (event) => event.toEvent());
    assert.deepEqual(
      events.map(({ args }) => args['a']),
      Array.from({ length: 20 }, (_, at) => BigInt(at)),
    );
    assert.deepEqual(events[5], {
      ts: 1_000_000_060n,
      pid: 50,
      tid: 101,
      cpu: 5,
      comm: 'task1',
      event: 'group:event0',
      address: 0x5500_0000_1000n,
      args: Object.assign(Object.create(null), { a: 5n, b: 0n }) as TraceEvent['args'],
      late: false,
    } satisfies TraceEvent);
    assert.equal(merger.poll().count, 0);
  });

  it('an uncommitted record holds the others back, for the hold time at most', () => {
    const { merger, writers, advance, now, reader } = world(2);
    const [first, second] = writers;
    advance(10);
    merger.poll();
    advance(10);
    const position = first?.reserve(32) ?? 0;
    advance(10);
    second?.record(PAIR, 0, 0, now(), [1, 0]);
    advance(10);
    assert.equal(merger.poll().count, 0);
    advance(60_000_000);
    assert.equal(merger.poll().count, 0);
    advance(50_000_000);
    assert.equal(merger.poll().count, 1, 'waited for 100 ms');
    first?.clock(position, now() - 110_000_020n);
    first?.commit(position, 0, 0);
    advance(10);
    assert.deepEqual(
      Array.from(merger.poll(), (event) => event.late),
      [true],
      'late, not lost',
    );
    assert.equal(reader.loss().abandoned, 0);
  });

  it('an uncommitted record with others behind it is given up after the hold time', () => {
    const { merger, writers, advance, now, reader } = world(1);
    const position = writers[0]?.reserve(32) ?? 0;
    writers[0]?.record(PAIR, 0, 0, now(), [1, 0]);
    merger.poll();
    advance(110_000_000);
    assert.equal(merger.poll().count, 1);
    writers[0]?.commit(position, 0, 0);
    advance(10);
    assert.equal(merger.poll().count, 0, 'what was given up is not read afterwards');
    assert.equal(reader.loss().abandoned, 1);
  });

  it('one gap after another holds nobody back for longer than one', () => {
    const { merger, writers, advance, now, reader } = world(2);
    for (let gap = 0; gap < 50; gap++) {
      writers[0]?.reserve(32);
      writers[0]?.record(PAIR, 0, 0, now(), [gap, 0]);
    }
    advance(10);
    merger.poll();
    const values: bigint[] = [];
    for (let round = 0; round < 30; round++) {
      advance(20_000_000);
      writers[1]?.record(PAIR, 0, 0, now(), [1000 + round, 0]);
      for (const event of merger.poll()) values.push(event.bigint(0));
      const delivered = values.filter((value) => value >= 1000n).length;
      assert.ok(delivered >= round - 5, `${delivered} of ${round}`);
    }
    assert.ok(reader.loss().abandoned > 2);
  });

  it('a reservation may shrink before its commit, which moves the head back', () => {
    const { merger, writers, advance, now, reader, buffer, layout } = world(1);
    const position = writers[0]?.reserve(64) ?? 0;
    merger.poll();
    advance(110_000_000);
    merger.poll();
    const positions = new BigUint64Array(buffer, layout.contextsOffset, 32);
    positions[ContextHeader.head / 8] = BigInt(position + 32);
    writers[0]?.clock(position, now());
    writers[0]?.commit(position, 0, 0);
    writers[0]?.record(PAIR, 0, 0, now(), [1, 0]);
    advance(10);
    assert.equal(merger.poll().count, 2);
    assert.deepEqual(reader.loss(), { abandoned: 0, corrupt: 0, overrun: 0 });
  });

  it('flags an event that comes after a later one', () => {
    const { merger, writers, advance, now } = world(2);
    const early = now();
    advance(100);
    writers[0]?.record(PAIR, 0, 0, now(), [1, 0]);
    advance(100);
    assert.deepEqual(
      Array.from(merger.poll(), (event) => event.late),
      [false],
    );
    writers[1]?.record(PAIR, 0, 0, early, [2, 0]);
    writers[1]?.record(PAIR, 0, 0, now(), [3, 0]);
    advance(100);
    assert.deepEqual(
      Array.from(merger.poll(), (event) => event.late),
      [true, false],
    );
  });

  it('a time in the future is taken for now, and does not spoil the order of what follows', () => {
    const { merger, writers, advance, now } = world(1);
    writers[0]?.record(PAIR, 0, 0, now() + 10n ** 18n, [1, 0]);
    merger.poll();
    advance(100);
    writers[0]?.record(PAIR, 0, 0, now(), [2, 0]);
    advance(100);
    const events = Array.from(merger.poll(), (event) => event.toEvent());
    assert.deepEqual(
      events.map(({ ts, late }) => [ts, late]),
      [
        [1_000_000_000n, false],
        [1_000_000_100n, false],
      ],
    );
  });
});

/** One step of the interleaving: which task does what. */
const step = fc.record({
  task: fc.nat(2),
  action: fc.constantFrom('record', 'record', 'begin', 'finish', 'die', 'poll', 'wait'),
});

describe('any interleaving', () => {
  it('every committed record is read once, in order, and the sums are exact', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
        const { merger, writers, advance, now, reader } = world(3);
        const pending: number[][] = [[], [], []];
        const committed: bigint[] = [];
        const seen: bigint[] = [];
        let next = 1;
        let hits = 0;
        let lost = 0;
        const waited = steps.filter(({ action }) => action === 'wait').length;
        // Within the hold time nothing is given up that is still going to be committed, or late.
        const inTime = waited < 90;
        let previous = 0n;
        const poll = (): void => {
          for (const event of merger.poll()) {
            assert.ok(!(inTime && event.late));
            assert.equal(event.late, event.timestamp < previous);
            if (!event.late) previous = event.timestamp;
            assert.equal(event.low(1), event.low(0) ^ 0x5a5a, 'not torn');
            seen.push(event.bigint(0));
          }
        };
        const commit = (task: number, position: number): void => {
          const value = next++;
          const writer = writers[task];
          writer?.clock(position, now());
          writer?.put(position, 16, value);
          writer?.put(position, 24, value ^ 0x5a5a);
          writer?.commit(position, 0, task);
          committed.push(BigInt(value));
        };
        for (const { task, action } of steps) {
          const writer = writers[task];
          const stack = pending[task] ?? [];
          advance(7);
          if (action === 'poll') poll();
          else if (action === 'wait') advance(1_000_000);
          else if (action === 'finish') {
            const position = stack.pop();
            if (position !== undefined) commit(task, position);
          } else if (action === 'die') {
            lost += stack.splice(0).length;
          } else {
            hits++;
            writer?.count(0, 'hits');
            const position = writer?.reserve(32);
            if (position === undefined) writer?.count(0, 'ringFull');
            else if (action === 'begin') stack.push(position);
            else commit(task, position);
          }
        }
        lost += pending.flat().length;
        reader.markAllDead();
        advance(1);
        poll();
        advance(1);
        poll();
        const counts = reader.counts(0);
        assert.equal(counts.hits, hits);
        assert.equal(counts.recorded, seen.length);
        assert.equal(new Set(seen).size, seen.length, 'none twice');
        if (inTime) {
          assert.deepEqual(seen.toSorted(ascending), committed.toSorted(ascending), 'none missing');
          assert.equal(counts.hits, counts.recorded + counts.ringFull + lost);
        }
      }),
      { numRuns: 300 },
    );
  });
});

function ascending(left: bigint, right: bigint): number {
  return left < right ? -1 : Number(left > right);
}
