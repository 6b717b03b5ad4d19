/** The fixture `methods`: its places, how often each runs, and sessions that count there. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { TraplineError } from '../../src/base/errors.ts';
import { fileOffset } from '../../src/base/brand.ts';
import { Planner } from '../../src/engines/jump/planner.ts';
import type { AddedProbe, Session } from '../../src/index.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolTable } from '../../src/symbols/symbol-table.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { countOf, countsOf, type Counts } from './jump-support.ts';

/** How often an instruction runs in the calls of its function: always, three times, with and without the branch. */
type Factor = 'once' | 'thrice' | 'taken' | 'passed';

const ONCE = (count: number): Factor[] => Array.from({ length: count }, () => 'once');
const LOOP: readonly Factor[] = ['thrice', 'thrice'];

/** By function, its instructions from the first on. */
const FUNCTIONS: Readonly<Record<string, readonly Factor[]>> = {
  m_nop: ONCE(3),
  m_one: ONCE(3),
  m_several: ONCE(5),
  m_short: ['once', ...LOOP, 'once'],
  m_short_two: ['once', 'once', ...LOOP, 'once'],
  m_skip: [...ONCE(4), 'passed', 'taken', 'taken', 'taken'],
  m_lock: [...ONCE(3), 'passed', ...ONCE(2)],
  m_loop: ['thrice', ...LOOP, ...ONCE(2)],
  m_callee: ONCE(2),
  m_tail: ONCE(1),
  m_call: ONCE(5),
  m_bytes: ONCE(8),
  m_leaf: ONCE(7),
  m_pun_one: ['once', ...LOOP, ...ONCE(2)],
  m_pun_two: ['once', ...LOOP, 'once'],
  m_pun_three: ['once', ...LOOP, 'once'],
  m_pun_four: ['once', ...LOOP, 'once'],
  m_ret: ONCE(1),
  m_after: ONCE(2),
  m_page: ONCE(3),
};

/** The names of the calls in which a branch was taken. */
const TAKEN: Readonly<Record<string, string>> = { m_skip: 'm_skip_even', m_lock: 'm_lock_alone' };

/** What may keep a place from being probed beside others: never the bytes, always where memory is. */
export const NO_ROOM: RegExp =
  /no memory can be had where it would lead|rests on these bytes|all padding/;

/** An instruction of the fixture. */
export interface Place {
  readonly definition: string;
  readonly name: string;
  readonly factor: Factor;
  /** The number of its instruction in its function. */
  readonly nth: number;
}

/** The program's path; compiled at the first call. */
export function methodsPath(): string {
  return compileFixture({ sources: ['methods.c'] });
}

/** Every instruction of the fixture's functions, in order of address. */
export function allPlaces(): Place[] {
  const path = methodsPath();
  const elf = ElfFile.open(readFileSync(path), path);
  const planner = new Planner(elf);
  const functions = [...SymbolTable.of(elf, { demangle: () => undefined }).functions()];
  return Object.entries(FUNCTIONS).flatMap(([name, factors]) => {
    const found = functions.find((one) => one.name === name) ?? assert.fail(name);
    const starts = planner.boundaries(fileOffset(found.offset));
    assert.equal(starts.length, factors.length, name);
    return factors.map((factor, nth) => {
      const distance = (starts[nth] ?? 0) - found.offset;
      return { definition: `${name}+${distance}@${path}`, name, factor, nth };
    });
  });
}

/** One byte before another place: where its jump leads is the other's bytes, and whether that is free is luck. */
const LUCKY = new Set(['m_short_two 1', 'm_skip 4']);

/** Places of all methods that lie over each other, and can all be at once, whatever the addresses of a run. */
export function surePlaces(): Place[] {
  return allPlaces().filter(({ name, nth }) => {
    const isPun = name.startsWith('m_pun') || name === 'm_ret' || name === 'm_page';
    return isPun ? nth === 0 : !LUCKY.has(`${name} ${nth}`);
  });
}

/** One place by its function and the number of its instruction. */
export function placeOf(name: string, nth = 0): Place {
  return allPlaces().find((one) => one.name === name && one.nth === nth) ?? assert.fail(name);
}

/** How often a place ran, by the program's counts of calls. */
export function runsOf({ name, factor }: Place, calls: Counts): number {
  const all = countOf(calls, name);
  if (factor === 'once') return all;
  if (factor === 'thrice') return all * 3;
  const taken = countOf(calls, TAKEN[name] ?? assert.fail(name));
  return factor === 'taken' ? taken : all - taken;
}

/**
 * Starts the fixture; its threads are parked.
 * @param period of a timer that interrupts them, in microseconds; none if absent
 */
export async function startMethods(threads: number, ...period: number[]): Promise<Target> {
  const target = await startTarget(methodsPath(), [threads, ...period].map(String));
  await target.waitForLine('ready', 60_000);
  return target;
}

/** Lets every thread make so many rounds. @returns all calls since the start. */
export async function stepMethods(target: Target, rounds: number): Promise<Counts> {
  target.send(`step ${rounds}`);
  const line = await target.waitForLine(/^(stepped|bad)/, 120_000);
  assert.match(line, /^stepped/);
  return countsOf(line);
}

/** Adds a counting probe; it must be made. */
export async function addCount(session: Session, place: Place): Promise<AddedProbe> {
  const probe = await session.add({ definition: place.definition, action: 'count' });
  assert.deepEqual(probe.refused, [], place.definition);
  assert.equal(probe.sites.length, 1, place.definition);
  return probe;
}

/** The same, or undefined where it is refused for a reason that is expected. */
export async function tryCount(
  session: Session,
  place: Place,
  expected: RegExp,
): Promise<AddedProbe | undefined> {
  return unlessRefused(addCount(session, place), place, expected);
}

/** A probe that is being added at a place; undefined where it is refused for an expected reason. */
export async function unlessRefused(
  adding: Promise<AddedProbe>,
  place: Place,
  expected: RegExp,
): Promise<AddedProbe | undefined> {
  try {
    return await adding;
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'refused') throw error;
    assert.match(error.hint ?? '', expected, place.definition);
    return undefined;
  }
}

/** All hits of a place that a session has counted, in whichever of its probes. */
export async function hitsAt(session: Session, places: readonly Place[]): Promise<number[]> {
  const { events } = await session.summary();
  const hits = new Map<string, number>();
  for (const event of events) {
    hits.set(event.definition, (hits.get(event.definition) ?? 0) + event.hits);
  }
  return places.map(({ definition }) => hits.get(definition) ?? 0);
}
