import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { ContextHeader } from '../../../src/events/layout.ts';
import { parseDefinition } from '../../../src/probe/definition.ts';
import type { Program } from '../../../src/probe/program.ts';
import { STATE_WORDS } from '../x64/executable.ts';
import { makeBench, type Bench } from './bench.ts';

/** CF PF AF ZF SF OF and DF. */
const FLAGS = 0xcd5n;

function programOf(args: string, action: 'record' | 'count' = 'record'): Program {
  const { arguments: parsed, filter } = parseDefinition(`f@x ${args}`);
  return { arguments: parsed, filter, action };
}

/** A state without the flags that belong to the system. */
function masked(values: readonly bigint[]): bigint[] {
  return values.map((value, at) => (at === STATE_WORDS - 1 ? value & FLAGS : value));
}

/** Fifteen registers in encoding order without rsp, and flags. */
const states = fc
  .tuple(
    fc.array(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), { minLength: 15, maxLength: 15 }),
    fc.bigInt({ min: 0n, max: 0xfffn }),
  )
  .map(([registers, flags]) => [...registers, (flags & FLAGS) | 0x202n]);

const ALL =
  'a=%ax b=%cx c=%dx d=%bx e=%bp f=%si g=%di h=%r8 i=%r9 j=%r10 k=%r11 l=%r12 m=%r13 n=%r14 o=%r15';

const PROGRAMS: readonly (readonly [string, Program])[] = [
  ['a count', programOf('', 'count')],
  ['a record of every register', programOf(ALL)],
  ['narrow types and flags', programOf('a=%ax:u8 b=%r11:s16 c=%di:u32 flags=%flags sp=%sp ip=%ip')],
  ['memory behind random pointers', programOf('a=+0(%di):u64 s=+0(%si):string w=$stack0 n=$comm')],
];

for (const threadPointer of ['memory', 'register'] as const) {
  for (const [name, program] of PROGRAMS) {
    test(`${name} changes no register and no flag (fs base from ${threadPointer})`, () => {
      const bench = makeBench(program, threadPointer);
      let runs = 0;
      fc.assert(
        fc.property(states, (state) => {
          const after = bench.run(state);
          runs++;
          assert.deepEqual(masked(after), masked(state));
          bench.drain();
        }),
        { numRuns: 300 },
      );
      const { hits } = bench.reader.counts(1);
      assert.equal(hits, runs);
    });
  }
}

test('a stub that asks the system for the time changes no register and no flag', () => {
  const bench = makeBench(programOf(ALL), 'memory', 'system');
  fc.assert(
    fc.property(states, (state) => {
      assert.deepEqual(masked(bench.run(state)), masked(state));
      assert.deepEqual(bench.drain(), [state.slice(0, 15)]);
    }),
    { numRuns: 300 },
  );
});

test('a record holds the registers of its hit', () => {
  const bench = makeBench(programOf(ALL), 'memory');
  fc.assert(
    fc.property(states, (state) => {
      bench.run(state);
      const [fields] = bench.drain();
      assert.deepEqual(fields, state.slice(0, 15));
    }),
    { numRuns: 300 },
  );
});

test('flags are recorded as they were', () => {
  const bench = makeBench(programOf('flags=%flags:u64'), 'memory');
  fc.assert(
    fc.property(states, (state) => {
      bench.run(state);
      const [fields] = bench.drain();
      assert.equal((fields?.[0] ?? 0n) & FLAGS, (state[15] ?? 0n) & FLAGS);
    }),
    { numRuns: 300 },
  );
});

/** Other tasks have all contexts. */
function takeContexts({ reader, segment }: Bench): void {
  const { contextCount, contextsOffset, contextStride } = reader.layout;
  for (let index = 0; index < contextCount; index++) {
    const at = contextsOffset + index * contextStride + ContextHeader.tid;
    Buffer.from(segment.bytes.buffer, segment.bytes.byteOffset).writeUInt32LE(1, at);
  }
}

const FILTER = `a=%di:s64 b=%flags:u64 if a < 0 && b & 1 && common_pid == ${process.pid}`;
const TEXT = 's=+0(%si):string';
const OTHER = `a=%di if common_pid == ${process.pid + 1}`;

for (const [what, args, action, fate] of [
  ['a count', '', 'count', 'aggregated'],
  ['a count with a filter', FILTER, 'count', 'aggregated'],
  ['a count of another task', OTHER, 'count', 'filtered'],
  ['a count whose filter reads memory', `${TEXT} if s == "no"`, 'count', 'noContext'],
  ['a record', ALL, 'record', 'noContext'],
  ['a record with a filter', FILTER, 'record', 'noContext'],
  ['a record with a filter and texts', `${TEXT} ${FILTER} && s ~ "*"`, 'record', 'noContext'],
] as const) {
  test(`${what}, when no context is left, is ${fate}; what its filter refuses is filtered`, () => {
    const bench = makeBench(programOf(args, action), 'memory');
    takeContexts(bench);
    let runs = 0;
    let refused = 0;
    fc.assert(
      fc.property(states, (state) => {
        assert.deepEqual(masked(bench.run(state)), masked(state));
        runs++;
        const [rdi = 0n, flags = 0n] = [state[6], state[15]];
        if (args.includes(FILTER) && !(rdi >> 63n === 1n && (flags & 1n) === 1n)) refused++;
      }),
      { numRuns: 300 },
    );
    bench.reader.identify(0);
    const counts = bench.reader.counts(1);
    assert.equal(counts.hits, runs);
    assert.equal(counts[fate], runs - refused);
    if (fate !== 'filtered') assert.equal(counts.filtered, refused);
    assert.ok(!args.includes(FILTER) || (refused > 0 && refused < runs));
  });
}
