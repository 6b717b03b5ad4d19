import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  attach,
  type ProbeRequest,
  type Session,
  type SessionOptions,
  type Summary,
} from '../../src/index.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, countOf, difference, eventOf, Reading, step } from './jump-support.ts';
import {
  ENGINES,
  leavingKernelClean,
  OwnFixture,
  skipEngine,
  type Engine,
} from './kernel-support.ts';

const FUNCTIONS = ['work_step', 'leaf', 'recurse', 'bare_target'] as const;

interface Run {
  readonly engine: Engine;
  readonly threads: number;
  readonly rounds: number;
  readonly action?: ProbeRequest['action'];
  readonly options?: SessionOptions;
  /** Whether events are read while the threads run. */
  readonly reads?: boolean;
}

interface Outcome {
  readonly calls: Readonly<Record<string, number>>;
  readonly summary: Summary;
  readonly events: Reading;
}

async function startSelfCheck(path: string, threads: number): Promise<Target> {
  const target = await startTarget(path, [String(threads), '0', 'paused']);
  await target.waitForLine('ready', 60_000);
  return target;
}

/** Lets a probed program make its rounds, and hands both accounts over. */
async function account(run: Run): Promise<Outcome> {
  const { engine, action = 'record', reads = true } = run;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await startSelfCheck(fixture.path, run.threads);
  return await leavingKernelClean(target, engine, async () => {
    const before = await step(target, 1);
    const probes = FUNCTIONS.map((name): ProbeRequest => {
      const words = action === 'record' ? ' first=%di:u64 second=%si:u64' : '';
      return { definition: `${name}@self-check${words}`, action };
    });
    await using session = await attach({ pids: [target.pid] }, { ...run.options, engine, probes });
    const early = reads ? new Reading(session) : undefined;
    const calls = difference(before, await step(target, run.rounds));
    const summary = await session.stop();
    const events = early ?? new Reading(session);
    await events.done;
    return { calls, summary, events };
  });
}

for (const engine of ENGINES) {
  test(`${engine}: every call of 4 threads is a hit, and every hit an event`, async (t) => {
    if (skipEngine(t, engine)) return;
    const options = { ringBytes: 8 << 20, ringBudget: 128 << 20 };
    const { calls, summary, events } = await account({ engine, threads: 4, rounds: 500, options });
    assertExact(summary);
    for (const name of FUNCTIONS) {
      const { hits, recorded, event } = eventOf(summary, name);
      assert.equal(hits, countOf(calls, name), name);
      assert.equal(recorded, hits, name);
      assert.equal(events.count(event), recorded, name);
    }
  });

  test(`${engine}: counting makes no events and misses none`, async (t) => {
    if (skipEngine(t, engine)) return;
    const outcome = await account({ engine, threads: 2, rounds: 500, action: 'count' });
    const { calls, summary, events } = outcome;
    assertExact(summary);
    assert.equal(events.total, 0);
    for (const name of FUNCTIONS) {
      const { hits, aggregated, recorded } = eventOf(summary, name);
      assert.equal(hits, countOf(calls, name), name);
      assert.equal(aggregated, hits, name);
      assert.equal(recorded, 0, name);
    }
  });

  test(`${engine}: rings that nobody empties lose what is counted`, async (t) => {
    if (skipEngine(t, engine)) return;
    const options = { ringBytes: 256 << 10 };
    const run = { engine, threads: 2, rounds: 2000, options, reads: false };
    const { calls, summary, events } = await account(run);
    assertExact(summary);
    let lost = 0;
    for (const name of FUNCTIONS) {
      const { hits, recorded, missed, filtered, event } = eventOf(summary, name);
      assert.equal(hits, countOf(calls, name), name);
      assert.equal(recorded + missed.ringFull, hits, name);
      assert.equal(filtered, 0, name);
      assert.equal(events.count(event), recorded, name);
      lost += missed.ringFull;
    }
    assert.ok(lost > 0);
  });

  test(`${engine}: of several tasks only one is asked for`, async (t) => {
    if (skipEngine(t, engine)) return;
    using fixture = new OwnFixture({ sources: ['self-check.c'] });
    await using target = await startSelfCheck(fixture.path, 3);
    await leavingKernelClean(target, engine, async () => {
      const before = await step(target, 1);
      const [, one] = await tasksOf(target);
      assert.ok(one !== undefined);
      const probes = ['work_step@self-check'];
      await using session = await attach({ tids: [one] }, { engine, probes });
      const events = new Reading(session, ({ tid }) => assert.equal(tid, one));
      const calls = difference(before, await step(target, 200));
      const summary = await session.stop();
      await events.done;
      assertExact(summary);
      const { hits, recorded, filtered } = eventOf(summary, 'work_step');
      assert.equal(hits, countOf(calls, 'work_step'));
      assert.equal(recorded, hits / 3);
      assert.equal(filtered, hits - recorded);
    });
  });

  test(`${engine}: probes come and go while a session runs`, async (t) => {
    if (skipEngine(t, engine)) return;
    using fixture = new OwnFixture({ sources: ['self-check.c'] });
    await using target = await startSelfCheck(fixture.path, 2);
    await leavingKernelClean(target, engine, async () => {
      let before = await step(target, 1);
      const probes = ['work_step@self-check'];
      await using session = await attach({ pids: [target.pid] }, { engine, probes });
      const events = new Reading(session);
      before = await comeAndGo(session, target, before, events);
      const calls = difference(before, await step(target, 50));
      const summary = await session.stop();
      await events.done;
      assertExact(summary);
      assert.equal(eventOf(summary, 'work_step').hits, countOf(calls, 'work_step') * 3);
      // Removed after the second of three times.
      assert.equal(eventOf(summary, 'leaf').hits, countOf(calls, 'leaf'));
    });
  });
}

/** Fifty rounds with one probe, fifty with another beside it, which is then out again. */
async function comeAndGo(
  session: Session,
  target: Target,
  before: Readonly<Record<string, number>>,
  events: Reading,
): Promise<Readonly<Record<string, number>>> {
  await step(target, 50);
  const leaf = await session.add('leaf@self-check a=%di:s64');
  const after = await step(target, 50);
  await session.remove(leaf);
  assert.ok(countOf(difference(before, after), 'work_step') > 0);
  assert.equal(session.probes.length, 1);
  assert.ok(events.total >= 0);
  return after;
}

/** The threads that work, behind the one that obeys. */
async function tasksOf(target: Target): Promise<number[]> {
  const { listTasks } = await import('../../src/process/tasks.ts');
  return listTasks(target.pid).slice(1);
}
