import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import { attach, type AddedProbe, type ProbedSite } from '../../src/index.ts';
import { assertExact, difference, leavingClean } from './jump-support.ts';
import {
  addCount,
  allPlaces,
  hitsAt,
  NO_ROOM,
  placeOf,
  runsOf,
  startMethods,
  stepMethods,
  surePlaces,
  tryCount,
  type Place,
} from './methods-support.ts';

/** The places of which only one method is possible, and it. */
const WANTED: readonly (readonly [string, number, ProbedSite['method']])[] = [
  ['m_nop', 0, 'nop'],
  ['m_one', 0, 'jump'],
  ['m_several', 0, 'jump'],
  ['m_short', 0, 'short-jump'],
  ['m_short_two', 0, 'short-jump'],
  ['m_skip', 2, 'jump'],
  ['m_loop', 0, 'jump'],
  ['m_call', 2, 'jump'],
  ['m_lock', 3, 'pun'],
  ['m_lock', 4, 'jump'],
  ['m_pun_one', 0, 'pun'],
  ['m_pun_two', 0, 'pun'],
  ['m_pun_three', 0, 'pun'],
  ['m_pun_four', 0, 'pun'],
  ['m_ret', 0, 'pun'],
  ['m_page', 0, 'pun'],
];

for (const [name, nth, method] of WANTED) {
  test(`${name}, instruction ${nth}, is made by ${method}; its hits are exact`, async () => {
    await using target = await startMethods(2);
    await leavingClean(target, async () => {
      const before = await stepMethods(target, 3);
      const place = placeOf(name, nth);
      await using session = await attach({ pids: [target.pid] }, { probes: [] });
      const { sites } = await addCount(session, place);
      assert.equal(sites[0]?.method, method);
      const calls = difference(before, await stepMethods(target, 200));
      const summary = await session.stop();
      assertExact(summary);
      assert.equal(summary.events[0]?.hits, runsOf(place, calls));
    });
  });
}

/** Adds all, counts, removes all, in the orders given. */
async function addAndRemove(
  context: TestContext,
  places: readonly Place[],
  removing: readonly Place[],
): Promise<void> {
  await using target = await startMethods(2);
  await leavingClean(target, async () => {
    let before = await stepMethods(target, 3);
    await using session = await attach({ pids: [target.pid] }, { probes: [] });
    const expected = new Map(places.map((place) => [place, 0]));
    const inside = new Map<Place, AddedProbe>();
    const count = async (): Promise<void> => {
      const after = await stepMethods(target, 20);
      const calls = difference(before, after);
      before = after;
      for (const place of inside.keys()) {
        expected.set(place, (expected.get(place) ?? 0) + runsOf(place, calls));
      }
      const hits = await hitsAt(session, places);
      places.forEach((place, at) => {
        assert.equal(hits[at], expected.get(place), place.definition);
      });
    };
    for (const group of groupsOf(places)) {
      for (const place of group) {
        const probe = await tryCount(session, place, NO_ROOM);
        if (probe !== undefined) inside.set(place, probe);
      }
      await count();
    }
    const made = inside.size;
    for (const place of removing) {
      const probe = inside.get(place);
      if (probe === undefined) continue;
      await session.remove(probe);
      inside.delete(place);
      await count();
    }
    context.diagnostic(`${made} of ${places.length} places`);
    assert.ok(made > places.length * 0.9, `only ${made}`);
    assertExact(await session.stop());
  });
}

/** One after the other, with a count after each tenth. */
function groupsOf(places: readonly Place[]): Place[][] {
  return Array.from({ length: Math.ceil(places.length / 10) }, (_, at) =>
    places.slice(at * 10, at * 10 + 10),
  );
}

test('probes at every instruction, from the lowest on; out from the highest on', async (context) => {
  const places = allPlaces();
  await addAndRemove(context, places, places.toReversed());
});

test('probes at every instruction, from the highest on; out from the lowest on', async (context) => {
  const places = allPlaces();
  await addAndRemove(context, places.toReversed(), places);
});

test('probes at every instruction of what has padding, and all kinds of puns, in one change', async () => {
  const places = surePlaces();
  await using target = await startMethods(2);
  await leavingClean(target, async () => {
    const before = await stepMethods(target, 3);
    const probes = places.map(({ definition }) => ({ definition, action: 'count' as const }));
    await using session = await attach({ pids: [target.pid] }, { probes });
    const calls = difference(before, await stepMethods(target, 200));
    const hits = await hitsAt(session, places);
    places.forEach((place, at) => {
      assert.equal(hits[at], runsOf(place, calls), place.definition);
    });
    const methods = session.probes.flatMap(({ sites }) => sites.map(({ method }) => method));
    assert.deepEqual([...new Set(methods)].sort(), ['jump', 'nop', 'pun', 'short-jump']);
    assertExact(await session.stop());
  });
});
