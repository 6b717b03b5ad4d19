import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isLong } from '../harness/features.ts';
import { leavingKernelClean, skipEngine, type Engine } from './kernel-support.ts';
import { allFilters, NOWHERE, type OracleFilter } from './oracle-filters.ts';
import {
  eventsOf,
  OracleProgram,
  seeRound,
  type Case,
  type OracleProbe,
  type Sights,
} from './oracle-support.ts';

/** The kernel needs some 50 ms to let go of an event, and each filter has one. */
const SAMPLE = 24;
/** Filters in one session. */
const PORTION = 120;

test('every filter lets the same hits pass as the kernel’s', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  await using program = await OracleProgram.start();
  const all = allFilters(program.target.pid);
  assert.ok(all.length > 400);
  const filters = isLong() ? all : sampleOf(all, SAMPLE);
  await leavingKernelClean(program.target, 'kernel', async () => {
    const wrong: string[] = [];
    let passed = 0;
    for (let at = 0; at < filters.length; at += PORTION) {
      const portion = filters.slice(at, at + PORTION);
      const seen = await seeRound(program, portion.map(probeOf), 'go');
      portion.forEach((filter, number) => {
        const event = `f${number}`;
        passed += eventsOf(seen.jump, event).length;
        wrong.push(...compareCounts(seen, event, filter, program.cases));
        wrong.push(...comparePasses(seen, event, filter, program.cases));
      });
    }
    assert.deepEqual(wrong.slice(0, 20), [], `${wrong.length} differences`);
    assert.ok(passed > filters.length);
  });
});

/** Spread over all, the same each time. */
function sampleOf(all: readonly OracleFilter[], count: number): OracleFilter[] {
  const step = Math.floor(all.length / count);
  return all.filter((_, at) => at % step === 0).slice(0, count);
}

function probeOf({ words, filter }: OracleFilter, at: number): OracleProbe {
  return { name: `f${at}`, words: `n=%dx:u32 ${words} if ${filter}` };
}

/** What passes is recorded, what does not is filtered, and nothing is missing. */
function compareCounts(
  seen: Sights,
  event: string,
  { filter, needs, isText }: OracleFilter,
  cases: readonly Case[],
): string[] {
  const calls = cases.length;
  const unreadable = cases.filter((one) => !isReadable(one, needs, isText)).length;
  const wrong: string[] = [];
  for (const engine of ['kernel', 'jump'] satisfies Engine[]) {
    const counts = seen[engine].summary.events.find((one) => one.event === `oracle:${event}`);
    assert.ok(counts !== undefined);
    const { hits, recorded, missed } = counts;
    // Of a text that can't be read the kernel compares what its buffer held: twice, perhaps with another result.
    const isUnsure = engine === 'kernel' && filter.endsWith('!= ""');
    const unsure = isUnsure ? Math.min(missed.textsTooLong, unreadable) : 0;
    const filtered = counts.filtered + unsure;
    const passes = eventsOf(seen[engine], event).length;
    if (hits !== calls || recorded !== passes || filtered !== calls - passes) {
      wrong.push(
        `${filter}: ${engine} counts ${hits} hits, ${recorded} recorded, ${filtered} filtered`,
      );
    }
  }
  return wrong;
}

/** Where all that it looks at can be read both say the same; elsewhere no term of ours holds. */
function comparePasses(
  seen: Sights,
  event: string,
  { words, filter, needs, isText }: OracleFilter,
  cases: readonly Case[],
): string[] {
  const passes = (engine: Engine): Set<number> =>
    new Set(eventsOf(seen[engine], event).map(({ args }) => Number(args['n'])));
  const [kernel, jump] = [passes('kernel'), passes('jump')];
  return cases.flatMap((one, number) => {
    const isThere = isReadable(one, needs, isText);
    const expected = isThere ? kernel.has(number) : isSingle(filter) ? false : undefined;
    const isAlike = expected === undefined || expected === jump.has(number);
    // Behind a pointer that can't be read the kernel's value is none at all: its engine asks for the pointer.
    // Of one that is there in part it would take the part.
    const isLost = needs === NOWHERE && (one.after === 0 || one.after >= 16);
    if (isAlike && !(isLost && kernel.has(number))) return [];
    return [`${words} if ${filter}, ${one.name}: ${isThere ? 'kernel' : 'expected'} ${expected}`];
  });
}

/** Whether all that a filter looks at is there in a case. */
function isReadable(one: Case, needs: number, isText: boolean): boolean {
  return one.after >= needs && !(isText && one.name.startsWith('open'));
}

function isSingle(filter: string): boolean {
  return !/&&|\|\||!\s*[(!]/.test(filter);
}

test('counting probes count the same, with a filter and without', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  await using program = await OracleProgram.start();
  const words = [
    '',
    'n=%dx:u32 if n < 7',
    'n=%dx:u32 f=+0(+0(+8(%di))):string if f ~ "*h*d" && n & 1',
    'if comm == "oracle"',
    'if comm != "oracle"',
  ];
  const probes = words.map((one, at): OracleProbe => ({
    name: `c${at}`,
    words: one,
    action: 'count',
  }));
  await leavingKernelClean(program.target, 'kernel', async () => {
    const seen = await seeRound(program, probes, 'go');
    const [kernel, jump] = [seen.kernel, seen.jump].map(({ summary }) =>
      summary.events.map(({ event, hits, recorded, aggregated, filtered, missed }) => {
        return { event, hits, recorded, aggregated, filtered, missed };
      }),
    );
    assert.deepEqual(kernel, jump);
    const calls = program.cases.length;
    assert.deepEqual(
      jump?.map(({ hits, aggregated, filtered }) => [hits, aggregated, filtered]),
      [
        [calls, calls, 0],
        [calls, 7, calls - 7],
        [calls, calls >> 1, calls - (calls >> 1)],
        [calls, calls, 0],
        [calls, 0, calls],
      ],
    );
  });
});
