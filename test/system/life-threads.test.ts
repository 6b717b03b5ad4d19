/** Threads that come and go in every way under probes. */

import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';

import { TraplineError } from '../../src/base/errors.ts';
import { attach, clean, status } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { run } from './cli-support.ts';
import { assertExact, eventOf, leavingClean, Reading, until } from './jump-support.ts';

const PROBE = 'life_step@life-threads n=%di:u64 tid=%si:u32';
const BACK = 'back=+0(%sp):u64';
const COUNT = { definition: 'life_step@life-threads', action: 'count' } as const;

async function startThreads(): Promise<Target> {
  const target = await startTarget(compileFixture({ sources: ['life-threads.c'] }));
  await target.waitForLine('ready');
  return target;
}

/** @returns all calls since the start. */
async function tell(target: Target, command: string): Promise<number> {
  target.send(command);
  const line = await target.waitForLine(/^(done|bad)/, 60_000);
  assert.match(line, /^done/);
  return Number(line.split(' ')[2]);
}

test('10,000 threads in waves for which there are rings: every hit is an event of its own thread', async () => {
  await using target = await startThreads();
  await leavingClean(target, async () => {
    const [waves, threads, calls] = [20, 500, 4];
    // A context for each: none is missed, however late the reader finds that one has ended.
    const rings = { ringBytes: 256 << 10, ringBudget: (waves * threads + 10) * (256 << 10) };
    await using session = await attach(
      { pids: [target.pid] },
      { probes: [PROBE, COUNT], ...rings },
    );
    const tasks = new Map<number, number>();
    const reading = new Reading(session, (event) => {
      assert.equal(event.tid, event.number(1));
      assert.equal(event.pid, Number(target.pid));
      tasks.set(event.tid, (tasks.get(event.tid) ?? 0) + 1);
    });
    let expected = 0;
    for (let wave = 1; wave <= waves; wave++) {
      expected = await tell(target, `wave ${threads} ${calls}`);
      assert.equal(expected, wave * threads * calls);
      await until('all events', () => reading.total === expected);
    }
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    for (const { event, hits, recorded, aggregated } of summary.events) {
      assert.equal(hits, expected, event);
      assert.equal(recorded + aggregated, expected, event);
    }
    // Ids may come again.
    assert.ok(tasks.size > threads);
    assert.deepEqual(
      [...tasks.values()].filter((count) => count % calls !== 0),
      [],
    );
  });
});

test('10,000 threads, more at once than there are rings: the others’ hits are missed, exactly', async () => {
  await using target = await startThreads();
  await leavingClean(target, async () => {
    const [waves, threads, calls, rings] = [20, 500, 4, 16];
    const budget = { ringBytes: 256 << 10, ringBudget: rings * (256 << 10) };
    await using session = await attach({ pids: [target.pid] }, { probes: [PROBE], ...budget });
    const reading = new Reading(session);
    let expected = 0;
    for (let wave = 1; wave <= waves; wave++)
      expected = await tell(target, `wave ${threads} ${calls}`);
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    const { hits, recorded, missed } = eventOf(summary, 'life_step');
    assert.equal(hits, expected);
    assert.equal(reading.total, recorded);
    // All threads of a wave are there together, and no context is free again before they are gone.
    assert.ok(recorded >= rings * calls && recorded <= waves * rings * calls, String(recorded));
    assert.equal(missed.noContext, hits - recorded);
  });
});

test('threads whose hits are only counted: more at once, and more in all, than there are rings; nobody reads', async () => {
  await using target = await startThreads();
  await leavingClean(target, async () => {
    const [threads, calls, rings] = [40, 4, 64];
    // The first needs no ring; the second does, since its filter reads memory.
    const filtered = { ...COUNT, filter: 'back != 0', definition: `${COUNT.definition} ${BACK}` };
    await using session = await attach({ pids: [target.pid] }, { probes: [COUNT, filtered] });
    let expected = 0;
    // Two waves have more threads than there are rings: what is counted beyond them had those of the dead.
    await until('rings to be used again', async () => {
      expected = await tell(target, `wave ${threads} ${calls}`);
      return ((await session.summary()).events[1]?.aggregated ?? 0) > 3 * rings * calls;
    });
    expected = await tell(target, `wave ${rings * 8} ${calls}`);
    const summary = await session.stop();
    assertExact(summary);
    const [plain, reading] = summary.events;
    assert.equal(plain?.hits, expected);
    assert.equal(plain.aggregated, expected);
    assert.equal(reading?.hits, expected);
    assert.ok(reading.missed.noContext >= 7 * rings * calls);
    assert.equal(reading.aggregated + reading.missed.noContext, expected);
  });
});

test('a thread that ends inside a probed function, and one that ends in its stub', async () => {
  await using target = await startThreads();
  await leavingClean(target, async () => {
    const file = 'life-threads';
    const definitions = [
      `ends_inside@${file}`,
      `raw_exit@${file}`,
      `raw_exit+5@${file}`,
      `raw_exit+7@${file}`,
    ];
    const probes = definitions.flatMap((definition) => [
      `${definition} a=%di:s64 text=+0(%sp):string`,
      { definition, action: 'count' } as const,
    ]);
    await using session = await attach({ pids: [target.pid] }, { probes });
    assert.deepEqual(
      session.probes.flatMap(({ refused }) => refused),
      [],
    );
    const reading = new Reading(session);
    for (let round = 0; round < 3; round++) {
      await tell(target, 'inside 50');
      await tell(target, 'raw 50');
      // While threads end in their stubs these come and go.
      target.send('raw 100');
      const probe = await session.add({ definition: `raw_exit+5@${file}`, action: 'count' });
      await session.remove(probe);
      assert.match(await target.waitForLine(/^(done|bad)/, 60_000), /^done/);
    }
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    const named = summary.events.slice(0, probes.length);
    for (const { event, definition, hits, missed } of named) {
      assert.equal(hits, definition.startsWith('ends_inside') ? 150 : 450, event);
      assert.equal(missed.abandoned, 0);
    }
    assert.equal(
      reading.total,
      named.reduce((sum, { recorded }) => sum + recorded, 0),
    );
  });
});

test('the first thread ends while others go on: it is attached to, changed, left and cleaned all the same', async () => {
  await using target = await startThreads();
  let calls = await tell(target, 'work 5');
  await using early = await attach({ pids: [target.pid] }, { probes: [PROBE, COUNT] });
  const reading = new Reading(early);
  const before = calls;
  await tell(target, 'work 100');
  await tell(target, 'leave');
  calls = await tell(target, 'work 50');
  await until('all events', () => reading.total === calls - before);
  await using late = await attach({ pids: [target.pid] }, { probes: [COUNT, 'strlen@libc.so.6'] });
  assert.equal(late.targets[0]?.comm, 'life-threads');
  assert.match(late.targets[0].executable, /life-threads$/);
  const lateBefore = calls;
  calls = await tell(target, 'wave 3 20');
  const probe = await early.add({ definition: 'ends_inside@life-threads', action: 'count' });
  await tell(target, 'inside 7');
  assert.equal(eventOf(await early.summary(), 'ends_inside').hits, 7);
  await early.remove(probe);
  const [shown] = await status([target.pid]);
  assert.deepEqual([shown?.sessions.length, shown?.unreadable], [2, undefined]);
  assert.equal(
    shown?.sites.some(({ name }) => name === 'life_step'),
    true,
  );
  // It reads commands in a thread whose forerunner has ended, and is watched on.
  await tell(target, 'leave');
  calls = await tell(target, 'work 10');
  for (const [session, start] of [
    [early, before],
    [late, lateBefore],
  ] as const) {
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'life_step').hits, calls - start);
  }
  await reading.done;
  assert.equal(reading.total, calls - before);
  assert.deepEqual(await clean([target.pid]), [
    { pid: target.pid, sessionsRemoved: 0, sitesRestored: 0, bytesUnmapped: 0, kept: [] },
  ]);
  assert.deepEqual((await status([target.pid]))[0]?.mappedBytes, 0);
  target.send('quit');
  await target.waitForLine('ok');
});

test('a process whose first thread has ended: by the command, and among all', async () => {
  await using target = await startThreads();
  await tell(target, 'leave');
  await tell(target, 'run 1');
  for (const which of [
    ['-p', String(target.pid)],
    ['--all', '--tree', String(target.pid)],
  ]) {
    const { status: code, out, err } = await run('trace', ...which, '-n', '20', PROBE);
    assert.equal(code, 0, err);
    assert.match(err, /life-threads/);
    assert.equal(out.match(/life_step: /g)?.length, 20);
  }
});

/** Runs something, which may find that there is no process any more. @returns 1 if it did, else 0. */
async function mayBeGone(work: () => Promise<void>, may = true): Promise<number> {
  try {
    await work();
    return 0;
  } catch (error) {
    if (!may || !(error instanceof TraplineError) || error.code !== 'no-process') throw error;
    return 1;
  }
}

/** What may be under way when a process ends. */
const STAGES = ['attach', 'add', 'remove', 'stop'] as const;

test('exit_group of another thread while we attach, change or leave', async (context) => {
  const rounds = isLong() ? 60 : 2;
  const before = await snapshot(process.pid);
  let gone = 0;
  for (let round = 0; round < rounds * STAGES.length; round++) {
    const stage = STAGES[round % STAGES.length];
    await using target = await startThreads();
    await tell(target, 'run 2');
    const die = (): void => target.send(`die ${(round * 2731) % 20_000}`);
    if (stage === 'attach') die();
    gone += await mayBeGone(async () => {
      await using session = await attach({ pids: [target.pid] }, { probes: [COUNT] });
      gone += await mayBeGone(async () => {
        if (stage === 'add') die();
        const probe = await session.add({
          definition: 'ends_inside@life-threads',
          action: 'count',
        });
        const more = await session.add('raw_exit@life-threads');
        if (stage === 'remove') die();
        await session.remove(probe);
        await session.remove(more);
      });
      if (stage === 'stop') die();
      assertExact(await session.stop());
    }, stage === 'attach');
    assert.deepEqual(await target.waitForEnd(), { status: 7, signal: undefined });
  }
  context.diagnostic(`${gone} of ${rounds * STAGES.length} were told that there is no process`);
  const after = await snapshot(process.pid);
  assert.deepEqual(after.ownMappings, before.ownMappings);
  assert.deepEqual(after.tracees, []);
  assert.ok(readdirSync('/proc/self/fd').length <= before.ownDescriptors.length + 2);
});
