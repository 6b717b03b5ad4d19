import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, spawn, type Session } from '../../src/index.ts';
import { selfCheck } from './cli-support.ts';
import { checkTimes } from './time-support.ts';
import {
  assertExact,
  countOf,
  difference,
  eventOf,
  leavingClean,
  Reading,
  startSelfCheck,
  step,
} from './jump-support.ts';

/** Every order in which three sessions can leave. */
const ORDERS = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const;

for (const order of ORDERS) {
  test(`three sessions on one function, leaving in the order ${order.join(' ')}`, async () => {
    await using target = await startSelfCheck(2);
    await leavingClean(target, async () => {
      let before = await step(target, 1);
      const sessions: Session[] = [];
      const readings: Reading[] = [];
      const expected = [0, 0, 0];
      const counted = async (): Promise<void> => {
        const after = await step(target, 20);
        const calls = countOf(difference(before, after), 'leaf');
        before = after;
        sessions.forEach((_, at) => {
          if (!left.has(at)) expected[at] = (expected[at] ?? 0) + calls;
        });
      };
      const left = new Set<number>();
      for (const args of ['a=%di:u64', 'a=%di:u64 b=%sp', 'text=+0(%di):string']) {
        const session = await attach(
          { pids: [target.pid] },
          { probes: [`leaf@self-check ${args}`] },
        );
        sessions.push(session);
        readings.push(new Reading(session));
        await counted();
      }
      for (const at of order) {
        const session = sessions[at];
        assert.ok(session !== undefined);
        const summary = await session.stop();
        left.add(at);
        await readings[at]?.done;
        assertExact(summary);
        assert.equal(eventOf(summary, 'leaf').hits, expected[at], `session ${at}`);
        assert.equal(readings[at]?.total, expected[at], `session ${at}`);
        await session[Symbol.asyncDispose]();
        await counted();
      }
    });
  });
}

test('events come in the order of time, and their time is that of the call', checkTimes);

test('a session that can not begin leaves nothing in the target, and nothing with us', async () => {
  const program = selfCheck();
  const probes = [`leaf@${program}`, `leaf+1@${program}`];
  await using target = await startSelfCheck(2);
  await leavingClean(target, async () => {
    await assert.rejects(attach({ pids: [target.pid] }, { probes }), { code: 'refused' });
    await assert.rejects(spawn([program], { probes }), { code: 'refused' });
  });
});
