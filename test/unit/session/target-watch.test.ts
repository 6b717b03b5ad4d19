import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TargetWatch } from '../../../src/session/targets/target-watch.ts';
import type { TracerClient } from '../../../src/session/tracer-client.ts';

/** No process has this number: PID_MAX_LIMIT is 2^22. */
const NOBODY = 1 << 22;

function watch(command: number | undefined, call: () => Promise<unknown>): TargetWatch {
  const processorTimes = [{ pid: NOBODY, nanoseconds: 0 }];
  return new TargetWatch(
    { processorTimes, command, isEndless: false, isFollowing: false },
    { call } as unknown as TracerClient, // nothing else of it is used
    () => {},
    () => {},
  );
}

test('who waits for the end is told that it can not be told any more', async () => {
  using targets = watch(undefined, async () => undefined);
  assert.equal(targets.hasFailed, false);
  targets.fail(new Error('the thread has ended'));
  assert.equal(targets.hasFailed, true);
  await assert.rejects(targets.ended, /the thread has ended/);
});

test('so is who waits for a command whose end can not be asked for', async () => {
  using targets = watch(NOBODY, () => Promise.reject(new Error('no answer')));
  await assert.rejects(targets.ended, /no answer/);
  assert.equal(targets.hasEnded, false);
});
