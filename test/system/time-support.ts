/** What times have to be, whatever clock stamps events. */

import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';

import { attach } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget } from '../harness/target.ts';
import { assertExact, leavingClean, Reading } from './jump-support.ts';

/** How far a converted time may be off: calibration and the clock's own grain, in nanoseconds. */
const MARGIN = 20_000n;

/** Events come in the order of time, and their time is that of the call. */
export async function checkTimes(context: TestContext): Promise<void> {
  const calls = 20_000;
  await using target = await startTarget(compileFixture({ sources: ['times.c'] }), ['3']);
  await target.waitForLine('ready');
  // The C library sets itself up with the first thread.
  target.send('1');
  await target.waitForLine('made');
  await leavingClean(target, async () => {
    await using session = await attach(
      { pids: [target.pid] },
      {
        probes: ['timed_work@times thread=%di:u32 before=%si:u64 after=%dx:u64'],
        ringBytes: 4 << 20,
      },
    );
    let last = 0n;
    let late = 0;
    let worst = 0n;
    const wrong: string[] = [];
    /** By thread: the time of its last event. */
    const times = new Map<number, bigint>();
    const events = new Reading(session, (event) => {
      const time = event.timestamp;
      if (event.late) late++;
      else if (time < last) wrong.push(`${time} comes after ${last}`);
      else last = time;
      const thread = event.number(0);
      const before = event.bigint(1);
      const previous = times.get(thread);
      times.set(thread, time);
      if (time < before - MARGIN) wrong.push(`${time} is before the call's ${before}`);
      if (before - time > worst) worst = before - time;
      if (previous === undefined) return;
      const after = event.bigint(2);
      if (previous > after + MARGIN) wrong.push(`${previous} is behind its call's end, ${after}`);
      if (previous - after > worst) worst = previous - after;
    });
    target.send(String(calls));
    await target.waitForLine(/^(made|bad)/, 60_000);
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    assert.equal(events.total, calls * 3);
    assert.deepEqual(wrong.slice(0, 5), []);
    context.diagnostic(`${late} late; times are off by ${worst} ns at most`);
  });
}
