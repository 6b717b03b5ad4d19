import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { attach, type ProbeRequest, type Summary } from '../../src/index.ts';
import { requireProgram } from '../harness/fixtures.ts';
import type { Target } from '../harness/target.ts';
import { countOf, Running } from './cli-support.ts';
import { assertExact, eventOf, Reading } from './jump-support.ts';
import { leavingKernelClean, OwnFixture, skipEngine } from './kernel-support.ts';

const FUNCTIONS = ['a_nop', 'a_long_nop', 'a_patched_nop', 'a_jump', 'a_push', 'a_move'] as const;

const METER = fileURLToPath(new URL('kernel-meter.js', import.meta.url));

/** Has every function called so often. @returns the calls of each since the start */
async function call(target: Target, times: number): Promise<number> {
  target.send(String(times));
  return Number((await target.waitForLine(/^called/, 60_000)).split(' ')[1]);
}

/** The bill is what its lines say: the hits of each event, times what one costs. */
function assertBill({ events, bill }: Summary): void {
  const sum = events.reduce((total, one) => total + one.hits * one.costNanoseconds, 0);
  assert.ok(Math.abs(sum - bill.stubNanoseconds) < 1, `${sum} and ${bill.stubNanoseconds}`);
  for (const { event, costNanoseconds } of events) assert.ok(costNanoseconds > 0, event);
}

test('the cost of a hit is that of its instruction, and nothing of the measuring is seen', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['kinds.c'] });
  await using target = await fixture.start();
  const probes = [
    ...FUNCTIONS.map((name) => `${name}@kinds number=%di:u64 text=+0(%si):string`),
    'p:of/several a_nop@kinds',
    'p:of/several a_move@kinds',
    'a_nop@kinds number=%di:u64 if number < 3',
  ];
  await leavingKernelClean(target, 'kernel', async () => {
    await using session = await attach({ pids: [target.pid] }, { engine: 'kernel', probes });
    const events = new Reading(session);
    const first = await call(target, 10);
    const early = await session.summary();
    assertBill(early);
    // Measured while events are on: none of those hits is one of the session's.
    const calls = await call(target, 15);
    const summary = await session.stop();
    await events.done;
    assert.deepEqual([first, calls], [10, 25]);
    assertExact(summary);
    assertBill(summary);
    for (const name of FUNCTIONS) {
      const { hits, recorded, event } = eventOf(summary, name);
      assert.deepEqual([hits, recorded, events.count(event)], [calls, calls, calls], name);
    }
    assert.equal(eventOf(summary, 'several').hits, 2 * calls);
    const few = eventOf(summary, 'a_nop_1');
    assert.deepEqual([few.recorded, few.filtered], [3, calls - 3]);
    assert.equal(events.total, calls * (FUNCTIONS.length + 2) + 3);
    // What is executed elsewhere, by a single step, costs one trap more than what is emulated.
    const cost = (name: string): number => eventOf(summary, name).costNanoseconds;
    for (const name of ['a_nop', 'a_jump', 'a_push', 'several']) {
      assert.ok(cost('a_move') > cost(name), `${cost('a_move')} and ${name} ${cost(name)}`);
    }
    assert.ok(cost('several') > cost('a_nop'));
  });
});

test('a probe that was taken out, and one that only counts, have their prices', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['kinds.c'] });
  await using target = await fixture.start();
  const probes: ProbeRequest[] = [
    { definition: 'a_push@kinds' },
    { definition: 'a_nop@kinds', action: 'count' },
  ];
  await leavingKernelClean(target, 'kernel', async () => {
    await using session = await attach({ pids: [target.pid] }, { engine: 'kernel', probes });
    const events = new Reading(session);
    await call(target, 5);
    const [push] = session.probes;
    assert.ok(push !== undefined);
    await session.remove(push);
    const added = await session.add('a_move@kinds');
    await call(target, 7);
    await session.remove(added);
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    assertBill(summary);
    assert.equal(eventOf(summary, 'a_push').recorded, 5);
    assert.equal(eventOf(summary, 'a_nop').aggregated, 12);
    assert.equal(eventOf(summary, 'a_move').recorded, 7);
  });
});

test('every process: the summary ends with the bill', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['kinds.c'] });
  await using target = await fixture.start();
  await leavingKernelClean(target, 'kernel', async () => {
    const probe = `a_push@${fixture.path} number=%di:u64`;
    await using running = new Running(['trace', '--engine', 'kernel', '--all', probe]);
    await running.until('err', /1 probe in every process/);
    await call(target, 12);
    running.child.kill('SIGINT');
    const { status, err, out } = await running.result();
    assert.equal(status, 0, err);
    assert.equal(out.trimEnd().split('\n').length, 12);
    assert.equal(countOf(err, 'probe_kinds:a_push', 'hits'), 12);
    assert.match(err, /^bill: 12 hits × [\d.]+ [nµ]s = [\d.]+ [nµm]?s\n$/m);
  });
});

/** What hits cost that are executed by a single step, in nanoseconds, each measured on one processor. */
function costsOfSteps(times: number): number[] {
  const words = ['-c', '0', process.execPath, METER, String(times)];
  const options = { encoding: 'utf8', timeout: 120_000 } as const; // the literal
  const { status, stdout, stderr } = spawnSync(requireProgram('taskset'), words, options);
  assert.equal(status, 0, stderr);
  return stdout.trimEnd().split('\n').map(Number);
}

test('on a processor that others keep busy a hit costs what it costs on one that is idle', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  const [idle = 0] = costsOfSteps(1);
  // It comes back every half millisecond, before us, and stays for one.
  const spin =
    'const word = new Int32Array(new SharedArrayBuffer(4)); process.stdout.write("ready");' +
    'for (;;) { Atomics.wait(word, 0, 0, 0.5);' +
    'for (const begin = performance.now(); performance.now() - begin < 1;); }';
  const words = ['-c', '0', 'nice', '-n', '-20', process.execPath, '-e', spin];
  const other = spawn(requireProgram('taskset'), words, { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await once(other.stdout, 'data');
    const dear = costsOfSteps(30).filter((one) => !(one > idle / 2 && one < idle * 2));
    assert.deepEqual(dear, [], `${idle} where it is idle`);
  } finally {
    other.kill('SIGKILL');
  }
});
