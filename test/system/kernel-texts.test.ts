import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach } from '../../src/index.ts';
import type { Target } from '../harness/target.ts';
import { countOf, Running } from './cli-support.ts';
import { assertExact, eventOf, Reading } from './jump-support.ts';
import { leavingKernelClean, OwnFixture, skipEngine } from './kernel-support.ts';

async function take(target: Target, times: number, length: number): Promise<void> {
  target.send(`${times} ${length}`);
  await target.waitForLine('taken', 60_000);
}

/** What became of the hits of an event: recorded, filtered, with texts that were too long. */
type Fate = readonly [recorded: number, filtered: number, tooLong: number];

test('texts that the kernel has no room for are missed, not filtered, whoever else hits the place', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['texts.c'] });
  await using target = await fixture.start();
  await using other = await fixture.start();
  const two = 'a=+0(%si):string b=+0(%si):string';
  const expected: readonly (readonly [definition: string, Fate])[] = [
    // Ten calls with texts of 10 bytes, 20 with 3,000, ten with 4,090; and nine by somebody else.
    [`p:x/two take@texts ${two}`, [10, 9, 30]],
    ['p:x/one take@texts a=+0(%si):string', [30, 9, 10]],
    [`p:x/early take@texts n=%di:u64 ${two} if n < 5`, [5, 34, 10]],
    ['p:x/none take@texts n=%di:u64', [40, 9, 0]],
  ];
  await leavingKernelClean(target, 'kernel', async () => {
    const probes = expected.map(([definition]) => definition);
    await using session = await attach({ pids: [target.pid] }, { engine: 'kernel', probes });
    const events = new Reading(session);
    await take(target, 10, 10);
    await take(other, 9, 3000);
    await take(target, 20, 3000);
    await take(target, 10, 4090);
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    for (const [definition, fate] of expected) {
      const name = /\/(\w+)/.exec(definition)?.[1] ?? '';
      const { hits, recorded, filtered, missed } = eventOf(summary, name);
      assert.equal(hits, 49, name);
      assert.deepEqual([recorded, filtered, missed.textsTooLong], fate, name);
      assert.equal(missed.ringFull + missed.tracerGone, 0, name);
    }
    assert.equal(events.total, 10 + 30 + 5 + 40);
  });
});

test('a probe that comes later, and goes again, has its own count', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['texts.c'] });
  await using target = await fixture.start();
  const probe = 'take@texts a=+0(%si):string b=+0(%si):string';
  await leavingKernelClean(target, 'kernel', async () => {
    await using session = await attach(
      { pids: [target.pid] },
      { engine: 'kernel', probes: ['p:x/all take@texts'] },
    );
    const events = new Reading(session);
    await take(target, 3, 3000);
    const added = await session.add(`p:x/later ${probe}`);
    await take(target, 4, 3000);
    await take(target, 2, 3);
    await session.remove(added);
    await take(target, 5, 3000);
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    const { hits, recorded, missed } = eventOf(summary, 'later');
    assert.deepEqual([hits, recorded, missed.textsTooLong], [6, 2, 4]);
    assert.equal(eventOf(summary, 'all').recorded, 14);
  });
});

test('one task, every process: the summary says how many texts were too long', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['texts.c'] });
  await using target = await fixture.start();
  await leavingKernelClean(target, 'kernel', async () => {
    const probe = `take@${fixture.path} a=+0(%si):string b=+0(%si):string`;
    for (const who of [['--all'], ['--tid', String(target.pid)]]) {
      await using running = new Running(['trace', '--engine', 'kernel', ...who, probe]);
      await running.until('err', /1 probe in /);
      await take(target, 6, 5);
      await take(target, 8, 2500);
      running.child.kill('SIGINT');
      const { status, err } = await running.result();
      assert.equal(status, 0, err);
      assert.equal(countOf(err, 'probe_texts:take', 'recorded'), 6, err);
      assert.match(err, /texts too long 8 /);
      assert.doesNotMatch(err, /filtered/);
    }
  });
});
