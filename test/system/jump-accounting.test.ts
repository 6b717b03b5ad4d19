import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, type ProbeRequest, type SessionOptions, type Summary } from '../../src/index.ts';
import {
  assertExact,
  countOf,
  difference,
  eventOf,
  leavingClean,
  Reading,
  startSelfCheck,
  step,
  type Counts,
} from './jump-support.ts';

/** Functions of self-check that are called only where it counts them. */
const FUNCTIONS = [
  'work_step',
  'leaf',
  'recurse',
  'many_arguments',
  'float_step',
  'text_length',
  'tail_caller',
  'switch_step',
  'bare_target',
  'red_zone_check',
] as const;

interface Run {
  readonly threads: number;
  readonly rounds: number;
  readonly action: 'record' | 'count';
  readonly options?: SessionOptions;
  /** Whether events are read while the threads run. */
  readonly reads: boolean;
}

/** Probes all functions, lets the threads make their rounds, and hands both accounts over. */
async function account(run: Run): Promise<{ calls: Counts; summary: Summary; events: Reading }> {
  await using target = await startSelfCheck(run.threads);
  return await leavingClean(target, async () => {
    const before = await step(target, 1);
    const probes = FUNCTIONS.map((name): ProbeRequest => {
      const words = run.action === 'record' ? ' first=%di:u64 second=%si:u64' : '';
      return { definition: `${name}@self-check${words}`, action: run.action };
    });
    await using session = await attach({ pids: [target.pid] }, { ...run.options, probes });
    const early = run.reads ? new Reading(session) : undefined;
    const calls = difference(before, await step(target, run.rounds));
    const summary = await session.stop();
    const events = early ?? new Reading(session);
    await events.done;
    return { calls, summary, events };
  });
}

for (const threads of [1, 4, 8]) {
  test(`record: every call of ${threads} threads is a hit, and every hit an event`, async () => {
    const rounds = 1000;
    const { calls, summary, events } = await account({
      threads,
      rounds,
      action: 'record',
      reads: true,
      options: { ringBytes: 8 << 20, ringBudget: 128 << 20 },
    });
    assertExact(summary);
    for (const name of FUNCTIONS) {
      const { hits, recorded, event } = eventOf(summary, name);
      assert.equal(hits, countOf(calls, name), name);
      assert.equal(recorded, hits, name);
      assert.equal(events.count(event), recorded, name);
    }
    assert.equal(summary.loss.abandoned, 0);
  });

  test(`count: every call of ${threads} threads is a hit`, async () => {
    const { calls, summary } = await account({
      threads,
      rounds: 1000,
      action: 'count',
      reads: false,
    });
    assertExact(summary);
    for (const name of FUNCTIONS) {
      const { hits, aggregated, recorded } = eventOf(summary, name);
      assert.equal(hits, countOf(calls, name), name);
      assert.equal(aggregated, hits, name);
      assert.equal(recorded, 0, name);
    }
  });
}

for (const threads of [1, 8]) {
  test(`rings of 256 KiB that nobody empties: ${threads} threads, each loss is counted`, async () => {
    const { calls, summary, events } = await account({
      threads,
      rounds: 2000,
      action: 'record',
      reads: false,
      options: { ringBytes: 256 << 10 },
    });
    assertExact(summary);
    let full = 0;
    for (const name of FUNCTIONS) {
      const { hits, recorded, missed, event } = eventOf(summary, name);
      assert.equal(hits, countOf(calls, name), name);
      assert.equal(recorded + missed.ringFull, hits, name);
      assert.equal(events.count(event), recorded, name);
      full += missed.ringFull;
    }
    assert.ok(full > 0);
    // A record of two arguments has 32 bytes: each ring took as many as it holds, and no more.
    assert.equal(events.total, (threads * (256 << 10)) / 32);
  });
}

test('small rings that are read while they overflow: each loss is counted', async () => {
  const { calls, summary, events } = await account({
    threads: 8,
    rounds: 20_000,
    action: 'record',
    reads: true,
    options: { ringBytes: 256 << 10 },
  });
  assertExact(summary);
  for (const name of FUNCTIONS) {
    const { hits, recorded, missed, event } = eventOf(summary, name);
    assert.equal(hits, countOf(calls, name), name);
    assert.equal(recorded + missed.ringFull, hits, name);
    assert.equal(events.count(event), recorded, name);
  }
});

for (const action of ['record', 'count'] as const) {
  test(`${action}: more threads than contexts`, async () => {
    const { calls, summary } = await account({
      threads: 8,
      rounds: 200,
      action,
      reads: true,
      options: { ringBytes: 256 << 10, ringBudget: 3 * (256 << 10) },
    });
    assertExact(summary);
    for (const name of FUNCTIONS) {
      const { hits, aggregated, missed } = eventOf(summary, name);
      assert.equal(hits, countOf(calls, name), name);
      if (action === 'count') {
        assert.equal(aggregated, hits, name);
        continue;
      }
      // Each thread makes as many rounds, and all but `recurse` as many calls in each.
      if (name !== 'recurse') assert.equal(missed.noContext, (hits / 8) * 5, name);
      assert.ok(missed.noContext > 0, name);
    }
  });
}

test('a budget of 2 GiB: rings need not be near the code of a program, only stubs', async () => {
  const { calls, summary } = await account({
    threads: 2,
    rounds: 100,
    action: 'record',
    reads: true,
    options: { ringBytes: 256 << 20, ringBudget: 2 ** 31 },
  });
  assertExact(summary);
  for (const name of FUNCTIONS) assert.equal(eventOf(summary, name).recorded, countOf(calls, name));
});
