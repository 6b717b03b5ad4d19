import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

import {
  attach,
  clean,
  spawn as spawnProbed,
  TraplineError,
  type ErrorCode,
} from '../../src/index.ts';
import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { feature, skipUnless } from '../harness/features.ts';
import { assertClean, lookAt, snapshot, tracedTasks } from '../harness/leaks.ts';
import { startTarget } from '../harness/target.ts';
import { selfCheck, startSelfCheck } from './cli-support.ts';

const path = selfCheck();
const isRoot = feature('root').present;

/** That an attempt fails, says why and what to do, and names itself by a code. */
async function refusal(pid: number, code: ErrorCode, words: RegExp): Promise<void> {
  for (const probe of [`work_step@${path}`, 'malloc@libc.so.6']) {
    const error: unknown = await attach({ pids: [pid] }, { probes: [probe] }).then(
      () => assert.fail('it was allowed'),
      (reason: unknown) => reason,
    );
    assert.ok(error instanceof TraplineError, String(error));
    assert.equal(error.code, code, `${error.message}\n${error.hint}`);
    assert.match(`${error.message}\n${error.hint ?? ''}`, words);
  }
}

test('a process that does not exist', async () => {
  await refusal(4_194_303, 'no-process', /4194303/);
  await assert.rejects(clean([4_194_303]), { code: 'no-process' });
});

test('a process that somebody else debugs: busy, and by whom', async (context) => {
  if (skipUnless(context, 'gdb', 'unprivileged-ptrace')) return;
  await using target = await startSelfCheck(true, 1);
  const before = await snapshot(target.pid);
  const gdb = spawn(requireProgram('gdb'), ['-nx', '-q', '-p', String(target.pid)], {
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const ended = once(gdb, 'exit');
  gdb.stdin.write('echo attached\\n\n');
  let out = '';
  gdb.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
  while (!out.includes('attached') || tracedTasks(target.pid).length === 0) {
    await Promise.race([once(gdb.stdout, 'data'), ended]);
    assert.equal(gdb.exitCode, null, out);
  }
  await refusal(target.pid, 'busy', /traced by gdb/);
  await assert.rejects(clean([target.pid]), { code: 'busy' });
  gdb.stdin.end('detach\nquit\n');
  await ended;
  assertClean({ ...before, ownDescriptors: [] }, { ...lookAt(target.pid), ownDescriptors: [] });
  // Let go by the debugger, it can be probed.
  await using session = await attach({ pids: [target.pid] }, { probes: [`work_step@${path}`] });
  assert.deepEqual((await session.stop()).kept, []);
});

test('a process of somebody else: not permitted, and what would allow it', async (context) => {
  if (isRoot) {
    context.diagnostic('as root there is nobody else: the unprivileged half tests it');
    return;
  }
  // Process 1 is root's, whatever it is.
  await refusal(1, 'not-permitted', /uid 0|root/);
  await assert.rejects(clean([1]), { code: 'not-permitted' });
});

test('a process that is not dumpable', async (context) => {
  const fixture = compileFixture({ sources: ['undumpable.c'] });
  await using target = await startTarget(fixture);
  await target.waitForLine('ready');
  if (isRoot) {
    // CAP_SYS_PTRACE goes over that.
    await using session = await attach({ pids: [target.pid] }, { probes: ['malloc@libc.so.6'] });
    assert.deepEqual((await session.stop()).kept, []);
    context.diagnostic('root may');
  } else {
    await refusal(target.pid, 'not-permitted', /not dumpable/);
    await assert.rejects(clean([target.pid]), { code: 'not-permitted' });
  }
  target.send('quit');
  assert.equal((await target.waitForEnd()).status, 0);
});

test('a program that would lose its rights under us is not started', async () => {
  const command = ['/usr/bin/su', 'root', '-c', 'true'];
  const probes = ['getuid@libc.so.6'];
  if (isRoot) {
    await using session = await spawnProbed(command, { probes });
    const [end] = await session.ended;
    assert.deepEqual(end?.status, { code: 0, signal: undefined });
    assert.ok((await session.stop()).events.every(({ hits }) => hits > 0));
    return;
  }
  await assert.rejects(spawnProbed(command, { probes }), (error: unknown) => {
    assert.ok(error instanceof TraplineError);
    assert.equal(error.code, 'not-permitted');
    assert.match(error.message, /su is set-user-ID 0/);
    return true;
  });
});
