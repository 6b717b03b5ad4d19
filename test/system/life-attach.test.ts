/** Attaching to one process and leaving it again, over and over: nothing grows, in it or with us. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { attach, status } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import type { Target } from '../harness/target.ts';
import {
  assertExact,
  countOf,
  countsOf,
  difference,
  eventOf,
  leavingClean,
  Reading,
  startSelfCheck,
} from './jump-support.ts';

/** How often, or as long as: the fewest outside of the long form are enough to see what each leaves behind. */
const EXTENT = isLong()
  ? { times: 10_000, fewest: 10_000, milliseconds: Number.POSITIVE_INFINITY }
  : { times: 2000, fewest: 16, milliseconds: 4000 };
/** After so many the footprint is taken. */
const EVERY = isLong() ? 250 : 2;
/**
 * Of our heap and what it holds outside, in bytes, after a collection: over the second half of all. A session that
 * stayed would leave its segment's views and tables, some 100 KiB: of 20 sessions that is more; the rest is
 * what the engine compiles and the tests' own lists.
 */
const HEAP_BOUND = isLong() ? 8 << 20 : 2 << 20;
/**
 * Of mappings and of resident memory over the second half: what V8 and libc find room for grows with the first sessions, and
 * in steps. A thread that ended with each would leave four or five of the one and 100 KiB of the other a time.
 */
const MAPPINGS_BOUND = isLong() ? 400 : 40;
const RESIDENT_BOUND = isLong() ? 64 << 20 : 16 << 20;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void; // what the flag exposes

/** Everything that could grow. */
interface Footprint {
  readonly targetMappings: number;
  readonly targetDescriptors: number;
  readonly ourMappings: number;
  readonly ourDescriptors: number;
  readonly threads: number;
  readonly heap: number;
  readonly allMappings: number;
  readonly resident: number;
}

async function footprint({ pid }: Target): Promise<Footprint> {
  // What holds memory of others lets it go when it is finalised, after a first collection.
  for (let round = 0; round < 3; round++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external, rss } = process.memoryUsage();
  const mappings = linesOf('/proc/self/maps');
  return {
    targetMappings: linesOf(`/proc/${pid}/maps`).length,
    targetDescriptors: readdirSync(`/proc/${pid}/fd`).length,
    ourMappings: mappings.filter((line) => line.includes('/memfd:')).length,
    ourDescriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
    heap: heapUsed + external,
    allMappings: mappings.length,
    resident: rss,
  };
}

function linesOf(path: string): string[] {
  return readFileSync(path, 'utf8').trimEnd().split('\n');
}

/** The later half of them, all against the first of that half. */
function assertSteady(footprints: readonly Footprint[]): void {
  const [first, ...later] = footprints.slice(footprints.length >> 1);
  assert.ok(first !== undefined && later.length > 1);
  for (const one of later) {
    const { heap: heapBefore, allMappings: mappingsBefore, resident: before, ...counts } = first;
    const { heap, allMappings, resident, ...others } = one;
    assert.deepEqual(others, counts);
    assertBelow('our heap', heapBefore, heap, HEAP_BOUND);
    assertBelow('our mappings', mappingsBefore, allMappings, MAPPINGS_BOUND);
    assertBelow('our resident memory', before, resident, RESIDENT_BOUND);
  }
}

function assertBelow(what: string, before: number, now: number, bound: number): void {
  assert.ok(now < before + bound, `${what} went from ${before} to ${now}`);
}

test(
  'attached to and left again, over and over, while threads run',
  { timeout: 7_200_000 },
  async (context) => {
    await using target = await startSelfCheck(4, { paused: true, pace: 1000 });
    await leavingClean(target, async () => {
      const footprints: Footprint[] = [];
      const deadline = performance.now() + EXTENT.milliseconds;
      target.send('run');
      await target.waitForLine('running');
      let times = 0;
      let events = 0;
      while (times < EXTENT.times && (times < EXTENT.fewest || performance.now() < deadline)) {
        await using session = await attach(
          { pids: [target.pid] },
          {
            probes: [
              'work_step@self-check a=%di:u64',
              { definition: 'leaf@self-check', action: 'count' },
              { definition: 'malloc@libc.so.6', action: 'count' },
            ],
          },
        );
        const reading = new Reading(session);
        const probe = await session.add('switch_step@self-check a=%di:u64');
        if (times % 2 === 0) await session.remove(probe);
        const summary = await session.stop();
        await reading.done;
        assertExact(summary);
        events += reading.total;
        await session[Symbol.asyncDispose]();
        if (++times % EVERY === 0) footprints.push(await footprint(target));
      }
      target.send('pause');
      assert.match(await target.waitForLine(/^(paused|bad)/, 60_000), /^paused/);
      context.diagnostic(`${times} times, ${events} events`);
      for (const { heap, allMappings, resident } of footprints) {
        context.diagnostic(
          `heap ${heap >> 10} KiB, resident ${resident >> 10}, ${allMappings} mappings`,
        );
      }
      assertSteady(footprints);
      assert.equal((await status([target.pid]))[0]?.mappedBytes, 0);
    });
  },
);

test('beside a session that stays, contexts and places are used again, and it loses no hit', async () => {
  await using target = await startSelfCheck(2, { pace: 500 });
  await leavingClean(target, async () => {
    await using staying = await attach(
      { pids: [target.pid] },
      { probes: [{ definition: 'leaf@self-check', action: 'count' }] },
    );
    target.send('run');
    await target.waitForLine('running');
    target.send('pause');
    const before = countsOf(await target.waitForLine(/^(paused|bad)/, 60_000));
    const start = eventOf(await staying.summary(), 'leaf').hits;
    target.send('run');
    await target.waitForLine('running');
    const mapped: number[] = [];
    for (let times = 0; times < (isLong() ? 500 : 5); times++) {
      await using session = await attach(
        { pids: [target.pid] },
        { probes: ['leaf@self-check a=%di:u64'] },
      );
      const reading = new Reading(session);
      assertExact(await session.stop());
      await reading.done;
      mapped.push((await status([target.pid]))[0]?.mappedBytes ?? 0);
    }
    target.send('pause');
    const calls = difference(before, countsOf(await target.waitForLine(/^(paused|bad)/, 60_000)));
    const summary = await staying.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'leaf').hits - start, countOf(calls, 'leaf'));
    assert.equal(mapped.at(-1), mapped[mapped.length >> 1]);
  });
});
