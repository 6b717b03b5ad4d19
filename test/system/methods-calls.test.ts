/** A task sleeps in a system call that a stub's copy of displaced instructions makes, while its site changes. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, clean } from '../../src/index.ts';
import { assertClean, lookAt } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import {
  assertInStub,
  call,
  hold,
  leave,
  lookInside,
  signalAndInterrupt,
  signalAndRestart,
  startInside,
  stubAround,
} from './inside-support.ts';
import { assertExact, eventOf, leavingClean, until } from './jump-support.ts';
import { assertNothingHeld, startSession, targetOnly } from './kill-support.ts';

const place = { definition: 'place@inside', action: 'count' } as const;

/** How a task comes out of the call in which it sleeps. */
const waysOut: Readonly<Record<string, (target: Target) => Promise<void>>> = {
  'by what it waits for': (target) => call(target, 1),
  'by a signal': signalAndInterrupt,
};

/** The call is made again from the stub, whatever became of its site, and ends as it should. */
async function comeOut(target: Target, out: (target: Target) => Promise<void>): Promise<void> {
  const { stub } = assertInStub(target, 'retired');
  await signalAndRestart(target);
  assert.equal(assertInStub(target, 'retired').stub, stub);
  await out(target);
  await call(target, 2);
}

for (const [how, out] of Object.entries(waysOut)) {
  test(`a site is removed while a task sleeps in its stub, which comes out ${how}`, async () => {
    await using target = await startInside('stand');
    await leavingClean(target, async () => {
      await using session = await attach({ pids: [target.pid] }, { probes: [] });
      const probe = await session.add(place);
      await call(target, 2);
      assertInStub(target, 'live');
      await session.remove(probe);
      assert.deepEqual(lookAt(target.pid).changedCode, []);
      await comeOut(target, out);
      const summary = await session.stop();
      assertExact(summary);
      // The first call began before the probe, and was moved to its stub.
      assert.equal(eventOf(summary, 'place').hits, 2);
    });
  });

  test(`a session ends while a task sleeps in a stub, which comes out ${how}; clean gives it back`, async () => {
    await using target = await startInside('stand');
    await call(target, 1);
    const before = targetOnly(target.pid);
    await using session = await attach({ pids: [target.pid] }, { probes: [place] });
    await call(target, 2);
    const { kept } = await session.stop();
    assert.match(kept.join(), /^the stubs of process \d+ stay/);
    assert.deepEqual(lookAt(target.pid).changedCode, []);
    await comeOut(target, out);
    assert.deepEqual((await clean([target.pid]))[0]?.kept, []);
    assertNothingHeld(target.pid);
    assertClean(before, targetOnly(target.pid), { ran: true });
    await call(target, 1);
  });
}

test('a site is removed while a handler runs that interrupted a call of its stub', async () => {
  await using target = await startInside('stand');
  await leavingClean(target, async () => {
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    const probe = await session.add(place);
    await call(target, 2);
    await hold(target);
    await session.remove(probe);
    assert.deepEqual(
      lookInside(target).rows.map(({ state }) => state),
      ['retired'],
    );
    target.send('go');
    await until('the way back into the stub', () => stubAround(target) !== undefined);
    await comeOut(target, signalAndInterrupt);
    assertExact(await session.stop());
  });
});

test('a tracer is killed while a task sleeps in a stub; clean gives it back once it is out', async () => {
  await using target = await startInside('stand');
  await call(target, 1);
  const before = targetOnly(target.pid);
  await using session = await startSession(target, 'place@inside');
  await call(target, 2);
  session.kill('SIGKILL');
  await session.waitForEnd(30_000);
  assert.match((await clean([target.pid]))[0]?.kept.join() ?? '', /^the stubs of process \d+ stay/);
  await comeOut(target, signalAndInterrupt);
  assert.deepEqual((await clean([target.pid]))[0]?.kept, []);
  assertNothingHeld(target.pid);
  assertClean(before, targetOnly(target.pid), { ran: true });
});

for (const [how, out] of Object.entries(waysOut)) {
  test(`a site is made right behind the call in which a task sleeps in a stub, and it comes there ${how}`, async () => {
    await using target = await startInside('stand');
    await leavingClean(target, async () => {
      await using session = await attach({ pids: [target.pid] }, { probes: [place] });
      await call(target, 2);
      const { stub } = assertInStub(target, 'live');
      const behind = await session.add({ definition: 'place+4@inside', action: 'count' });
      assert.equal(assertInStub(target, 'live').stub, stub);
      await signalAndRestart(target);
      assert.equal(assertInStub(target, 'live').stub, stub);
      await out(target);
      await call(target, 1);
      await session.remove(behind);
      await call(target, 1);
      await leave(target);
      const summary = await session.stop();
      assertExact(summary);
      assert.equal(eventOf(summary, 'place').hits, 5);
      assert.equal(eventOf(summary, 'place_0x4').hits, 2);
      assert.deepEqual(lookInside(target).rows, []);
    });
  });
}
