/** A hit within a hit, at every instruction of the stub: records, their order, the ring and all counts stay exact. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FAULT } from '../../../src/events/event.ts';
import type { ConsumerCounts } from '../../../src/events/segment.ts';
import { parseDefinition } from '../../../src/probe/definition.ts';
import type { Program } from '../../../src/probe/program.ts';
import { mapRegion, STATE_WORDS } from '../x64/executable.ts';
import { makeBench, type Bench } from './bench.ts';
import { makeNesting, type Moment, type Nesting } from './nested.ts';

const RDI = 6;
const RSI = 5;

/** Texts, and pointers to them; nothing can be read behind. */
const arena = mapRegion(0x3_8000_0000n, 4096);
const At = { yes: 0x100, no: 0x200, toYes: 0x300, toNo: 0x308, toNothing: 0x310 } as const;
Buffer.from('yes\0').forEach((byte, at) => (arena.bytes[At.yes + at] = byte));
Buffer.from('no\0').forEach((byte, at) => (arena.bytes[At.no + at] = byte));
const view = new DataView(arena.bytes.buffer, arena.bytes.byteOffset);
view.setBigUint64(At.toYes, arena.address + BigInt(At.yes), true);
view.setBigUint64(At.toNo, arena.address + BigInt(At.no), true);
view.setBigUint64(At.toNothing, 16n, true);

/** How a hit is told from others, and what the filter makes of it. */
type Hit = 'passes' | 'refused' | 'faults';

/** What a text argument reads. */
const TEXTS = { passes: 'yes', refused: 'no', faults: FAULT } as const;

function stateOf(hit: Hit, number: bigint): bigint[] {
  const state = Array.from({ length: STATE_WORDS }, (_, at) => BigInt(at) * 0x0101_0101n);
  const pointer = hit === 'passes' ? At.toYes : hit === 'refused' ? At.toNo : At.toNothing;
  state[RDI] = arena.address + BigInt(pointer);
  state[RSI] = number;
  return [...state.slice(0, STATE_WORDS - 1), 0x202n];
}

interface Case {
  readonly name: string;
  readonly definition: string;
  readonly action: Program['action'];
  readonly passes: readonly Hit[];
  /** Whether another program records every hit behind it. */
  readonly isFollowed?: true;
}

const CASES: readonly Case[] = [
  {
    name: 'a filter on a text, recorded',
    definition: 'n=%si:u64 t=+0(+0(%di)):string if t ~ "y*"',
    action: 'record',
    passes: ['passes'],
  },
  {
    name: 'a filter on an integer, recorded',
    definition: 'n=%si:u64 c=+0(+0(%di)):u8 if c == 121',
    action: 'record',
    passes: ['passes'],
  },
  {
    name: 'a filter that lets everything pass that is there',
    definition: 'n=%si:u64 t=+0(+0(%di)):string if t ~ "*"',
    action: 'record',
    passes: ['passes', 'refused'],
  },
  {
    name: 'a filter on a text, counted, before a program that records',
    definition: 't=+0(+0(%di)):string if t ~ "y*"',
    action: 'count',
    passes: ['passes'],
    isFollowed: true,
  },
  {
    name: 'texts without a filter',
    definition: 'n=%si:u64 t=+0(+0(%di)):string',
    action: 'record',
    passes: ['passes', 'refused', 'faults'],
  },
  {
    name: 'registers without a filter',
    definition: 'n=%si:u64',
    action: 'record',
    passes: ['passes', 'refused', 'faults'],
  },
];

/** One bench under signals, and what its counts and its ring have to be. */
class Sweep {
  readonly #case: Case;
  readonly #bench: Bench;
  readonly #nesting: Nesting;
  #number = 0n;
  #expected: ConsumerCounts;

  constructor(one: Case, bench: Bench, nesting: Nesting) {
    this.#case = one;
    this.#bench = bench;
    this.#nesting = nesting;
    this.#expected = bench.reader.counts(1);
    // The first hit claims the context.
    this.plain('passes');
  }

  /** Of one hit with nothing in it. @returns bytes of the ring that it took. */
  plain(hit: Hit): number {
    const number = this.#number++;
    const before = this.#head;
    this.#run(hit, number);
    this.#events([hit, number]);
    this.#count(hit);
    return this.#head - before;
  }

  /** The moments of a hit at which a signal can come. */
  moments(hit: Hit): Moment[] {
    const number = this.#number++;
    const moments = this.#nesting.find((goal) => this.#run(hit, number, goal));
    this.#events([hit, number]);
    this.#count(hit);
    return moments;
  }

  /** One hit within another. @returns what it took of the ring, and whether the inner one came out first. */
  nested(outer: Hit, inner: Hit, moment: Moment): { bytes: number; innerFirst: boolean } {
    const [first, second] = [this.#number++, this.#number++];
    const before = this.#head;
    this.#nesting.arm(stateOf(inner, second), moment);
    this.#run(outer, first);
    const numbers = this.#events([outer, first], [inner, second]);
    const bytes = this.#head - before;
    this.#count(outer, inner);
    assert.deepEqual(this.#bench.reader.loss(), { abandoned: 0, corrupt: 0, overrun: 0 });
    return { bytes, innerFirst: numbers.length === 2 && numbers[0] === second };
  }

  /** The ring's head at the last look. */
  get #head(): number {
    return this.#bench.reader.contexts[0]?.ring.head ?? 0;
  }

  #run(hit: Hit, number: bigint, goal?: bigint): void {
    const state = stateOf(hit, number);
    const after = this.#bench.run(state, goal);
    assert.deepEqual(after.slice(0, -1), state.slice(0, -1), 'registers');
  }

  /** Asserts the events of some hits: each once, in order of time. @returns the hits' numbers in that order. */
  #events(...hits: readonly (readonly [hit: Hit, number: bigint])[]): bigint[] {
    const left = new Map(
      hits.flatMap(([hit, number]) =>
        isRecorded(this.#case, hit) ? [[number, TEXTS[hit]] as const] : [],
      ),
    );
    let last = 0n;
    const numbers = this.#bench.events().map(({ args, late, ts }) => {
      const { n: number, t: text } = args;
      assert.ok(typeof number === 'bigint' && left.has(number), `hit ${String(number)}`);
      if (text !== undefined) assert.equal(text, left.get(number));
      left.delete(number);
      assert.ok(!late && ts >= last);
      last = ts;
      return number;
    });
    assert.equal(left.size, 0, 'hits without events');
    return numbers;
  }

  /** Asserts the counts after further hits. */
  #count(...more: readonly Hit[]): void {
    const isRecord = this.#case.action === 'record';
    const passed = more.filter((hit) => this.#case.passes.includes(hit)).length;
    const { hits, recorded, aggregated, filtered } = this.#expected;
    this.#expected = {
      ...this.#expected,
      hits: hits + more.length,
      recorded: recorded + (isRecord ? passed : 0),
      aggregated: aggregated + (isRecord ? 0 : passed),
      filtered: filtered + more.length - passed,
    };
    assert.deepEqual(this.#bench.reader.counts(1), this.#expected);
    if (this.#case.isFollowed !== true) return;
    const behind = this.#bench.reader.counts(2);
    assert.deepEqual([behind.hits, behind.recorded], [hits + more.length, hits + more.length]);
  }
}

/** Whether an event comes of a hit. */
function isRecorded({ action, passes, isFollowed }: Case, hit: Hit): boolean {
  return isFollowed === true || (action === 'record' && passes.includes(hit));
}

/** Asserts that a list is some of one value, then some of another. */
function assertTurnsOnce(list: readonly boolean[], what: string): void {
  const turns = list.filter((value, at) => at > 0 && value !== list[at - 1]).length;
  assert.ok(turns === 1, `${what} changes ${turns} times`);
}

const HITS = ['passes', 'refused', 'faults'] as const;
const PAIRS = HITS.flatMap((outer) => HITS.map((inner) => [outer, inner] as const));

for (const one of CASES) {
  test(one.name, (t) => {
    const { arguments: parsed, filter } = parseDefinition(`f@x ${one.definition}`);
    const args = one.action === 'record' ? parsed : [];
    const program = { arguments: args, filter, action: one.action };
    const { arguments: numbers } = parseDefinition('f@x n=%si:u64');
    const behind = { arguments: numbers, filter: undefined, action: 'record' } as const;
    const follower = one.isFollowed === true ? behind : undefined;
    const bench = makeBench(program, 'memory', 'counter', follower);
    using nesting = makeNesting(bench.site, bench.code);
    const sweep = new Sweep(one, bench, nesting);
    const kept = PAIRS.map(([outer, inner]) => sweepPair(sweep, one, outer, inner));
    t.diagnostic(kept.join('; '));
  });
}

/** Sends the inner hit to each instruction of the outer one. @returns what was seen, for people. */
function sweepPair(sweep: Sweep, one: Case, outer: Hit, inner: Hit): string {
  const bytes: number[] = [];
  const order: boolean[] = [];
  const moments = sweep.moments(outer);
  assert.ok(moments.length > 30);
  const alone = sweep.plain(outer) + sweep.plain(inner);
  for (const moment of moments) {
    const seen = sweep.nested(outer, inner, moment);
    bytes.push(seen.bytes);
    order.push(seen.innerFirst);
  }
  const isBoth = isRecorded(one, outer) && isRecorded(one, inner);
  if (isBoth) assertTurnsOnce(order, `${outer}, ${inner}: the order`);
  // Bytes that could not be given back, since the inner hit had reserved behind them: in one stretch of instructions.
  const kept = bytes.map((each) => each > alone);
  const first = kept.indexOf(true);
  const count = kept.filter(Boolean).length;
  const isKept = one.definition.includes('+0') && isRecorded(one, inner);
  assert.equal(count > 0, isKept, `${outer}, ${inner}: kept at ${count} instructions`);
  assert.ok(kept.slice(first, first + count).every(Boolean), `${outer}, ${inner}: in one stretch`);
  assert.ok(bytes.every((each) => each >= alone));
  return `${outer}/${inner}: ${count} of ${moments.length}`;
}
