import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, type ProbedSite, type ProbeRequest, type Session } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget } from '../harness/target.ts';
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

test('the extended state and the red zone, for every method', async () => {
  await using target = await startTarget(compileFixture({ sources: ['vectors.c'] }));
  await target.waitForLine('ready');
  const rounds = async (count: number) => {
    target.send(String(count));
    return countsOf(await target.waitForLine(/^(rounds|bad)/, 60_000));
  };
  await leavingClean(target, async () => {
    const before = await rounds(100);
    const places = [...BARE, ...MIDDLES];
    const probes = places.flatMap(([name]) => requestsFor(`${name}@vectors`));
    await using session = await attach({ pids: [target.pid] }, { probes, ringBytes: 8 << 20 });
    assertMethods(session, places);
    const events = new Reading(session);
    const calls = difference(before, await rounds(500));
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    for (const { event, hits } of summary.events) {
      assert.equal(hits, countOf(calls, 'bare_call'), event);
    }
  });
});

test('general registers and flags, for every method', async () => {
  await using target = await startSelfCheck(2);
  await leavingClean(target, async () => {
    const before = await step(target, 1);
    const probes = BARE.flatMap(([name]) => requestsFor(`${name}@self-check`));
    await using session = await attach({ pids: [target.pid] }, { probes, ringBytes: 8 << 20 });
    assertMethods(session, BARE);
    const events = new Reading(session);
    const calls = difference(before, await step(target, 200));
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    for (const { event, hits } of summary.events) {
      assert.equal(hits, countOf(calls, 'bare_target'), event);
    }
  });
});

test('x87, MXCSR, xmm, ymm, zmm, masks and the red zone are equal before and after a hit', async () => {
  await using target = await startTarget(compileFixture({ sources: ['vectors.c'] }));
  await target.waitForLine('ready');
  const rounds = async (count: number) => {
    target.send(String(count));
    return countsOf(await target.waitForLine(/^(rounds|bad)/, 60_000));
  };
  await leavingClean(target, async () => {
    const before = await rounds(100);
    const probes = ['bare_call@vectors', 'bare_middle@vectors'].flatMap(requestsFor);
    await using session = await attach({ pids: [target.pid] }, { probes, ringBytes: 8 << 20 });
    const events = new Reading(session);
    const calls = difference(before, await rounds(2000));
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    for (const name of ['bare_call', 'bare_middle']) {
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
    const before = await step(target, 1);
    // FUNC+OFFSET: behind its loop, where the words below the stack pointer are in use.
    const probes = [
      'bare_target@self-check',
      'red_zone_middle@self-check',
      'leaf@self-check',
    ].flatMap(requestsFor);
    await using session = await attach({ pids: [target.pid] }, { probes, ringBytes: 8 << 20 });
    const events = new Reading(session);
    const calls = difference(before, await step(target, 400));
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
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
