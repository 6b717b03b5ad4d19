import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { pid as brandPid, type Tid } from '../../src/base/brand.ts';
import { TraplineError } from '../../src/base/errors.ts';
import { held } from '../../src/process/held.ts';
import { releaseLingering, type PollTask } from '../../src/process/lingering.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { listTasks, readTaskStatus } from '../../src/process/tasks.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { tracedTasks } from '../harness/leaks.ts';
import { startTarget } from '../harness/target.ts';
import { assertAlive, assertEndsWell, startBlocked } from './process-support.ts';

const poll: PollTask = (tid: Tid) => held.poll(tid);

test('every task stops, and none notices', async () => {
  await using target = await startBlocked();
  const times: bigint[] = [];
  for (let round = 0; round < 200; round++) {
    const stopped = StoppedProcess.stop(target.pid);
    try {
      const ids = listTasks(target.pid);
      assert.deepEqual(
        stopped.tasks.map((task) => task.tid),
        ids,
      );
      for (const id of ids) assert.equal(readTaskStatus(id)?.tracerTid, process.pid);
      assert.ok(stopped.tasks.every((task) => task.registers.get('rip') !== 0n));
    } finally {
      stopped[Symbol.dispose]();
    }
    times.push(stopped.stoppedNanoseconds);
    if (round % 50 === 0) await assertAlive(target);
  }
  assert.ok(times.every((time) => time > 0n));
  await assertAlive(target);
  await assertEndsWell(target);
});

test('a process that SIGSTOP stopped stays stopped, one that was not does not', async () => {
  await using target = await startBlocked();
  process.kill(target.pid, 'SIGSTOP');
  while (!listTasks(target.pid).every((id) => readTaskStatus(id)?.state === 'T'));
  for (let round = 0; round < 5; round++) {
    {
      using stopped = StoppedProcess.stop(target.pid);
      assert.ok(stopped.tasks.every((task) => task.kind === 'group-stop'));
    }
    assert.deepEqual(tracedTasks(target.pid), []);
    // A task on its way from one stop to the other shows as running for a moment.
    while (!listTasks(target.pid).every((id) => readTaskStatus(id)?.state === 'T'));
  }
  process.kill(target.pid, 'SIGCONT');
  await assertAlive(target);
  await assertEndsWell(target);
});

test('a process that somebody else traces is busy, and the tracer is named', async () => {
  await using target = await startBlocked();
  const code = `
    const { Worker, parentPort, workerData } = require('node:worker_threads');
    import(workerData.ptrace).then(({ seize, detach, interrupt }) => {
      seize(workerData.pid, 0);
      parentPort.postMessage('seized');
      setInterval(() => {}, 1000);
    });`;
  const { Worker } = await import('node:worker_threads');
  const ptrace = new URL('../../src/sys/ptrace.js', import.meta.url).href;
  const other = new Worker(code, { eval: true, workerData: { ptrace, pid: target.pid } });
  await once(other, 'message');
  assert.throws(
    () => StoppedProcess.stop(target.pid),
    (error) =>
      error instanceof TraplineError && error.code === 'busy' && /traced by/.test(error.message),
  );
  const ended = once(other, 'exit');
  await other.terminate();
  await ended;
  await assertAlive(target);
  {
    using stopped = StoppedProcess.stop(target.pid);
    assert.ok(stopped.tasks.length > 9);
  }
  await assertAlive(target);
});

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof TraplineError) return error.code;
    throw error;
  }
  return 'nothing';
}

test('no process, and our own', () => {
  assert.equal(
    codeOf(() => StoppedProcess.stop(brandPid(4_194_304))),
    'no-process',
  );
  assert.equal(
    codeOf(() => StoppedProcess.stop(brandPid(process.pid))),
    'not-permitted',
  );
});

test('a parent in vfork makes it busy, and is let go when it stops', async () => {
  const path = compileFixture({ sources: ['process-vfork.c'] });
  await using target = await startTarget(path);
  await target.waitForLine('vforked');
  const before = performance.now();
  assert.throws(
    () => StoppedProcess.stop(target.pid, { patience: 200 }),
    (error) => error instanceof TraplineError && error.code === 'busy',
  );
  assert.ok(performance.now() - before < 1500);
  assert.deepEqual(tracedTasks(target.pid), []);
  assert.equal(releaseLingering(poll), 0);
  target.send('x');
  assert.equal((await target.exited).status, 7);
});

test('a process that shares the memory is stopped too', async () => {
  const path = compileFixture({ sources: ['process-vfork.c'] });
  await using target = await startTarget(path, ['clone']);
  const line = await target.waitForLine('cloned');
  const child = Number(line.split(' ')[1]);
  {
    using stopped = StoppedProcess.stop(target.pid);
    const pids = new Set(stopped.tasks.map((task) => Number(task.pid)));
    assert.deepEqual(pids, new Set([Number(target.pid), child]));
  }
  assert.deepEqual(tracedTasks(target.pid), []);
  assert.match(readFileSync(`/proc/${child}/status`, 'utf8'), /^TracerPid:\t0$/m);
  target.send('x');
  assert.equal((await target.exited).status, 7);
});

test('a target that is killed while it is stopped ends, and is waited for', async () => {
  await using target = await startBlocked();
  {
    using stopped = StoppedProcess.stop(target.pid);
    process.kill(target.pid, 'SIGKILL');
    const first = stopped.tasks[0]?.tid;
    assert.ok(first !== undefined);
  }
  const deadline = performance.now() + 5000;
  while (releaseLingering(poll) > 0 && performance.now() < deadline);
  assert.equal((await target.exited).signal, 'SIGKILL');
});
