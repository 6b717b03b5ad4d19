/** Puns of which the springboard has somebody on it, while they are led anew or taken out. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, clean, type Session } from '../../src/index.ts';
import { TraplineError } from '../../src/base/errors.ts';
import type { Address } from '../../src/base/brand.ts';
import { assertClean } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import { call, holdAt, letGo, lookInside, startInside } from './inside-support.ts';
import { assertExact, eventOf, leavingClean } from './jump-support.ts';
import { assertNothingHeld, targetOnly } from './kill-support.ts';

const pun = { definition: 'far_pun@inside', action: 'count' } as const;
/** The loop behind it, which comes round three times a call. */
const beside = { definition: 'far_pun+1@inside', action: 'count' } as const;

/** The springboard of the one pun of a target. */
function springboard(target: Target): Address {
  const row = lookInside(target).rows.find(({ method }) => method === 'pun');
  return row?.via ?? assert.fail('there is no springboard');
}

async function attachPun(target: Target): Promise<Session> {
  const session = await attach({ pids: [target.pid] }, { probes: [] });
  const { sites } = await session.add(pun);
  assert.equal(sites[0]?.method, 'pun');
  return session;
}

/** Has it call the pun, and leaves a handler that will come back to its springboard. @returns where that is. */
async function holdOnBoard(target: Target): Promise<Address> {
  await call(target, 1);
  const board = springboard(target);
  await holdAt(target, board);
  return board;
}

test('a pun is not led anew while a handler will come back to its springboard', async () => {
  await using target = await startInside('pun');
  await leavingClean(target, async () => {
    await using session = await attachPun(target);
    const board = await holdOnBoard(target);
    await assert.rejects(
      session.add(beside),
      (error) =>
        error instanceof TraplineError &&
        error.code === 'refused' &&
        /a task is about to pass it/.test(error.hint ?? ''),
    );
    assert.equal(springboard(target), board);
    await letGo(target);
    await session.add(beside);
    assert.notEqual(springboard(target), board);
    await call(target, 2);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'far_pun').hits, 4);
    assert.equal(eventOf(summary, 'far_pun_0x1').hits, 6);
  });
});

test('the springboard of a pun that is out stays while a handler will come back to it', async () => {
  await using target = await startInside('pun');
  await leavingClean(target, async () => {
    await using session = await attachPun(target);
    const board = await holdOnBoard(target);
    const [probe] = session.probes;
    assert.ok(probe !== undefined);
    await session.remove(probe);
    assert.equal(springboard(target), board);
    await letGo(target);
    await call(target, 1);
    assertExact(await session.stop());
  });
});

test('a session that ends leaves a springboard to which a handler will come back, and clean gives it back', async () => {
  await using target = await startInside('pun');
  const before = targetOnly(target.pid);
  await using session = await attachPun(target);
  await call(target, 1);
  const board = springboard(target);
  await holdAt(target, board);
  assert.match((await session.stop()).kept.join(), /^the stubs of process \d+ stay/);
  assert.equal(springboard(target), board);
  await letGo(target);
  await call(target, 1);
  assert.deepEqual((await clean([target.pid]))[0]?.kept, []);
  assertNothingHeld(target.pid);
  assertClean(before, targetOnly(target.pid), { ran: true });
});
