import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { inspect } from 'node:util';

import { attach, TraplineError, type Session } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { lookAt } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { selfCheck, startSelfCheck } from './cli-support.ts';

/** Of one run, in milliseconds: nothing may hang, however busy the machine. */
const PATIENCE = 60_000;

const path = selfCheck();
const probes = [`work_step@${path} a=%di:s64`, `text_length@${path} text=+0(%di):string`];

/** What a session comes to whose target was killed; anything but an end or `no-process` is a defect. */
async function bounded<T>(work: Promise<T>): Promise<T | 'no-process'> {
  const late = sleep(PATIENCE, undefined, { ref: false }).then(() => assert.fail('it hangs'));
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    assert.ok(error instanceof TraplineError, inspect(error, { depth: 5 }));
    assert.equal(error.code, 'no-process', `${error.message}\n${error.stack}`);
    return 'no-process';
  }
}

async function readAll(session: Session): Promise<number> {
  let count = 0;
  for await (const batch of session.batches()) count += batch.count;
  return count;
}

/** Our own side, as it was before: the target's is gone with it. */
function ownSide(): unknown {
  const { ownDescriptors, ownMappings, tracees } = lookAt(process.pid);
  return {
    ownDescriptors: ownDescriptors.filter(
      (line) => !/pipe|socket|eventpoll|eventfd|dev.null/.test(line),
    ),
    ownMappings,
    tracees,
  };
}

/** Lets a target be killed from a process of its own, so that it can happen while our threads are busy. */
async function killLater(target: Target, milliseconds: number): Promise<Target> {
  return startTarget('/bin/sh', ['-c', `sleep ${milliseconds / 1000}; kill -9 ${target.pid}`]);
}

async function wholeLife(target: Target): Promise<unknown> {
  await using session = await attach({ pids: [target.pid] }, { probes });
  const reading = readAll(session);
  const added = await session.add('malloc@libc.so.6 size=%di:u64');
  await session.remove(added);
  await session.stop();
  await reading;
  return session.ended;
}

test('a target that is killed before: no such process', async () => {
  const target = await startSelfCheck();
  await target[Symbol.asyncDispose]();
  const before = ownSide();
  assert.equal(await bounded(wholeLife(target)), 'no-process');
  assert.deepEqual(ownSide(), before);
});

test('a target that is killed while events stream: the session ends by itself', async () => {
  await using target = await startSelfCheck(false, 4);
  const before = ownSide();
  const work = async (): Promise<void> => {
    await using session = await attach({ pids: [target.pid] }, { probes });
    let count = 0;
    let isKilled = false;
    for await (const batch of session.batches()) {
      count += batch.count;
      if (count >= 100 && !isKilled) target.kill('SIGKILL');
      isKilled ||= count >= 100;
    }
    assert.ok(count >= 100);
    assert.deepEqual(await session.ended, [{ pid: target.pid }]);
    const { kept } = await session.stop();
    assert.deepEqual(kept, []);
  };
  assert.equal(await bounded(work()), undefined);
  assert.deepEqual(ownSide(), before);
});

test('a target that is killed while it is stopped for us, at any time', async (context) => {
  const before = ownSide();
  const began = performance.now();
  {
    await using target = await startSelfCheck(false, 4);
    await bounded(wholeLife(target));
  }
  const life = performance.now() - began;
  assert.deepEqual(ownSide(), before);
  const outcomes = new Map<string, number>();
  const runs = isLong() ? 200 : 12;
  for (let run = 0; run < runs; run++) {
    await using target = await startSelfCheck(false, 4);
    await using killer = await killLater(target, (run / runs) * life);
    const outcome = await bounded(wholeLife(target));
    const kind = outcome === 'no-process' ? outcome : 'ended';
    outcomes.set(kind, (outcomes.get(kind) ?? 0) + 1);
    await killer.waitForEnd(PATIENCE);
    assert.deepEqual(ownSide(), before, `run ${run}`);
  }
  context.diagnostic(JSON.stringify([...outcomes]));
});
