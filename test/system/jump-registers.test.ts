import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  attach,
  type ProbedSite,
  type ProbeRequest,
  type Session,
  type Summary,
} from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import {
  assertExact,
  countOf,
  countsOf,
  difference,
  eventOf,
  leavingClean,
  Reading,
  startSelfCheck,
  step,
  type Counts,
} from './jump-support.ts';

/** Everything that a stub can do, on one place. */
const ARGUMENTS: readonly (string | undefined)[] = [
  'a=%di:u64 b=%si:u64 c=%ax d=%cx e=%dx f=%r8 g=%r11 h=%r15 sp=%sp ip=%ip flags=%flags',
  'text=+0(%di):string name=$comm word=$stack0 byte=+1(%sp):u8',
  'bad=+0(%bx):u64 text=+0(%r12):string',
  undefined,
];

function requestsFor(place: string): ProbeRequest[] {
  return ARGUMENTS.map((args) =>
    args === undefined
      ? { definition: place, action: 'count' }
      : { definition: `${place} ${args}`, action: 'record' },
  );
}

/** The functions of bare.h, and the places in its leaves; what they can only be made by. */
const BARE: readonly (readonly [string, ProbedSite['method']])[] = [
  ['bare_jump', 'nop'],
  ['bare_short', 'short-jump'],
  ['bare_pun_1', 'pun'],
  ['bare_pun_2', 'pun'],
  ['bare_pun_3', 'pun'],
  ['bare_pun_4', 'pun'],
];
const MIDDLES: readonly (readonly [string, ProbedSite['method']])[] = [
  ['middle_short', 'short-jump'],
  ['middle_pun_1', 'pun'],
  ['middle_pun_2', 'pun'],
  ['middle_pun_3', 'pun'],
  ['middle_pun_4', 'pun'],
];

function assertMethods(session: Session, places: typeof BARE): void {
  const made = session.probes.flatMap(({ sites }) => sites);
  for (const [name, method] of places) {
    const methods = made.filter((site) => site.event.includes(name)).map((site) => site.method);
    assert.deepEqual(
      methods,
      ARGUMENTS.map(() => method),
      name,
    );
  }
}

async function startVectors(): Promise<Target> {
  const target = await startTarget(compileFixture({ sources: ['vectors.c'] }));
  await target.waitForLine('ready');
  return target;
}

/** Lets vectors make so many rounds. @returns all calls since its start. */
async function stepVectors(target: Target, rounds: number): Promise<Counts> {
  target.send(String(rounds));
  return countsOf(await target.waitForLine(/^(rounds|bad)/, 60_000));
}

/** Probes places while the program makes rounds. @returns its calls meanwhile, and what the session counted. */
async function probeDuring(
  target: Target,
  places: readonly string[],
  round: () => Promise<Counts>,
  onSession: (session: Session) => void = () => {},
): Promise<{ calls: Counts; summary: Summary }> {
  const before = await round();
  const probes = places.flatMap(requestsFor);
  await using session = await attach({ pids: [target.pid] }, { probes, ringBytes: 8 << 20 });
  onSession(session);
  const events = new Reading(session);
  const calls = difference(before, await round());
  const summary = await session.stop();
  await events.done;
  assertExact(summary);
  return { calls, summary };
}

test('the extended state and the red zone, for every method', async () => {
  await using target = await startVectors();
  await leavingClean(target, async () => {
    const wanted = [...BARE, ...MIDDLES];
    const places = wanted.map(([name]) => `${name}@vectors`);
    const { calls, summary } = await probeDuring(
      target,
      places,
      async () => stepVectors(target, 500),
      (session) => assertMethods(session, wanted),
    );
    for (const { event, hits } of summary.events) {
      assert.equal(hits, countOf(calls, 'bare_call'), event);
    }
  });
});

test('general registers and flags, for every method', async () => {
  await using target = await startSelfCheck(2);
  await leavingClean(target, async () => {
    const places = BARE.map(([name]) => `${name}@self-check`);
    const { calls, summary } = await probeDuring(
      target,
      places,
      async () => step(target, 200),
      (session) => assertMethods(session, BARE),
    );
    for (const { event, hits } of summary.events) {
      assert.equal(hits, countOf(calls, 'bare_target'), event);
    }
  });
});

test('x87, MXCSR, xmm, ymm, zmm, masks and the red zone are equal before and after a hit', async () => {
  await using target = await startVectors();
  await leavingClean(target, async () => {
    const names = ['bare_call', 'bare_middle'];
    const places = names.map((name) => `${name}@vectors`);
    const round = async (): Promise<Counts> => stepVectors(target, 2000);
    const { calls, summary } = await probeDuring(target, places, round);
    for (const name of names) {
      ARGUMENTS.forEach((_, at) => {
        const event = eventOf(summary, at === 0 ? name : `${name}_${at}`);
        assert.equal(event.hits, countOf(calls, name), event.event);
      });
    }
  });
});

test('general registers, flags and the red zone, at entries and in the middle of a leaf', async () => {
  await using target = await startSelfCheck(4);
  await leavingClean(target, async () => {
    // FUNC+OFFSET: behind its loop, where the words below the stack pointer are in use.
    const places = ['bare_target@self-check', 'red_zone_middle@self-check', 'leaf@self-check'];
    const round = async (): Promise<Counts> => step(target, 400);
    const { calls, summary } = await probeDuring(target, places, round);
    assert.equal(eventOf(summary, 'bare_target').hits, countOf(calls, 'bare_target'));
    assert.equal(eventOf(summary, 'red_zone_middle').hits, countOf(calls, 'red_zone_check'));
    assert.equal(eventOf(summary, 'leaf_2').hits, countOf(calls, 'leaf'));
    // Its registers hold random words: no pointer, and none is followed anywhere.
    assert.ok(eventOf(summary, 'bare_target_2').recorded > 0);
  });
});

test('FUNC+OFFSET in the middle of a leaf that uses its red zone', async () => {
  await using target = await startSelfCheck(1);
  await leavingClean(target, async () => {
    const before = await step(target, 1);
    await using probing = await attach(
      { pids: [target.pid] },
      { probes: [{ definition: 'red_zone_middle@self-check', action: 'count' }] },
    );
    const [middle] = probing.probes[0]?.sites ?? [];
    const [entry] = (
      await probing.add({ definition: 'red_zone_check@self-check', action: 'count' })
    ).sites;
    assert.ok(middle !== undefined && entry !== undefined);
    const distance = middle.offset - entry.offset;
    await using session = await attach(
      { pids: [target.pid] },
      { probes: [`red_zone_check+${distance}@self-check a=%cx:u64 b=$stack0`] },
    );
    const events = new Reading(session);
    const calls = difference(before, await step(target, 200));
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    const [event] = summary.events;
    assert.equal(event?.hits, countOf(calls, 'red_zone_check'));
    assert.equal(events.total, event?.recorded);
    assertExact(await probing.stop());
  });
});
