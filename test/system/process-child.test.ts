/** Programs that are children of the very process that traces them. */

import assert from 'node:assert/strict';
import { spawn as spawnChild, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

import { pid as brandPid } from '../../src/base/brand.ts';
import { TraplineError } from '../../src/base/errors.ts';
import { attach, clean, spawn } from '../../src/index.ts';
import { skipUnless } from '../harness/features.ts';
import { requireProgram } from '../harness/fixtures.ts';
import { tracedTasks } from '../harness/leaks.ts';
import { assertExact } from './jump-support.ts';
import { startSession } from './kill-support.ts';

const probe = { definition: 'read@libc.so.6', action: 'count' } as const;

async function startCat(): Promise<{ readonly child: ChildProcess; readonly pid: number }> {
  const child = spawnChild(requireProgram('cat'), { stdio: ['pipe', 'pipe', 'inherit'] });
  await answer(child);
  return { child, pid: child.pid ?? assert.fail('it has started') };
}

/** It has read a line, and written it. */
async function answer(child: ChildProcess): Promise<void> {
  const { stdin, stdout } = child;
  assert.ok(stdin !== null && stdout !== null);
  const answered = once(stdout, 'data');
  stdin.write('line\n');
  await answered;
}

function isRefusal(error: unknown): boolean {
  return (
    error instanceof TraplineError &&
    error.code === 'refused' &&
    /is a child of this very process/.test(error.message) &&
    /spawn\(\)/.test(error.hint ?? '')
  );
}

test('a child of node:child_process is refused, and Node goes on waiting for it', async () => {
  const { child, pid } = await startCat();
  let ended = false;
  child.on('exit', () => (ended = true));
  await assert.rejects(attach({ pids: [pid] }, { probes: [probe] }), isRefusal);
  await assert.rejects(clean([pid]), isRefusal);
  assert.deepEqual(tracedTasks(pid), []);
  // Another child's end has Node look for all of them.
  await once(spawnChild(requireProgram('true')), 'exit');
  await answer(child);
  assert.equal(ended, false);
  child.stdin?.end();
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('a child of node:child_process may be traced by another process', async (t) => {
  if (skipUnless(t, 'unprivileged-ptrace')) return;
  const { child, pid } = await startCat();
  let ended = false;
  child.on('exit', () => (ended = true));
  await using session = await startSession({ pid: brandPid(pid) }, 'read@libc.so.6');
  await answer(child);
  session.send('quit');
  await session.waitForEnd(30_000);
  await answer(child);
  assert.equal(ended, false);
  child.stdin?.end();
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('its own child, by a shell that waits for it, is probed as any other process', async () => {
  const child = spawnChild('sh', ['-c', `sh -c 'echo $$; exec cat'; exit $?`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [said] = (await once(child.stdout, 'data')) as [Buffer]; // by the type of 'data' of a stream without encoding
  await answer(child);
  const pid = Number(said.toString());
  assert.notEqual(pid, child.pid);
  {
    await using session = await attach({ pids: [pid] }, { probes: [probe] });
    await answer(child);
    assertExact(await session.stop());
  }
  child.stdin.end();
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('a command that one session has started is probed by another one of this process', async () => {
  await using first = await spawn(['sleep', '30'], { probes: [], follow: false });
  const pid = first.targets[0]?.pid;
  assert.ok(pid !== undefined);
  await using second = await attach({ pids: [pid] }, { probes: [probe] });
  assertExact(await second.stop());
  process.kill(pid);
  await first.stop();
});
