import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';

import { spawn, TraplineError } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { lookAt } from '../harness/leaks.ts';
import { selfCheck } from './cli-support.ts';

/** Of one run, in milliseconds. */
const PATIENCE = 30_000;
const ROUNDS = isLong() ? 2000 : 30;

const path = selfCheck();

for (const follow of [false, true]) {
  const way = follow ? 'followed' : 'not followed';
  test(`a command that is killed while probes come and go: its end is told (${way})`, async () => {
    for (let round = 0; round < ROUNDS; round++) {
      await using session = await spawn([path], { probes: [`work_step@${path}`], follow });
      const { command } = session;
      assert.ok(command !== undefined);
      const over = new AbortController();
      const changing = (async () => {
        while (!over.signal.aborted) await session.remove(await session.add(`text_length@${path}`));
      })().catch((error: unknown) => {
        // Of the change that met the end.
        assert.ok(error instanceof TraplineError && error.code === 'no-process', String(error));
      });
      // From the first moments of a change to those between two.
      await sleep((round % 40) / 4);
      process.kill(command, 'SIGKILL');
      const late = sleep(PATIENCE, undefined, { ref: false }).then(() =>
        assert.fail(`round ${round}: its end is not told`),
      );
      const [end] = await Promise.race([session.ended, late]);
      assert.deepEqual(end, { pid: command, status: { code: undefined, signal: 'SIGKILL' } });
      over.abort();
      await changing;
    }
    assert.deepEqual(lookAt(process.pid).tracees, []);
  });
}
