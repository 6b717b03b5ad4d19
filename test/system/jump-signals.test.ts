import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, type ProbeRequest } from '../../src/index.ts';
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
  type Counts,
} from './jump-support.ts';
import { hitsAt, runsOf, startMethods, stepMethods, surePlaces } from './methods-support.ts';

/** Starts timer-storm: a handler at 10 kHz, and a main loop that never rests. */
async function startStorm(...more: 'wait'[]) {
  const path = compileFixture({ sources: ['timer-storm.c'] });
  const target = await startTarget(path, ['100', '0', ...more]);
  await target.waitForLine('ready', 60_000);
  return target;
}

/** The storm ends with exact counts: the session is in from before the first call to behind the last. */
async function storm(probes: readonly (string | ProbeRequest)[]): Promise<void> {
  await using target = await startStorm();
  await using session = await attach({ pids: [target.pid] }, { probes, ringBytes: 4 << 20 });
  const events = new Reading(session);
  const before = countsOf(await target.waitForLine('tick', 60_000));
  await target.waitForLine('tick', 60_000);
  // The handler stops first, then the counts are printed, while the probes are still in.
  target.kill('SIGTERM');
  const last = await target.waitForLine(/^(ok|bad)/, 60_000);
  assert.match(last, /^ok/);
  const counts = countsOf(last);
  const summary = await session.stop();
  await events.done;
  assertExact(summary);
  assert.ok(countOf(difference(before, counts), 'handler_work') > 100);
  for (const { event, hits, recorded, missed } of summary.events) {
    assert.equal(events.count(event), recorded, event);
    assert.equal(missed.noContext + missed.tracerGone, 0, event);
    assert.ok(hits > 0, event);
  }
  assert.equal(summary.loss.abandoned, 0);
}

test('a 10 kHz timer whose handler calls what the main loop calls: records', async () => {
  await storm([
    'shared_work@timer-storm a=%di:u64 b=%si:u64',
    'main_work@timer-storm a=%di:u64',
    'handler_work@timer-storm a=%di:u64',
  ]);
});

test('a 10 kHz timer: records with memory, several programs on one place, counts', async () => {
  await storm([
    'shared_work@timer-storm return=$stack0 text=+0(%sp):string comm=$comm',
    { definition: 'shared_work@timer-storm', action: 'count' },
    'shared_work@timer-storm a=%di:u64',
    'handler_work@timer-storm bad=+0(%di):u64 flags=%flags',
  ]);
});

test('a 10 kHz timer: filters that read memory give back what they reserved', async () => {
  await storm([
    'shared_work@timer-storm a=%di:u64 return=$stack0:u8 if a & 1 && return >= 0',
    'shared_work@timer-storm text=+0(%sp):u8[2] if text == 0x10000 || comm == "nobody"',
    { definition: 'shared_work@timer-storm', action: 'count', filter: 'comm == "timer-storm"' },
    { definition: 'shared_work@timer-storm', action: 'count', filter: 'comm != "timer-storm"' },
    'main_work@timer-storm b=+0(%sp):u64 if !(b == 0)',
    'handler_work@timer-storm a=%di:u64 if common_pid > 0',
  ]);
});

test('a 10 kHz timer while malloc and free are probed', async () => {
  await storm([
    'malloc@libc.so.6 size=%di:u64',
    'free@libc.so.6 block=%di:x64',
    'shared_work@timer-storm a=%di:u64',
    { definition: 'main_work@timer-storm', action: 'count' },
  ]);
});

test('under a 10 kHz timer every hit is counted, as the program counts it', async () => {
  // It waits: a place that a signal has interrupted goes in only when the frame of that signal is gone.
  await using target = await startStorm('wait');
  const names = ['shared_work', 'main_work', 'handler_work'] as const;
  await using session = await attach(
    { pids: [target.pid] },
    {
      probes: [
        ...names.map((name) => `${name}@timer-storm a=%di:u64`),
        ...names.map((name): ProbeRequest => ({
          definition: `${name}@timer-storm`,
          action: 'count',
        })),
      ],
      ringBytes: 256 << 10,
    },
  );
  const events = new Reading(session);
  target.send('go');
  await target.waitForLine('tick', 60_000);
  await target.waitForLine('tick', 60_000);
  target.kill('SIGTERM');
  const last = await target.waitForLine(/^(ok|bad)/, 60_000);
  assert.match(last, /^ok/);
  const counts = countsOf(last);
  const summary = await session.stop();
  await events.done;
  assertExact(summary);
  for (const name of names) {
    assert.equal(eventOf(summary, name).hits, countOf(counts, name), name);
    assert.equal(eventOf(summary, `${name}_1`).hits, countOf(counts, name), name);
  }
  assert.ok(countOf(counts, 'handler_work') > 100);
});

test('a 10 kHz timer interrupts stubs and what lies before them, for every method, sites over each other', async () => {
  await using target = await startMethods(2, 100);
  const places = surePlaces();
  await leavingClean(target, async () => {
    const before = await stepMethods(target, 3);
    const probes = places.flatMap(({ definition }, at): ProbeRequest[] => [
      { definition, action: 'count' },
      // Some with records, so that all that a stub does is interrupted.
      ...(at % 5 === 0 ? [{ definition: `${definition} a=%di:u64 b=$stack0` }] : []),
    ]);
    await using session = await attach({ pids: [target.pid] }, { probes, ringBytes: 1 << 20 });
    const events = new Reading(session);
    // Handlers make rounds, too: where others keep the processors busy there are fewer of them.
    const deadline = performance.now() + 60_000;
    let calls: Counts;
    let asked = 0;
    let handled: number;
    do {
      asked += 2 * 60_000;
      calls = difference(before, await stepMethods(target, 60_000));
      handled = countOf(calls, 'm_nop') - asked;
      assert.ok(performance.now() < deadline, `${handled} rounds of handlers beside ${asked}`);
    } while (handled <= 100);
    const hits = await hitsAt(session, places);
    places.forEach((place, at) => {
      assert.equal(hits[at], runsOf(place, calls), place.definition);
    });
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
  });
});

const AFTER = 'probe_signal_jump:after_work';

test('a handler that leaves stubs by siglongjmp: events keep flowing, gaps are counted', async (context) => {
  await using target = await startTarget(compileFixture({ sources: ['signal-jump.c'] }), ['60']);
  await target.waitForLine('ready');
  const jump = async (times: number): Promise<Counts> => {
    target.send(String(times));
    return countsOf(await target.waitForLine(/^(jumped|bad)/, 120_000));
  };
  await leavingClean(target, async () => {
    const before = await jump(10);
    await using session = await attach(
      { pids: [target.pid] },
      {
        probes: [
          'jump_work@signal-jump text=+0(%di):string a=%si:u64',
          'after_work@signal-jump a=%di:u64',
        ],
        ringBytes: 4 << 20,
      },
    );
    const events = new Reading(session);
    // Records behind a gap come when it was waited for, or are lost to a ring that runs full meanwhile, the
    // more the slower we read: enough have to come while the session runs.
    let counts = await jump(2000);
    const deadline = performance.now() + 60_000;
    while (events.count(AFTER) <= 1000) {
      assert.ok(performance.now() < deadline, `${events.count(AFTER)} events behind gaps`);
      counts = await jump(200);
    }
    const calls = difference(before, counts);
    const made = countOf(calls, 'after_work');
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    const after = eventOf(summary, AFTER);
    assert.equal(after.hits, made);
    assert.equal(after.recorded + after.missed.ringFull, made);
    assert.equal(events.count(AFTER), after.recorded);
    const work = eventOf(summary, 'jump_work');
    // A call that was left may have been counted or not; one that returned was.
    assert.ok(work.hits >= countOf(calls, 'jump_work'));
    assert.ok(work.hits <= countOf(calls, 'jump_work') + countOf(calls, 'jumps'));
    assert.ok(summary.loss.abandoned > 0, 'no stub was ever interrupted');
    assert.ok(work.missed.abandoned >= summary.loss.abandoned);
    context.diagnostic(`${summary.loss.abandoned} gaps, ${work.missed.abandoned} hits abandoned`);
  });
});
