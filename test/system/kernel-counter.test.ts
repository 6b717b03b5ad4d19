import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, TraplineError } from '../../src/index.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, eventOf, Reading } from './jump-support.ts';
import { leavingKernelClean, OwnFixture, skipEngine } from './kernel-support.ts';

/** Makes one round. @returns the counter's value, and how often the code behind it has run. */
async function round(target: Target): Promise<{ counter: number; calls: number }> {
  target.send('go');
  const line = await target.waitForLine(/^counter/, 60_000);
  const [, counter, calls] = /^counter (\d+) calls (\d+)$/.exec(line) ?? [];
  return { counter: Number(counter), calls: Number(calls) };
}

test('the counter of a place is raised while the session is on, and only then', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['counter.c'] });
  await using target = await startTarget(fixture.path);
  const [, code, counter] = (await target.waitForLine('ready')).split(' ');
  const place = `${fixture.path}:0x${code ?? ''}`;
  await leavingKernelClean(target, 'kernel', async () => {
    assert.deepEqual(await round(target), { counter: 0, calls: 0 });
    const probes = [`p:own/guarded ${place}(0x${counter ?? ''}) number=%di:u32`];
    await using session = await attach({ pids: [target.pid] }, { engine: 'kernel', probes });
    const events = new Reading(session);
    assert.deepEqual(await round(target), { counter: 1, calls: 1 });
    assert.deepEqual(await round(target), { counter: 1, calls: 2 });
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    assert.equal(eventOf(summary, 'guarded').recorded, 2);
    assert.deepEqual(await round(target), { counter: 0, calls: 2 });
  });
});

test('a counter that is not there is refused, and so is any by the jump engine', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['counter.c'] });
  await using target = await startTarget(fixture.path);
  const [, code] = (await target.waitForLine('ready')).split(' ');
  await leavingKernelClean(target, 'kernel', async () => {
    for (const [engine, expected] of [
      ['jump', 'unsupported'],
      ['kernel', 'refused'],
    ] as const) {
      // In no writable mapping of the file.
      const probes = [`${fixture.path}:0x${code ?? ''}(0x1)`];
      await assert.rejects(
        async () => attach({ pids: [target.pid] }, { engine, probes }),
        (error) => error instanceof TraplineError && error.code === expected,
      );
    }
  });
});
