import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { attach, type SessionOptions } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { assertClean, snapshot } from '../harness/leaks.ts';
import { startTarget } from '../harness/target.ts';
import {
  assertExact,
  countOf,
  countsOf,
  difference,
  eventOf,
  leavingClean,
  Reading,
  startSelfCheck,
  step,
} from './jump-support.ts';

test('children of fork keep their probes, are told apart, and are counted exactly', async () => {
  const [depth, width, calls] = [2, 3, 50];
  const path = compileFixture({ sources: ['fork-tree.c'] });
  await using target = await startTarget(path, [
    String(depth),
    String(width),
    String(calls),
    'wait',
  ]);
  await target.waitForLine('ready');
  await using session = await attach(
    { pids: [target.pid] },
    { probes: ['node_work@fork-tree level=%di:s64 n=%si:u64 pid=%dx:u32'] },
  );
  const callsOf = new Map<number, number>();
  const wrong: string[] = [];
  const events = new Reading(session, (event) => {
    callsOf.set(event.pid, (callsOf.get(event.pid) ?? 0) + 1);
    const own = event.number(2);
    if (event.pid !== own || event.tid !== own)
      wrong.push(`${own} is shown as ${event.pid}/${event.tid}`);
    if (event.comm !== 'fork-tree') wrong.push(event.comm);
  });
  target.send('go');
  const processes = Number((await target.waitForLine(/^(ok|bad)/, 60_000)).split(' ')[1]);
  const summary = await session.stop();
  await events.done;
  assertExact(summary);
  assert.equal(processes, 1 + width + width * width);
  assert.deepEqual(wrong, []);
  const nodes = target.lines
    .filter((line) => line.startsWith('node '))
    .map((line) => line.split(' '));
  assert.equal(nodes.length, processes);
  for (const [, pid] of nodes) assert.equal(callsOf.get(Number(pid)), calls, `process ${pid}`);
  const { hits, recorded } = eventOf(summary, 'node_work');
  assert.equal(hits, processes * calls);
  assert.equal(recorded, hits);
});

test('living children are cleaned when the session ends', async () => {
  const source = compileFixture({ sources: ['fork-stay.c'] });
  await using target = await startTarget(source, ['3']);
  await target.waitForLine('ready');
  await leavingClean(target, async () => {
    await using session = await attach(
      { pids: [target.pid] },
      { probes: ['stay_work@fork-stay n=%di:u64 pid=%si:u32'] },
    );
    const seen = new Set<number>();
    const events = new Reading(session, (event) => {
      assert.equal(event.pid, event.number(1));
      seen.add(event.pid);
    });
    target.send('fork');
    const [, ...children] = (await target.waitForLine('forked', 30_000)).split(' ').map(Number);
    assert.equal(children.length, 3);
    for (const child of children) {
      assert.ok(readFileSync(`/proc/${child}/maps`, 'utf8').includes('/memfd:trapline-'));
    }
    target.send('work');
    const calls = countOf(countsOf(await target.waitForLine('worked', 30_000)), 'stay_work');
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    assert.equal(eventOf(summary, 'stay_work').hits, calls);
    assert.equal(events.total, calls);
    assert.deepEqual(seen, new Set([target.pid, ...children].map(Number)));
    for (const child of children) {
      assert.ok(
        !readFileSync(`/proc/${child}/maps`, 'utf8').includes('/memfd:trapline-'),
        `child ${child}`,
      );
    }
    // Unprobed, they still do their work, which they check.
    target.send('work');
    await target.waitForLine('worked', 30_000);
  });
});

interface Churn {
  readonly threads: number;
  /** After every 8 threads, in microseconds. */
  readonly pause?: number;
  readonly options: SessionOptions;
}

/** Threads come and go under a probe. @returns how many hits there were, and how many found no context. */
async function churn({ threads, pause = 0, options }: Churn): Promise<{
  hits: number;
  noContext: number;
  tasks: number;
}> {
  const path = compileFixture({ sources: ['thread-churn.c'] });
  await using target = await startTarget(path, [`${threads}`, '8', '10', 'wait', `${pause}`]);
  await target.waitForLine('ready');
  const before = await snapshot(target.pid);
  await using session = await attach(
    { pids: [target.pid] },
    { ...options, probes: ['churn_work@thread-churn thread=%di:u64 n=%si:u64 tid=%dx:u32'] },
  );
  let misattributed = 0;
  const tasks = new Set<number>();
  const events = new Reading(session, (event) => {
    tasks.add(event.tid);
    if (event.tid !== event.number(2) || event.pid !== Number(target.pid)) misattributed++;
  });
  target.send('go');
  const counts = countsOf(await target.waitForLine(/^(ok|bad)/, 120_000));
  const summary = await session.stop();
  await events.done;
  await session[Symbol.asyncDispose]();
  assertClean(before, await snapshot(target.pid), { ran: true });
  assertExact(summary);
  const { hits, recorded, missed } = eventOf(summary, 'churn_work');
  assert.equal(hits, countOf(counts, 'churn_work'));
  assert.equal(events.total, recorded);
  assert.equal(misattributed, 0);
  assert.equal(missed.abandoned, 0);
  return { hits, noContext: missed.noContext, tasks: tasks.size };
}

test('threads that come and go: each event has its own task, and contexts are used again', async (context) => {
  const { hits, noContext, tasks } = await churn({
    threads: isLong() ? 50_000 : 10_000,
    pause: 1000,
    options: {},
  });
  context.diagnostic(`${tasks} tasks in 64 contexts, ${noContext} of ${hits} hits found none`);
  assert.ok(tasks > 64 * 4);
});

test('threads that come and go: enough contexts for all that live between two looks', async (context) => {
  const { hits, noContext } = await churn({
    threads: 5000,
    pause: 2000,
    options: { ringBytes: 256 << 10, ringBudget: 256 << 20 },
  });
  context.diagnostic(`${noContext} of ${hits} hits found no context`);
  assert.ok(noContext < hits / 2);
});

test('--tid: only the hits of one task are events, the others are filtered', async () => {
  await using target = await startSelfCheck(3);
  const tasks = readTasks(target.pid);
  assert.equal(tasks.length, 4);
  const chosen = tasks[2] ?? 0;
  await leavingClean(target, async () => {
    const before = await step(target, 1);
    await using session = await attach(
      { tids: [chosen] },
      {
        probes: [
          'leaf@self-check a=%di:u64',
          { definition: 'tail_caller@self-check', action: 'count' },
        ],
      },
    );
    const tids = new Set<number>();
    const events = new Reading(session, (event) => tids.add(event.tid));
    const calls = difference(before, await step(target, 60));
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    const leaf = eventOf(summary, 'leaf');
    assert.equal(leaf.hits, countOf(calls, 'leaf'));
    assert.equal(leaf.recorded, leaf.hits / 3);
    assert.equal(leaf.filtered, (leaf.hits / 3) * 2);
    const counted = eventOf(summary, 'tail_caller');
    assert.equal(counted.hits, countOf(calls, 'tail_caller'));
    assert.equal(counted.aggregated, 60);
    assert.equal(counted.filtered, 120);
    assert.deepEqual([...tids], [chosen]);
    assert.equal(events.total, leaf.recorded);
  });
});

function readTasks(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
  assert.equal(children, '');
  return Array.from({ length: 100 }, (_, at) => pid + at).filter((tid) =>
    existsSync(`/proc/${pid}/task/${tid}`),
  );
}
