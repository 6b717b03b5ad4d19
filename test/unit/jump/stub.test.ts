import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { address } from '../../../src/base/brand.ts';
import { compileProgram } from '../../../src/engines/jump/compile.ts';
import { RED_ZONE_BYTES } from '../../../src/engines/jump/frame.ts';
import { CACHE_BYTES, emitRuntime } from '../../../src/engines/jump/runtime.ts';
import { assembleStub } from '../../../src/engines/jump/stub.ts';
import { DescriptorTable } from '../../../src/events/descriptor.ts';
import { layoutSegment } from '../../../src/events/layout.ts';
import { SegmentReader, formatSegment } from '../../../src/events/segment.ts';
import { parseDefinition } from '../../../src/probe/definition.ts';
import { layoutOf, type Program } from '../../../src/probe/program.ts';
import type { EventClock } from '../../../src/sys/clock.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { assembleHarness, callCode, mapRegion, STATE_WORDS } from '../x64/executable.ts';

/** Where things lie; every test of this file has its own megabytes. */
const Place = { code: 0x2_0000_0000n, memory: 0x2_4000_0000n } as const;
const At = {
  harness: 0n,
  site: 0x1000n,
  stub: 0x2000n,
  runtime: 0x3000n,
  program: 0x4000n,
} as const;
const SHAPE = { contextCount: 2, consumerCapacity: 4, ringBytes: 256 << 10 } as const;

/** CF PF AF ZF SF OF and DF. */
const FLAGS = 0xcd5n;

interface Bench {
  /** Calls the site with a state. @returns the state behind it. */
  run(state: readonly bigint[]): bigint[];
  /** The fields of the records since the last call of it, slot by slot. */
  drain(): bigint[][];
  readonly reader: SegmentReader;
}

let used = 0n;

/** A site in our own process, whose stub runs one program on memory of a session's layout. */
function makeBench(
  program: Program,
  threadPointer: 'memory' | 'register',
  clock: EventClock = 'counter',
): Bench {
  const base = Place.code + used;
  const memoryAt = Place.memory + used;
  used += 1n << 24n;
  const layout = layoutSegment(SHAPE);
  const code = mapRegion(base, 1 << 16);
  const segment = mapRegion(memoryAt, layout.totalBytes);
  const rest = mapRegion(memoryAt + (1n << 23n), CACHE_BYTES + 4096);
  const at = (place: bigint) => address(base + place);
  const session = {
    segment: address(segment.address),
    liveness: address(rest.address),
    cache: address(rest.address + 4096n),
    runtime: at(At.runtime),
  };
  const buffer = segment.bytes.buffer;
  formatSegment(buffer, SHAPE);
  const record = layoutOf(program);
  const stub = assembleStub({
    origin: at(At.stub),
    redZone: RED_ZONE_BYTES,
    displace: () => ({ bytes: new Uint8Array(), map: [] }),
    back: at(At.site + 5n),
  });
  const compiled = compileProgram({
    program,
    record,
    session,
    segment: layout,
    features: { rdpid: false, clock, threadPointer },
    origin: at(At.program),
    site: at(At.site),
    fileOffset: At.site,
    redZone: RED_ZONE_BYTES,
    consumer: 1,
    next: stub.epilogue,
  });
  const put = (place: bigint, bytes: Uint8Array): void => code.bytes.set(bytes, Number(place));
  put(At.harness, assembleHarness(base + At.harness));
  put(At.site, new Assembler(at(At.site)).jmp(at(At.stub), 'near').ret().finish());
  put(At.stub, stub.bytes);
  put(At.runtime, emitRuntime(at(At.runtime), session, layout));
  put(At.program, compiled.bytes);
  const view = new DataView(code.bytes.buffer, code.bytes.byteOffset, code.bytes.byteLength);
  view.setBigUint64(Number(stub.list - base), base + At.program, true);
  const table = new DescriptorTable();
  table.set(1, { name: 'group:event', layout: record, address: base + At.site });
  const reader = new SegmentReader({ buffer, shape: SHAPE, table });
  const stateBytes = Buffer.alloc(STATE_WORDS * 8);
  const state = mapRegion(memoryAt + (1n << 23n) + (1n << 20n), 4096);
  return {
    reader,
    run(values) {
      values.forEach((value, index) => stateBytes.writeBigUInt64LE(value, index * 8));
      state.bytes.set(stateBytes);
      callCode(base + At.harness, base + At.site, state.address);
      return values.map((_, index) => Buffer.from(state.bytes).readBigUInt64LE(index * 8));
    },
    drain() {
      const found: bigint[][] = [];
      reader.drain((context, index) => {
        const bytes = Buffer.from(context.ring.bytes);
        for (let entry = 0; entry < index.count; entry++) {
          const start = index.offset[entry] ?? 0;
          found.push(record.fields.map((field) => bytes.readBigUInt64LE(start + field.offset)));
        }
      }, 0);
      return found;
    },
  };
}

function programOf(args: string, action: 'record' | 'count' = 'record'): Program {
  const { arguments: parsed } = parseDefinition(`f@x ${args}`);
  return { arguments: parsed, filter: undefined, action };
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
