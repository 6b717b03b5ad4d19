import assert from 'node:assert/strict';
import { test } from 'node:test';
import { deliver } from '../../../src/cli/deliver.ts';
import { Ending, type EndReason } from '../../../src/cli/ending.ts';
import { ReaderGone } from '../../../src/cli/output.ts';
import { Clock } from '../../../src/events/clock.ts';
import { EventMerger } from '../../../src/events/merge.ts';
import type { EventBatch } from '../../../src/index.ts';
import { PAIR, TaskWriter, makeSegment } from '../events/writer.ts';

/** Batches with so many events each; `a` counts them from 0. Says which were asked for. */
async function* batchesOf(
  sizes: readonly number[],
  asked: number[],
): AsyncGenerator<EventBatch, void> {
  const segment = makeSegment(1, 1 << 20, [PAIR]);
  let now = 1_000_000n;
  const merger = new EventMerger({
    clock: new Clock({ ticks: 0n, nanoseconds: 0n }, 1e9),
    now: () => now,
    marginNanoseconds: 0,
  });
  merger.add(segment.reader);
  const writer = new TaskWriter(segment.buffer, segment.layout, 0);
  writer.claim(7, 7, 'zsh');
  let count = 0;
  for (const [at, size] of sizes.entries()) {
    asked.push(at);
    for (let each = 0; each < size; each++) {
      assert.ok(writer.record(PAIR, 0, 1, now++, [count++, 0]));
    }
    now++;
    yield merger.poll();
    await Promise.resolve();
  }
}

/** Delivers JSON; a sink that breaks after `room` writes. */
async function run(
  sizes: readonly number[],
  options: { number?: number; room?: number } = {},
): Promise<{ seen: number[]; reason: EndReason | undefined; asked: number[]; largest: number }> {
  const asked: number[] = [];
  let text = '';
  let room = options.room ?? Infinity;
  let largest = 0;
  const sink = {
    write: async (bytes: Uint8Array): Promise<void> => {
      if (room-- <= 0) throw new ReaderGone();
      largest = Math.max(largest, bytes.length);
      text += Buffer.from(bytes).toString();
      await Promise.resolve();
    },
  };
  using ending = new Ending({ on: () => {}, off: () => {} });
  const number = options.number === undefined ? {} : { number: options.number };
  await deliver(batchesOf(sizes, asked), sink, { format: 'json', ...number }, ending);
  const lines = text === '' ? [] : text.trimEnd().split('\n');
  const seen = lines.map((line) => {
    const event: unknown = JSON.parse(line);
    assert.ok(typeof event === 'object' && event !== null && 'args' in event);
    return Number(Reflect.get(Object(event.args), 'a'));
  });
  return { seen, reason: ending.reason, asked, largest };
}

function upTo(count: number): number[] {
  return Array.from({ length: count }, (_, at) => at);
}

test('every event of every batch is written once, and the end of all is no reason', async () => {
  const { seen, reason, asked } = await run([3, 0, 2]);
  assert.deepEqual(seen, upTo(5));
  assert.equal(reason, undefined);
  assert.deepEqual(asked, [0, 1, 2]);
});

test('a count stops at exactly that many, and asks for no further batch', async () => {
  for (const [number, batches] of [
    [1, 1],
    [3, 1],
    [4, 2],
  ] as const) {
    const { seen, reason, asked } = await run([3, 3, 3], { number });
    assert.deepEqual(seen, upTo(number));
    assert.deepEqual(reason, { kind: 'count' });
    assert.equal(asked.length, batches);
  }
});

test('a reader that goes away is a reason, and nothing more is asked for', async () => {
  const { seen, reason, asked } = await run([2, 2, 2], { room: 1 });
  assert.deepEqual(seen, upTo(2));
  assert.deepEqual(reason, { kind: 'reader-gone' });
  assert.equal(asked.length, 2);
});

test('a large batch is written in pieces of bounded size', async () => {
  const { seen, largest } = await run([20_000]);
  assert.deepEqual(seen, upTo(20_000));
  assert.ok(largest < 300_000, `${largest} bytes at once`);
});

test('events without a pause leave room for signals and timers', async () => {
  const timer = { heard: false };
  setTimeout(() => {
    timer.heard = true;
  }, 1);
  let batches = 0;
  /** The same batch again and again, at once. */
  async function* endless(): AsyncGenerator<EventBatch, void> {
    for await (const batch of batchesOf([1], [])) {
      for (; !timer.heard; batches++) {
        assert.ok(batches < 10_000_000, 'the timer was never heard');
        yield batch;
      }
    }
  }
  const sink = { write: (): Promise<void> => Promise.resolve() };
  await deliver(endless(), sink, { format: 'text' }, { ask: () => {} });
  assert.ok(batches > 0);
});

test('other errors are thrown on', async () => {
  const sink = {
    write: (): Promise<void> => Promise.reject(new Error('no space left on device')),
  };
  const ending = { ask: (): void => assert.fail('asked') };
  await assert.rejects(deliver(batchesOf([1], []), sink, { format: 'text' }, ending), /no space/);
});
