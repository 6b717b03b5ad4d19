/** Texts and pointers that other threads change while a stub reads them, and pages that come and go under it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, FAULT, type EventValue, type TraceEvent } from '../../src/index.ts';
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
  until,
} from './jump-support.ts';

/** What the fixture's header says of its texts. */
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const KINDS = [
  { room: 400, first: 400, mayFault: false },
  { room: 700, first: 300, mayFault: false },
  { room: 700, first: 300, mayFault: true },
] as const;
const CALLERS = 2;
/** Of a text's bytes, across the end of its first page where it has a second. */
const BYTES_AT = 296;

function lowerAt(kind: number, at: number): number {
  return 2 * ((at * 7 + kind * 11) % 31);
}

const LOWER_CODES = KINDS.map(({ room }, kind) =>
  Uint8Array.from({ length: room }, (_, at) => ALPHABET.charCodeAt(lowerAt(kind, at))),
);

/** Asserts that a kind's text can have been so. @returns which characters it has: lower, upper, both or none. */
function checkText(
  kind: number,
  text: string,
  what: string,
): 'lower' | 'upper' | 'mixed' | 'empty' {
  assert.ok(text.length < (KINDS[kind]?.room ?? 0), `${what}: ${text.length} bytes`);
  let lower = 0;
  for (let at = 0; at < text.length; at++) {
    const which = text.charCodeAt(at) - (LOWER_CODES[kind]?.[at] ?? Number.NaN);
    if (which === 0) lower++;
    else if (which !== 1) assert.fail(`${what}: ${JSON.stringify(text)} at ${at}`);
  }
  if (text === '') return 'empty';
  return lower === text.length ? 'lower' : lower === 0 ? 'upper' : 'mixed';
}

/** The same where only the text itself tells which kind it is of. */
function checkAnyText(value: EventValue | undefined, what: string): void {
  if (value === FAULT || value === '') return;
  assert.ok(typeof value === 'string', what);
  const first = ALPHABET.indexOf(value.charAt(0));
  const kind = KINDS.findIndex((_, each) => lowerAt(each, 0) === (first & ~1));
  assert.ok(kind >= 0, `${what}: ${JSON.stringify(value)}`);
  checkText(kind, value, what);
}

/** What was seen of the texts that take is called with. */
class Seen {
  readonly numbers = new Set<bigint>();
  readonly #last = new Map<bigint, bigint>();
  /** Of all kinds. */
  readonly lengths = new Set<number>();
  readonly counts = { faults: 0, mixed: 0, crossing: 0, empty: 0, bytesGone: 0, nowhere: 0 };

  /** Whether everything was there that this is about. */
  get isAll(): boolean {
    return this.lengths.size > 300 && Object.values(this.counts).every((count) => count > 50);
  }

  /** An event of the probe that has everything. */
  take({ args }: TraceEvent): void {
    const number = this.#number(args);
    const kind = Number(number % 3n);
    const what = `call ${number} of kind ${kind}`;
    for (const name of ['text', 'again']) this.#text(kind, args[name], `${what}, ${name}`);
    this.#bytes(kind, args['bytes'], what);
    assert.equal(args['comm'], 'changing-text', what);
    const list = args['list'];
    assert.ok(Array.isArray(list) && list.length === 4, what);
    for (const one of [...list, args['one']]) checkAnyText(one, what);
    this.counts.nowhere += list.filter((one) => one === FAULT).length;
  }

  /** The neighbours tell which call it was: each comes once, in its caller's order. */
  #number(args: TraceEvent['args']): bigint {
    const { number, inverse } = args;
    assert.ok(typeof number === 'bigint' && inverse === BigInt.asUintN(64, ~number));
    assert.ok(!this.numbers.has(number), `call ${number} comes twice`);
    this.numbers.add(number);
    const caller = number >> 32n;
    assert.ok(caller < CALLERS && number > (this.#last.get(caller) ?? -1n), `call ${number}`);
    this.#last.set(caller, number);
    return number;
  }

  #text(kind: number, text: EventValue | undefined, what: string): void {
    if (text === FAULT) {
      assert.ok(KINDS[kind]?.mayFault, `${what}: a fault`);
      this.counts.faults++;
      return;
    }
    assert.ok(typeof text === 'string', what);
    const has = checkText(kind, text, what);
    if (has === 'mixed' || has === 'empty') this.counts[has]++;
    if (text.length > (KINDS[kind]?.first ?? 0)) this.counts.crossing++;
    this.lengths.add(text.length);
  }

  /** All of them or none. */
  #bytes(kind: number, bytes: EventValue | undefined, what: string): void {
    if (bytes === FAULT) {
      assert.ok(KINDS[kind]?.mayFault, `${what}: no bytes`);
      this.counts.bytesGone++;
      return;
    }
    assert.ok(Array.isArray(bytes) && bytes.length === 8, what);
    bytes.forEach((byte, index) => {
      const lower = lowerAt(kind, BYTES_AT + index);
      const may = [0, ALPHABET.charCodeAt(lower), ALPHABET.charCodeAt(lower + 1)];
      assert.ok(
        may.some((one) => one === byte),
        `${what}: byte ${index} is ${byte}`,
      );
    });
  }
}

/** Rejects when an event is wrong, at once; it ends with the session only. */
async function wrong(reading: Reading): Promise<never> {
  await reading.done;
  assert.fail('the events have ended');
}

async function startChanging() {
  const path = compileFixture({ sources: ['changing-text.c'] });
  const target = await startTarget(path, [String(CALLERS)]);
  await target.waitForLine('ready');
  const go = async (calls: number) => {
    target.send(`go ${calls}`);
    return countsOf(await target.waitForLine(/^(round|bad)/, 60_000));
  };
  return { target, go };
}

test('what changes while it is read is what it can have been, byte by byte, or a fault', async (t) => {
  const { target, go } = await startChanging();
  await using ending = target;
  await leavingClean(ending, async () => {
    const before = await go(10);
    const probe =
      'p:changing/all take@changing-text number=%si:u64 text=+0(%di):string comm=$comm ' +
      `again=+0(%di):ustring bytes=+${BYTES_AT}(%di):u8[8] inverse=%cx:u64 ` +
      'list=+0(%dx):string[4] one=+0(+8(%dx)):string';
    await using session = await attach(
      { pids: [target.pid] },
      { probes: [probe], ringBytes: 4 << 20 },
    );
    const seen = new Seen();
    const reading = new Reading(session, (event) => seen.take(event.toEvent()));
    let counts = before;
    const deadline = performance.now() + 60_000;
    while (!seen.isAll) {
      const all = JSON.stringify({ lengths: seen.lengths.size, ...seen.counts });
      assert.ok(performance.now() < deadline, `not everything was seen: ${all}`);
      counts = await go(500);
      const made = countOf(difference(before, counts), 'calls');
      // Whoever reads has to keep up, so that none is missed.
      await Promise.race([until('all events', () => reading.total >= made), wrong(reading)]);
    }
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    const { hits, recorded } = eventOf(summary, 'changing:all');
    assert.equal(hits, countOf(difference(before, counts), 'calls'));
    assert.equal(recorded, hits);
    assert.equal(seen.numbers.size, recorded);
    assert.deepEqual(summary.loss, { abandoned: 0, corrupt: 0, overrun: 0 });
    t.diagnostic(`${hits} calls, ${JSON.stringify(seen.counts)}, ${seen.lengths.size} lengths`);
  });
});

/** Lower characters at the start, of each kind. */
const LOWER = KINDS.map((_, kind) => ALPHABET.charAt(lowerAt(kind, 0))).join('');

test('what a filter has seen of a changing text is what the record has', async () => {
  const { target, go } = await startChanging();
  await using ending = target;
  await leavingClean(ending, async () => {
    const before = await go(10);
    const probe = 'take@changing-text text=+0(%di):string number=%si:u64 if text';
    const probes = [
      {
        name: 'lower',
        filter: `~ "[${LOWER}]*"`,
        passes: (text: string) => LOWER.includes(text.charAt(0)),
      },
      {
        name: 'other',
        filter: `~ "[!${LOWER}]*"`,
        passes: (text: string) => !LOWER.includes(text.charAt(0)),
      },
      { name: 'none', filter: '== ""', passes: (text: string) => text === '' },
    ] as const;
    await using session = await attach(
      { pids: [target.pid] },
      {
        probes: [
          ...probes.map(({ name, filter }) => `p:changing/${name} ${probe} ${filter}`),
          { definition: `p:changing/counted take@changing-text`, action: 'count' },
        ],
        ringBytes: 4 << 20,
      },
    );
    const reading = new Reading(session, (event) => {
      const { event: name, args } = event.toEvent();
      const { text, number } = args;
      const wanted = probes.find((each) => name === `changing:${each.name}`);
      assert.ok(
        wanted !== undefined && typeof text === 'string' && typeof number === 'bigint',
        name,
      );
      assert.ok(
        wanted.passes(text) && (text !== '' || name === 'changing:none'),
        `${name} ${text}`,
      );
      checkText(Number(number % 3n), text, `${name}, call ${number}`);
    });
    let counts = before;
    const deadline = performance.now() + 60_000;
    while (!probes.every(({ name }) => reading.count(`changing:${name}`) > 100)) {
      assert.ok(performance.now() < deadline, JSON.stringify([...reading.counts]));
      counts = await Promise.race([go(500), wrong(reading)]);
    }
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    const calls = countOf(difference(before, counts), 'calls');
    for (const { event, hits, recorded, filtered, missed } of summary.events) {
      assert.equal(hits, calls, event);
      if (event === 'changing:counted') continue;
      assert.equal(hits, recorded + filtered + missed.ringFull, event);
      assert.equal(reading.count(event), recorded, event);
    }
    assert.deepEqual(summary.loss, { abandoned: 0, corrupt: 0, overrun: 0 });
  });
});
