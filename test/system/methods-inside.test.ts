import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, type Session } from '../../src/index.ts';
import type { Target } from '../harness/target.ts';
import { call, leave, startInside } from './inside-support.ts';
import { assertExact, eventOf, leavingClean } from './jump-support.ts';

async function countPlace(target: Target): Promise<Session> {
  return attach(
    { pids: [target.pid] },
    { probes: [{ definition: 'place@inside', action: 'count' }] },
  );
}

test('a task in a system call inside the five bytes goes on in the stub, and the call is repeated', async () => {
  await using target = await startInside('stand');
  await leavingClean(target, async () => {
    await call(target, 2);
    await using session = await countPlace(target);
    assert.equal(session.probes[0]?.sites[0]?.method, 'jump');
    // The first comes out of the call in which it was moved.
    await call(target, 6);
    await leave(target);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'place').hits, 6);
  });
});

test('a place that a task never leaves, since its stack holds an address inside, is made in another way', async () => {
  await using target = await startInside('hold');
  await leavingClean(target, async () => {
    await call(target, 2);
    await using session = await countPlace(target);
    assert.notEqual(session.probes[0]?.sites[0]?.method, 'jump');
    await call(target, 5);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'place').hits, 5);
  });
});

test('a task that stands in the stub of a site, behind what a new one is made at, is waited for', async () => {
  await using target = await startInside('stand');
  await leavingClean(target, async () => {
    await using session = await countPlace(target);
    // Now it waits in the copy; what is made at the call itself covers where that copy goes back to.
    await call(target, 2);
    const inner = await session.add({ definition: 'place+2@inside', action: 'count' });
    assert.notEqual(inner.sites[0]?.method, 'jump');
    await call(target, 4);
    await session.remove(inner);
    await call(target, 1);
    await leave(target);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'place').hits, 7);
    assert.equal(eventOf(summary, 'place_0x2').hits, 4);
  });
});
