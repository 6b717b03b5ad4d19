/** Announcements, executed: who announces is told from others, waits until it is answered, and never for ever. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { ANNOUNCEMENT_PATIENCE } from '../../../src/engines/jump/announce-code.ts';
import { Announcements } from '../../../src/events/announcements.ts';
import type { Program } from '../../../src/probe/program.ts';
import { ownPid, ownTaskId } from '../../../src/sys/signals.ts';
import { FUTEX_OWNER_DIED } from '../../../src/sys/robust.ts';
import { mapRegion, STATE_WORDS } from '../x64/executable.ts';
import { makeBench, type Bench } from './bench.ts';

const PATIENCE = ANNOUNCEMENT_PATIENCE / 1e6;
const STATE = [
  ...Array.from({ length: STATE_WORDS - 1 }, (_, at) => BigInt(at + 1) * 0x0123_4567_89abn),
  0xad7n, // CF PF AF ZF SF IF OF
];

function announcing(more: Partial<Program> = {}): Bench {
  const program = { arguments: [], filter: undefined, action: 'announce' as const, ...more };
  return makeBench(program, 'memory');
}

function of(bench: Bench): Announcements {
  return new Announcements(bench.segment.bytes.buffer);
}

/** Makes a hit, after which everything is as before. @returns how long it took, in milliseconds. */
function hit(bench: Bench): number {
  const began = performance.now();
  assert.deepEqual(bench.run(STATE), STATE);
  return performance.now() - began;
}

test('an announcement says which task it is; who is not answered goes on, and waits only once', () => {
  const bench = announcing();
  const announcements = of(bench);
  assert.equal(announcements.pending(), undefined);
  assert.ok(hit(bench) >= PATIENCE);
  const own = { pid: Number(ownPid()), tid: ownTaskId(), consumer: 1 };
  assert.deepEqual(pendingOf(announcements), { last: 1, known: [own], unknown: 0 });
  assert.ok(hit(bench) < PATIENCE);
  assert.deepEqual(pendingOf(announcements), { last: 2, known: [own, own], unknown: 0 });
  announcements.serve(2);
  assert.equal(announcements.pending(), undefined);
  // The session has come back: it is waited for again.
  assert.ok(hit(bench) >= PATIENCE);
  assert.deepEqual(pendingOf(announcements), { last: 3, known: [own], unknown: 0 });
});

/** What is pending, but for where each task's registers are: on its stack. */
function pendingOf(announcements: Announcements): object | undefined {
  const pending = announcements.pending();
  const known = pending?.known.map(({ frame, ...task }) => {
    assert.ok(frame > 0n && frame % 8n === 0n);
    return task;
  });
  return pending && { ...pending, known };
}

/** Has hits answered by another thread, each so many microseconds after it was heard. */
async function answered(
  count: number,
  delay: number,
  times: (milliseconds: number) => void,
): Promise<void> {
  const bench = announcing();
  const workerData = { segment: bench.segment.address, count, delay };
  const server = new Worker(new URL('./announce-server.js', import.meta.url), { workerData });
  try {
    const ended = once(server, 'exit');
    await once(server, 'message');
    for (let at = 0; at < count; at++) times(hit(bench));
    assert.deepEqual(await ended, [0]);
  } finally {
    await server.terminate();
  }
  assert.equal(of(bench).pending(), undefined);
  assert.equal(of(bench).count, count);
}

test('who is answered meanwhile goes on at once', async () => {
  await answered(20, 0, (time) => assert.ok(time < PATIENCE));
});

test('a session that has heard is waited for longer', async () => {
  const delay = PATIENCE * 1.5;
  await answered(2, delay * 1000, (time) => assert.ok(time >= delay));
});

test('a session that is gone is neither told nor waited for', () => {
  const bench = announcing();
  new DataView(bench.liveness.bytes.buffer).setUint32(0, FUTEX_OWNER_DIED, true);
  assert.ok(hit(bench) < PATIENCE);
  assert.equal(of(bench).count, 0);
});

test('a session that does not listen, yet or any more, is neither told nor waited for', () => {
  const bench = announcing();
  const announcements = of(bench);
  announcements.close();
  for (let at = 0; at < 3; at++) assert.ok(hit(bench) < PATIENCE);
  assert.equal(announcements.count, 0);
  assert.equal(announcements.pending(), undefined);
  announcements.open();
  assert.ok(hit(bench) >= PATIENCE);
  assert.equal(announcements.pending()?.last, 1);
});

test('a hit passes by while the word is set that it is told', () => {
  const word = mapRegion(0x3_9000_0000n, 4096);
  const { site } = announcing();
  const bench = announcing({ passesWhile: word.address - (site + (1n << 24n)) });
  const announcements = of(bench);
  word.bytes[0] = 1;
  hit(bench);
  assert.equal(announcements.count, 0);
  word.bytes[0] = 0;
  word.bytes[4] = 1;
  hit(bench);
  assert.equal(announcements.count, 1);
});
