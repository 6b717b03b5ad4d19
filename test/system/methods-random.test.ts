import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import { attach, status, type AddedProbe, type Session } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { Random } from '../harness/random.ts';
import type { Target } from '../harness/target.ts';
import { assertExact, difference, leavingClean } from './jump-support.ts';
import {
  allPlaces,
  hitsAt,
  NO_ROOM,
  runsOf,
  startMethods,
  stepMethods,
  tryCount,
  type Place,
} from './methods-support.ts';

/** One of two parties, and what it has in. */
interface Party {
  readonly session: Session;
  readonly inside: Map<Place, AddedProbe>;
}

/** What came of the changes. */
interface Tally {
  tried: number;
  refused: number;
}

/** Adds or removes something at random, more often the one while little is in. */
async function change(
  party: Party,
  places: readonly Place[],
  random: Random,
  tally: Tally,
): Promise<void> {
  const { session, inside } = party;
  const place = random.pick(places);
  const probe = inside.get(place);
  if (probe !== undefined) {
    await session.remove(probe);
    inside.delete(place);
    return;
  }
  const added = await tryCount(session, place, NO_ROOM);
  tally.tried++;
  if (added === undefined) tally.refused++;
  else inside.set(place, added);
}

/** Between two moments at which nothing runs, every probe that is in counts what the program counts. */
async function assertCounts(target: Target, parties: readonly Party[]): Promise<void> {
  const hits = (): Promise<number[][]> =>
    Promise.all(parties.map(({ session, inside }) => hitsAt(session, [...inside.keys()])));
  const start = await stepMethods(target, 1);
  const before = await hits();
  const calls = difference(start, await stepMethods(target, 10));
  const after = await hits();
  parties.forEach(({ inside }, party) => {
    [...inside.keys()].forEach((place, at) => {
      const made = (after[party]?.[at] ?? 0) - (before[party]?.[at] ?? 0);
      assert.equal(made, runsOf(place, calls), `party ${party}: ${place.definition}`);
    });
  });
}

async function runAtRandom(context: TestContext, seed: number, steps: number): Promise<void> {
  const random = new Random(seed);
  const places = allPlaces();
  await using target = await startMethods(3);
  await leavingClean(target, async () => {
    await using one = await attach({ pids: [target.pid] }, { probes: [] });
    await using other = await attach({ pids: [target.pid] }, { probes: [] });
    const parties = [one, other].map((session) => ({
      session,
      inside: new Map<Place, AddedProbe>(),
    }));
    const tally = { tried: 0, refused: 0 };
    let most = 0;
    for (let round = 0; round < steps; round++) {
      target.send('run');
      await target.waitForLine('running');
      for (let changes = 0; changes < 6; changes++) {
        await change(random.pick(parties), places, random, tally);
      }
      target.send('pause');
      assert.match(await target.waitForLine(/^(paused|bad)/, 60_000), /^paused/);
      await assertCounts(target, parties);
      most = Math.max(most, ...parties.map(({ inside }) => inside.size));
    }
    // One leaves with all that it has, the other takes its own out in no order.
    assertExact(await one.stop());
    const [party] = parties.slice(1);
    assert.ok(party !== undefined);
    await assertCounts(target, [party]);
    while (party.inside.size > 0) {
      const [place, probe] = random.pick([...party.inside]);
      await other.remove(probe);
      party.inside.delete(place);
    }
    const [held] = await status([target.pid]);
    assert.deepEqual(
      held?.sites.filter(({ state }) => state === 'live'),
      [],
    );
    assertExact(await other.stop());
    const { tried, refused } = tally;
    context.diagnostic(
      `seed ${seed}: ${most} probes of one session at most, ${refused} of ${tried} refused`,
    );
    // A refused probe has no counts to compare: if all were refused, all of the above would hold.
    assert.ok(refused * 4 < tried, `${refused} of ${tried} refused`);
  });
}

for (const seed of isLong() ? Array.from({ length: 20 }, (_, at) => at + 1) : [1, 2]) {
  test(`two sessions add and remove at random instructions of a running program, seed ${seed}`, async (context) => {
    await runAtRandom(context, seed, isLong() ? 60 : 12);
  });
}
