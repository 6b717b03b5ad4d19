import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

import { clean, status } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { killSweep } from '../harness/kill-sweep.ts';
import { assertClean, type Snapshot } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import { selfCheck, startSelfCheck } from './cli-support.ts';
import {
  assertCleans,
  assertWorks,
  firstCall,
  startSession,
  targetOnly,
  tracerScript,
} from './kill-support.ts';

/** Of the calls of one session, so many are skipped between two kills outside of the long form. */
const STRIDE = 29;
const BESIDE_STRIDE = 37;

test('killed after any call of a session, the tracer harms nobody, and clean gives all back', async (context) => {
  const before = new WeakMap<Target, Snapshot>();
  const from = firstCall(STRIDE);
  const { killed, lastCall } = await killSweep({
    script: tracerScript,
    start: async () => {
      const target = await startSelfCheck(true, 3);
      target.send('step 5');
      await target.waitForLine('stepped');
      before.set(target, targetOnly(target.pid));
      return target;
    },
    prepare: (target) => {
      target.send('run');
    },
    verify: async (target) => {
      const snapshot = before.get(target);
      assert.ok(snapshot !== undefined);
      await assertCleans(target, snapshot);
    },
    from,
    every: STRIDE,
    reuse: 1000,
  });
  context.diagnostic(
    `every ${STRIDE}th call from ${from}: killed ${killed}, last after ${lastCall}`,
  );
  assert.ok(lastCall >= 300, `the last after call ${lastCall}`);
});

test('killed beside a living session, the tracer harms neither it nor the target', async (context) => {
  await using target = await startSelfCheck(true, 3);
  await assertWorks(target);
  const before = targetOnly(target.pid);
  await using living = await startSession(target, `work_step@${selfCheck()} a=%di:s64`);
  const stride = isLong() ? 1 : BESIDE_STRIDE;
  let last = 0;
  for (let call = firstCall(BESIDE_STRIDE); ; call += stride) {
    target.send('run');
    const isKilled = await runKilled(target, call);
    await assertWorks(target);
    assert.deepEqual((await clean([target.pid]))[0]?.kept, [], `after call ${call}`);
    const [held] = await status([target.pid]);
    assert.deepEqual(
      held?.sessions.map(({ alive }) => alive),
      [true],
      `after call ${call}`,
    );
    assert.deepEqual(
      held?.sites.map(({ name, found }) => `${name}: ${found}`),
      ['work_step: its jump'],
      `after call ${call}`,
    );
    if (!isKilled) break;
    last = call;
  }
  context.diagnostic(`every ${stride}th call: last after ${last}`);
  assert.ok(last >= 200, `the last after call ${last}`);
  living.send('quit');
  await living.waitForLine('end', 60_000);
  await living.waitForEnd(30_000);
  assertClean(before, targetOnly(target.pid), { ran: true });
});

/** @returns whether the tracer was killed; false when it ended by itself. */
async function runKilled(target: Target, call: number): Promise<boolean> {
  const child = spawn(process.execPath, [tracerScript, String(target.pid)], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, TRAPLINE_TEST_KILL_AFTER: String(call) },
  });
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null]; // Node's own
  assert.ok(signal === 'SIGKILL' || code === 0, `the tracer ended: ${signal ?? code}`);
  return signal === 'SIGKILL';
}
