/** Processes that are attached to and followed: held for as long as the session is there, and refused to others. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { attach, spawn, type Session } from '../../src/index.ts';
import { assertClean, tracedTasks } from '../harness/leaks.ts';
import { requireProgram } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { EVENT, followedProgram } from './follow-support.ts';
import { assertExact, eventOf } from './jump-support.ts';
import { targetOnly } from './kill-support.ts';
import { main, runPlain } from './real-support.ts';

const { program, probe } = followedProgram();
const counting = { definition: probe, action: 'count' as const };

/** A shell that runs lines of its input, one after another. */
async function shell(): Promise<Target> {
  const script = 'echo ready; while read -r line; do eval "$line"; echo done; done';
  const target = await startTarget(requireProgram('dash'), ['-c', script]);
  await target.waitForLine('ready');
  return target;
}

async function run(target: Target, line: string): Promise<void> {
  target.send(line);
  await target.waitForLine('done');
}

function tracerOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/^TracerPid:\s*(\d+)/m.exec(text)?.[1]);
}

async function hitsOf(session: Session): Promise<number> {
  return eventOf(await session.summary(), EVENT).hits;
}

test('a process that runs: what it makes from now on is probed, until the session leaves', async () => {
  await using target = await shell();
  const before = targetOnly(target.pid);
  await using session = await attach({ pids: [target.pid] }, { probes: [counting], follow: true });
  assert.equal(session.isFollowing, true);
  assert.notEqual(tracerOf(target.pid), 0);
  await run(target, `${program} hit 5`);
  await run(target, `(${program} hit 6; ${program} hit 7) | cat`);
  assert.equal(await hitsOf(session), 18);
  const summary = await session.stop();
  assertExact(summary);
  assert.deepEqual(summary.kept, []);
  assert.deepEqual(tracedTasks(target.pid), []);
  assert.equal(tracerOf(target.pid), 0);
  await run(target, `${program} hit 8`);
  assertClean(before, targetOnly(target.pid), { ran: true });
});

test('a session that follows nobody holds nobody', async () => {
  await using target = await shell();
  await using session = await attach({ pids: [target.pid] }, { probes: ['read@libc.so.6'] });
  assert.equal(session.isFollowing, false);
  assert.equal(tracerOf(target.pid), 0);
  await session.stop();
});

test('a session ends with the last of all that it holds', async () => {
  await using target = await shell();
  await using session = await attach({ pids: [target.pid] }, { probes: [counting], follow: true });
  let hasEnded = false;
  const ended = session.ended.then(() => (hasEnded = true));
  await run(target, `(read -r go < /proc/$$/fd/0; ${program} hit 3) < /dev/null & sleep 0`);
  await run(target, `sh -c 'while kill -0 '$$' 2>/dev/null; do :; done; exec ${program} hit 4' &`);
  assert.equal(hasEnded, false);
  process.kill(target.pid, 'SIGKILL');
  await ended;
  assert.deepEqual(await session.ended, [{ pid: target.pid }]);
  assert.equal(await hitsOf(session), 7);
  assertExact(await session.stop());
});

test('what is held by who follows is refused to others at once, with a name', async () => {
  await using target = await shell();
  await using session = await attach({ pids: [target.pid] }, { probes: [counting], follow: true });
  const began = performance.now();
  const { status, err } = runPlain(process.execPath, [
    main,
    'trace',
    '-p',
    String(target.pid),
    '--count',
    'read@libc.so.6',
  ]);
  assert.ok(performance.now() - began < 20_000);
  assert.equal(status, 1);
  assert.match(
    err,
    new RegExp(`process ${target.pid} is held by process ${process.pid}, which follows it: .*node`),
  );
  assert.match(err, /--no-follow/);
  // Another session of this very process, too.
  await assert.rejects(
    attach({ pids: [target.pid] }, { probes: ['read@libc.so.6'] }),
    /which follows/,
  );
  await run(target, `${program} hit 5`);
  assert.equal(await hitsOf(session), 5);
  await session.stop();
  await using next = await attach({ pids: [target.pid] }, { probes: [counting], follow: true });
  await run(target, `${program} hit 6`);
  assert.equal(await hitsOf(next), 6);
  await next.stop();
});

test('a probe that is added later is in all that is held, and in what comes; one that is removed in nothing', async () => {
  await using target = await shell();
  await using session = await attach({ pids: [target.pid] }, { probes: [], follow: true });
  const fifo = `/tmp/trapline-follow-${process.pid}`;
  await run(
    target,
    `mkfifo ${fifo}; ${program} chain 0 1; (read -r go < ${fifo}; exec ${program} hit 3) &`,
  );
  const added = await session.add(counting);
  await run(target, `echo go > ${fifo}; wait; rm ${fifo}; ${program} hit 4`);
  assert.equal(await hitsOf(session), 7);
  await session.remove(added);
  await run(target, `${program} hit 4`);
  const summary = await session.stop();
  assertExact(summary);
});

function spawnStorm(n: number): Promise<Session> {
  return spawn(['sh', '-c', `${program} storm 20 ${n} > /dev/null; ${program} hit ${n}`], {
    probes: [counting],
  });
}

test('two commands at once, of one process', async () => {
  await using first = await spawnStorm(3);
  await using second = await spawnStorm(4);
  const ends = await Promise.all([first.ended, second.ended]);
  assert.deepEqual(
    ends.map(([end]) => end?.status?.code),
    [0, 0],
  );
  assert.deepEqual([await hitsOf(first), await hitsOf(second)], [63, 84]);
  await Promise.all([first.stop(), second.stop()]);
});
