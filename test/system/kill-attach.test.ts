import { test } from 'node:test';
import assert from 'node:assert/strict';

import { killSweep } from '../harness/kill-sweep.ts';
import type { Snapshot } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import { startSelfCheck } from './cli-support.ts';
import { assertCleans, firstCall, targetOnly, tracerScript } from './kill-support.ts';

/** Of the calls of one session, so many are skipped between two kills outside of the long form. */
const STRIDE = 29;

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
