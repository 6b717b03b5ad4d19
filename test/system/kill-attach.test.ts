import assert from 'node:assert/strict';
import { test } from 'node:test';

import { clean, status } from '../../src/index.ts';
import { assertClean } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import { selfCheck, startSelfCheck } from './cli-support.ts';
import {
  assertWorks,
  startSession,
  sweepBeside,
  sweepParked,
  targetOnly,
  tracerScript,
} from './kill-support.ts';

async function startParked(): Promise<Target> {
  const target = await startSelfCheck(true, 3);
  target.send('step 5');
  await target.waitForLine('stepped');
  return target;
}

test('killed after any call of a session, the tracer harms nobody, and clean gives all back', async (context) => {
  await sweepParked(context, startParked, { script: tracerScript, stride: 59, least: 300 });
});

test('killed beside a living session, the tracer harms neither it nor the target', async (context) => {
  await using target = await startSelfCheck(true, 3);
  await assertWorks(target);
  const before = targetOnly(target.pid);
  await using living = await startSession(target, `work_step@${selfCheck()} a=%di:s64`);
  await sweepBeside(context, target, {
    script: tracerScript,
    stride: 73,
    least: 200,
    verify: async (_, call) => {
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
    },
  });
  living.send('quit');
  await living.waitForLine('end', 60_000);
  await living.waitForEnd(30_000);
  assertClean(before, targetOnly(target.pid), { ran: true });
});
