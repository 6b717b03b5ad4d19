import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, TraplineError } from '../../src/index.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, eventOf, Reading } from './jump-support.ts';
import { ENGINES, leavingKernelClean, OwnFixture, skipEngine } from './kernel-support.ts';

/** Makes one round. @returns the counter's value, and how often the code behind it has run. */
async function round(target: Target): Promise<{ counter: number; calls: number }> {
  target.send('go');
  const line = await target.waitForLine(/^counter/, 60_000);
  const [, counter, calls] = /^counter (\d+) calls (\d+)$/.exec(line) ?? [];
  return { counter: Number(counter), calls: Number(calls) };
}

for (const engine of ENGINES) {
  test(`the counter of a place is raised while the session is on, and only then: ${engine}`, async (t) => {
    if (skipEngine(t, engine)) return;
    using fixture = new OwnFixture({ sources: ['counter.c'] });
    await using target = await startTarget(fixture.path);
    const [, code, counter] = (await target.waitForLine('ready')).split(' ');
    const place = `${fixture.path}:0x${code ?? ''}`;
    await leavingKernelClean(target, engine, async () => {
      assert.deepEqual(await round(target), { counter: 0, calls: 0 });
      const probes = [`p:own/guarded ${place}(0x${counter ?? ''}) number=%di:u32`];
      await using session = await attach({ pids: [target.pid] }, { engine, probes });
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

  test(`a counter that is not there is refused: ${engine}`, async (t) => {
    if (skipEngine(t, engine)) return;
    using fixture = new OwnFixture({ sources: ['counter.c'] });
    await using target = await startTarget(fixture.path);
    const line = await target.waitForLine('ready');
    const [, code, counter = '', negative = ''] = line.split(' ');
    await leavingKernelClean(target, engine, async () => {
      // In no writable mapping of the file (for the kernel one may come yet); between two numbers; and what holds no count.
      const nowhere = engine === 'jump' ? ['1', '2'] : ['1'];
      for (const offset of [
        ...nowhere,
        (Number.parseInt(counter, 16) + 1).toString(16),
        negative,
      ]) {
        const probes = [`${fixture.path}:0x${code ?? ''}(0x${offset})`];
        await assert.rejects(
          async () => attach({ pids: [target.pid] }, { engine, probes }),
          (error) => error instanceof TraplineError && error.code === 'refused',
          offset,
        );
      }
    });
  });
}

test('a counter is one higher for all consumers of a place, whoever leaves first', async () => {
  using fixture = new OwnFixture({ sources: ['counter.c'] });
  await using target = await startTarget(fixture.path);
  const [, code, counter] = (await target.waitForLine('ready')).split(' ');
  const place = `${fixture.path}:0x${code ?? ''}`;
  const probe = `${place}(0x${counter ?? ''}) number=%di:u32`;
  await leavingKernelClean(target, 'jump', async () => {
    await using first = await attach({ pids: [target.pid] }, { probes: [probe] });
    await using second = await attach({ pids: [target.pid] }, { probes: [probe] });
    assert.deepEqual(await round(target), { counter: 1, calls: 1 });
    await assert.rejects(
      async () => second.add(place),
      (error) => error instanceof TraplineError && /another counter/.test(error.render()),
    );
    assertExact(await first.stop());
    assert.deepEqual(await round(target), { counter: 1, calls: 2 });
    const [added] = second.probes;
    assert.ok(added !== undefined);
    await second.remove(added);
    assert.deepEqual(await round(target), { counter: 0, calls: 2 });
    await second.add(probe);
    assert.deepEqual(await round(target), { counter: 1, calls: 3 });
    assertExact(await second.stop());
    assert.deepEqual(await round(target), { counter: 0, calls: 3 });
  });
});
