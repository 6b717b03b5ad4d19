/** What a task keeps of a site that is out is given back as soon as it is out of it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, clean, type AddedProbe, type Session } from '../../src/index.ts';
import { assertClean } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import { assertInStub, call, leave, lookInside, startInside } from './inside-support.ts';
import { assertExact, eventOf, leavingClean } from './jump-support.ts';
import { assertNothingHeld, targetOnly } from './kill-support.ts';

const place = { definition: 'place@inside', action: 'count' } as const;
const other = { definition: 'pun_place@inside', action: 'count' } as const;

/** A site is out again, and the task is in its stub still. */
async function removeAround(target: Target, session: Session): Promise<AddedProbe> {
  const probe = await session.add(place);
  await call(target, 2);
  await session.remove(probe);
  assertInStub(target, 'retired');
  return probe;
}

function states(target: Target): string[] {
  return lookInside(target).rows.map(({ state }) => state);
}

test('with the next probe that is added, or taken out', async () => {
  await using target = await startInside('stand');
  await leavingClean(target, async () => {
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    await removeAround(target, session);
    await call(target, 1);
    const probe = await session.add(other);
    assert.deepEqual(states(target), ['live']);
    await removeAround(target, session);
    await call(target, 1);
    await session.remove(probe);
    assert.deepEqual(states(target), []);
    assertExact(await session.stop());
  });
});

test('not before: the same place is made anew meanwhile', async () => {
  await using target = await startInside('stand');
  await leavingClean(target, async () => {
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    await removeAround(target, session);
    const again = await session.add(place);
    assert.deepEqual(states(target).toSorted(), ['live', 'retired']);
    await call(target, 2);
    assertInStub(target, 'live');
    await leave(target);
    await session.remove(again);
    assert.deepEqual(states(target), []);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'place').hits, 4);
  });
});

test('with the end of the session', async () => {
  await using target = await startInside('stand');
  await leavingClean(target, async () => {
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    await removeAround(target, session);
    await call(target, 1);
    assertExact(await session.stop());
  });
});

test('with the end of another session, if its own ended before', async () => {
  await using target = await startInside('stand');
  await leavingClean(target, async () => {
    await using living = await attach({ pids: [target.pid] }, { probes: [other] });
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    await removeAround(target, session);
    assertExact(await session.stop());
    assertInStub(target, 'retired');
    await call(target, 1);
    assertExact(await living.stop());
  });
});

test('by clean, if all sessions ended before', async () => {
  await using target = await startInside('stand');
  await call(target, 1);
  const before = targetOnly(target.pid);
  await using session = await attach({ pids: [target.pid] }, { probes: [] });
  await removeAround(target, session);
  assert.match((await session.stop()).kept.join(), /^the stubs of process \d+ stay/);
  assert.match((await clean([target.pid]))[0]?.kept.join() ?? '', /^the stubs of process \d+ stay/);
  assertInStub(target, 'retired');
  await call(target, 1);
  assert.deepEqual((await clean([target.pid]))[0]?.kept, []);
  assertNothingHeld(target.pid);
  assertClean(before, targetOnly(target.pid), { ran: true });
});
