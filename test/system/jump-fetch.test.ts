import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, FAULT, type EventValue, type TraceEvent } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, leavingClean, Reading } from './jump-support.ts';

/** Makes rounds under the given probes. @returns all events, in order. */
async function eventsOf(
  target: Target,
  probes: readonly string[],
  rounds: number,
): Promise<TraceEvent[]> {
  await using session = await attach({ pids: [target.pid] }, { probes });
  const events: TraceEvent[] = [];
  const reading = new Reading(session, (event) => events.push(event.toEvent()));
  for (let round = 0; round < rounds; round++) {
    target.send('go');
    await target.waitForLine(/^(round|bad)/, 30_000);
  }
  const summary = await session.stop();
  await reading.done;
  assertExact(summary);
  assert.equal(
    events.length,
    summary.events.reduce((sum, { recorded }) => sum + recorded, 0),
  );
  assert.deepEqual(summary.loss, { abandoned: 0, corrupt: 0, overrun: 0 });
  return events;
}

interface Case {
  readonly name: string;
  readonly pointer: bigint;
  readonly expected: string;
}

async function casesOf(target: Target): Promise<Case[]> {
  target.send('list');
  const cases: Case[] = [];
  do {
    const line = await target.waitForLine('case', 10_000);
    const [, name = '', pointer = '', expected = ''] = /^case (\S+) (\S+) (.*)$/.exec(line) ?? [];
    cases.push({ name, pointer: pointer === '(nil)' ? 0n : BigInt(pointer), expected });
  } while (cases.at(-1)?.name !== 'last-byte');
  return cases;
}

/** What an integer of so many bytes at the start of a text that is followed by its NUL reads as. */
function integerOf({ expected, name }: Case, bytes: number): bigint | undefined {
  const text = Buffer.concat([Buffer.from(expected), Buffer.alloc(1)]);
  if (expected === '(fault)' && name !== 'no-nul-before-the-edge') return undefined;
  if (name === 'no-nul-before-the-edge') return BigInt(`0x${'78'.repeat(bytes)}`);
  if (text.length < bytes) return undefined;
  return text.subarray(0, bytes).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

test('strings and integers through good and bad pointers, several in one record', async () => {
  const path = compileFixture({ sources: ['bad-pointers.c'] });
  await using target = await startTarget(path);
  await target.waitForLine('ready');
  const cases = await casesOf(target);
  assert.equal(cases.length, 12);
  await leavingClean(target, async () => {
    const loads = 'b=+0(%di):u8 d=+0(%di):u32 s=+0(%di):string';
    const events = await eventsOf(
      target,
      [`take@bad-pointers p=%di:u64 ${loads} t=+0(%di):string c=$comm`],
      3,
    );
    assert.equal(events.length, cases.length * 3);
    events.forEach(({ args }, at) => {
      const one = cases[at % cases.length];
      assert.ok(one !== undefined);
      const text: EventValue = one.expected === '(fault)' ? FAULT : one.expected;
      assert.equal(args['p'], one.pointer, one.name);
      assert.deepEqual(args['s'], text, one.name);
      assert.deepEqual(args['t'], text, one.name);
      assert.equal(args['c'], 'bad-pointers', one.name);
      const byte = integerOf(one, 1);
      assert.deepEqual(args['b'], byte === undefined ? FAULT : Number(byte), one.name);
      const word = integerOf(one, 4);
      if (word !== undefined) assert.deepEqual(args['d'], Number(word), one.name);
      else if (one.expected === '(fault)') assert.equal(args['d'], FAULT, one.name);
    });
  });
});

test('a bad pointer does not spoil the good ones beside it', async () => {
  await using target = await startTarget(compileFixture({ sources: ['bad-pointers.c'] }));
  await target.waitForLine('ready');
  const cases = await casesOf(target);
  await leavingClean(target, async () => {
    const definition =
      'take@bad-pointers good=+0(%sp):u64 bad=+0(%di):string again=$stack0 far=+0x7fffffff0000(%di):u8';
    const events = await eventsOf(target, [definition], 1);
    const [first] = events;
    assert.ok(first !== undefined && typeof first.args['good'] === 'bigint');
    events.forEach(({ args }, at) => {
      assert.equal(args['good'], first.args['good']);
      assert.equal(args['again'], args['good']);
      assert.equal(args['far'], FAULT);
      const expected = cases[at]?.expected;
      assert.deepEqual(args['bad'], expected === '(fault)' ? FAULT : expected);
    });
  });
});

/** Starts values, with one round made. @returns it and what it says of itself. */
async function startValues() {
  const target = await startTarget(compileFixture({ sources: ['values.c'] }));
  await target.waitForLine('ready');
  target.send('go');
  const line = await target.waitForLine('facts');
  // The fixture's own words.
  const texts = JSON.parse(line.slice('facts '.length)) as Record<string, string>;
  await target.waitForLine('round');
  const fact = (name: string): bigint => BigInt(texts[name] ?? assert.fail(name));
  return { target, fact };
}

/** Asserts one event of `taking`. */
async function expectArguments(
  args: string,
  expected: Readonly<Record<string, EventValue>>,
): Promise<void> {
  const { target, fact } = await startValues();
  await using ending = target;
  await leavingClean(ending, async () => {
    const [event] = await eventsOf(target, [`taking@values ${args}`], 1);
    assert.ok(event !== undefined);
    for (const [name, value] of Object.entries(expected)) {
      const wanted =
        typeof value === 'string' && value.startsWith('fact ') ? fact(value.slice(5)) : value;
      assert.deepEqual(event.args[name], wanted, name);
    }
    assert.deepEqual(Object.keys(event.args), Object.keys(expected));
  });
}

test('registers in every integer type', async () => {
  await expectArguments(
    'a=%cx:u8 b=%cx:s8 c=%cx:x16 d=%cx:s16 e=%cx:u32 f=%cx:s32 g=%cx:u64 h=%cx:s64 i=$arg5:u8 j=%r8:u16 k=%r8:x32 l=$arg6:s64 m=%di:u64',
    {
      a: 0xfe,
      b: -2,
      c: 0xfffe,
      d: -2,
      e: 0xfffffffe,
      f: -2,
      g: 0xffff_ffff_ffff_fffen,
      h: -2n,
      i: 0x88,
      j: 0x7788,
      k: 0x55667788,
      l: 6n,
      m: 'fact structure',
    },
  );
});

test('memory in every integer type, behind and before a pointer', async () => {
  await expectArguments(
    'a=+0(%di):s8 b=+1(%di):u8 c=+2(%di):s16 d=+4(%di):s32 e=+8(%di):s64 f=+4(%di):x32 g=+24(%di):u64 h=-8(%di):x64',
    {
      a: -1,
      b: 0xfe,
      c: -300,
      d: -70000,
      e: -(1n << 63n),
      f: -70000 >>> 0,
      g: 11n,
      h: 0x5a5an,
    },
  );
});

test('texts: UTF-8, longer than the limit, with $comm and the stack beside them', async () => {
  await expectArguments(
    't=+0(%si):string l=+0(%dx):string c=$comm r=$stack0 s1=$stack1 s2=$stack2 sp=%sp m=+6(%si):string',
    {
      t: 'caf\u00e9 \ufffd end',
      l: 'l'.repeat(4096),
      c: 'values',
      r: 'fact return',
      s1: 7n,
      s2: 8n,
      sp: 'fact stack',
      m: '\ufffd end',
    },
  );
});

test('%ip is the place, %flags are the flags', async () => {
  const { target } = await startValues();
  await using ending = target;
  await leavingClean(ending, async () => {
    const events = await eventsOf(target, ['flagged_middle@values ip=%ip flags=%flags:u64'], 2);
    assert.equal(events.length, 4);
    events.forEach(({ args, address }, at) => {
      assert.equal(args['ip'], address);
      const flags = args['flags'];
      assert.ok(typeof flags === 'bigint');
      // CF PF AF ZF SF OF, and the interrupt flag, which is always set here.
      assert.equal(flags & 0xad5n, at % 2 === 0 ? 0x200n : 0xad5n);
    });
  });
});

test('what cannot be fetched is refused with a reason', async () => {
  await using target = await startTarget(compileFixture({ sources: ['values.c'] }));
  await target.waitForLine('ready');
  await leavingClean(target, async () => {
    await assert.rejects(
      attach({ pids: [target.pid] }, { probes: ['taking%return@values x=$retval'] }),
      { code: 'unsupported' },
    );
    await assert.rejects(attach({ pids: [target.pid] }, { probes: ['taking@values x=%zz'] }), {
      code: 'bad-definition',
    });
  });
});
