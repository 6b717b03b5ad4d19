/** The tracers' threads: sessions that follow one another have one, and only one that was left as it was is kept. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { attach, endIdle, spawn, status, type Session } from '../../src/index.ts';
import type { Target } from '../harness/target.ts';
import { assertExact, eventOf, leavingClean, startSelfCheck, step, until } from './jump-support.ts';

/** The threads of ours that have a tracer's name, by number. */
function threads(name: RegExp = /^trapline-(tracer|follow)$/): string[] {
  return readdirSync('/proc/self/task').filter((task) => {
    try {
      return name.test(readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim());
    } catch {
      return false; // it has ended
    }
  });
}

function attachTo(target: Target, follow = false): Promise<Session> {
  const probes = [{ definition: 'leaf@self-check', action: 'count' } as const];
  return attach({ pids: [target.pid] }, { probes, follow });
}

/** One session from start to end, with as many hits as calls. @returns the thread that it had */
async function once(target: Target, follow: boolean): Promise<string> {
  await using session = await attachTo(target, follow);
  const [held] = (await status([target.pid]))[0]?.sessions ?? [];
  assert.ok(held !== undefined);
  await step(target, 3);
  const summary = await session.stop();
  assertExact(summary);
  assert.ok(eventOf(summary, 'leaf').hits > 0);
  return String(held.tracer);
}

test('sessions that follow one another have one thread, whatever each was', async () => {
  await using target = await startSelfCheck(2);
  await leavingClean(target, async () => {
    const first = await once(target, false);
    for (const follow of [true, false, true, true, false]) {
      assert.equal(await once(target, follow), first);
      // `status` has one of its own.
      assert.equal(threads().length, 2);
      // By its name others see that it is somebody's turn.
      assert.deepEqual(threads(/^trapline-follow$/), []);
    }
  });
  await endIdle();
  await until('no thread is left', () => threads().length === 0);
});

test('sessions that are there at once have a thread each, of which few are kept', async () => {
  await using target = await startSelfCheck(2);
  await leavingClean(target, async () => {
    const sessions = await Promise.all(Array.from({ length: 7 }, () => attachTo(target)));
    assert.equal(threads().length, 7);
    for (const session of sessions) await session[Symbol.asyncDispose]();
    await until('four are left', () => threads().length === 4);
    const [session] = sessions;
    assert.ok(session !== undefined);
    // Its thread is another's by now.
    await assert.rejects(session.symbolize(target.pid, [0n]), { code: 'internal' });
  });
});

test('a session that can not begin leaves its thread to the next', async () => {
  await using target = await startSelfCheck(2);
  await leavingClean(target, async () => {
    const thread = await once(target, false);
    await endIdle();
    await assert.rejects(
      attach({ pids: [target.pid] }, { probes: ['leaf@self-check', 'no_such@self-check'] }),
      { code: 'no-symbol' },
    );
    const [kept] = threads();
    assert.notEqual(kept, thread);
    assert.equal(await once(target, true), kept);
  });
});

for (const follow of [true, false]) {
  test(`a thread whose command goes on is not kept, ${follow ? '' : 'not '}followed`, async () => {
    await endIdle();
    const session = await spawn(['/bin/sleep', '1000'], {
      probes: ['malloc@libc.so.6'],
      follow,
    });
    const { command } = session;
    assert.ok(command !== undefined);
    try {
      assert.equal(threads().length, 1);
      await session[Symbol.asyncDispose]();
      assert.equal(threads().length, 0);
      assert.match(readFileSync(`/proc/${command}/status`, 'utf8'), /^TracerPid:\t0$/m);
    } finally {
      process.kill(command, 'SIGKILL');
    }
  });

  test(`a thread whose command has ended is kept, ${follow ? '' : 'not '}followed`, async () => {
    await endIdle();
    const threadsBefore: string[] = [];
    for (let round = 0; round < 3; round++) {
      await using session = await spawn(['/bin/sh', '-c', '/bin/true; exit 3'], {
        probes: [{ definition: 'malloc@libc.so.6', action: 'count' }],
        follow,
      });
      threadsBefore.push(...threads());
      const [end] = await session.ended;
      assert.equal(end?.status?.code, 3);
    }
    assert.equal(threadsBefore.length, 3);
    assert.equal(new Set(threadsBefore).size, 1);
  });
}
