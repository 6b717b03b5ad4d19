/** One program, two back ends: what the machine code records is what direct evaluation says. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { address, pid } from '../../../src/base/brand.ts';
import type { EventValue } from '../../../src/events/event.ts';
import { parseDefinition } from '../../../src/probe/definition.ts';
import { evaluate, type HitState } from '../../../src/probe/evaluate.ts';
import type { Program, RegisterName } from '../../../src/probe/program.ts';
import { readRanges } from '../../../src/sys/memory.ts';
import { mapRegion, STATE_WORDS } from '../x64/executable.ts';
import { makeBench, SITE_OFFSET, type Bench } from './bench.ts';

const PAGE = 4096;
/** Two pages of memory; nothing lies behind them. */
const ARENA = 0x3_0000_0000n;
const END = ARENA + BigInt(2 * PAGE);
const At = {
  table: 0x100,
  self: 0x180,
  hello: 0x200,
  empty: 0x210,
  quoted: 0x220,
  long: 0x400,
} as const;
const arena = mapRegion(ARENA, 2 * PAGE);

function fill(): void {
  const bytes = Buffer.alloc(2 * PAGE);
  for (let at = 0; at < 0x100; at++) bytes[at] = (at * 37 + 200) & 0xff;
  const pointers = [At.hello, At.empty, At.quoted, At.long, At.table].map(
    (at) => ARENA + BigInt(at),
  );
  [...pointers, END - 5n, 0x10n, 1n << 63n, END - 8n, 0n].forEach((pointer, index) =>
    bytes.writeBigUInt64LE(pointer, At.table + index * 8),
  );
  bytes.writeBigUInt64LE(ARENA + BigInt(At.self), At.self);
  bytes.write('hello\0', At.hello);
  bytes.write('gr\u00fc\u00dfe "q" \x01\xff\0', At.quoted);
  bytes.fill('x', At.long, At.long + 5000);
  bytes.write('tail!', 2 * PAGE - 5);
  arena.bytes.set(bytes);
}
fill();

const ORDER: readonly RegisterName[] = [
  'rax',
  'rcx',
  'rdx',
  'rbx',
  'rbp',
  'rsi',
  'rdi',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
];
const comm = readFileSync('/proc/self/comm', 'utf8').trimEnd();

/** As many bytes from `from` on as a process can read of itself. */
function readOwn(from: bigint, length: number): Uint8Array {
  const into = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const at = from + BigInt(done);
    if (at >= 1n << 47n) break;
    const part = Math.min(length - done, PAGE - Number(at % BigInt(PAGE)));
    const got = readRanges(
      pid(process.pid),
      [{ address: address(at), length: part }],
      into.subarray(done, done + part),
    );
    done += got;
    if (got < part) break;
  }
  return into.subarray(0, done);
}

function stateOf(bench: Bench, words: readonly bigint[], rsp: bigint): HitState {
  return {
    register: (name) => {
      if (name === 'rsp') return rsp;
      if (name === 'rip') return bench.site;
      if (name === 'flags') return words[15] ?? 0n;
      return words[ORDER.indexOf(name)] ?? assert.fail(name);
    },
    read: readOwn,
    comm,
    tid: process.pid,
    processor: 0,
    site: bench.site,
    fileOffset: SITE_OFFSET,
  };
}

/** A program that records its stack pointer first. */
function programOf(text: string, action: 'record' | 'count' = 'record'): Program {
  const definition = parseDefinition(`f@x sp_=%sp:u64 ${text}`);
  return { arguments: definition.arguments, filter: definition.filter, action };
}

/** Runs one hit on both. @returns whether the filter let it pass. */
function compare(bench: Bench, program: Program, words: readonly bigint[]): boolean {
  const after = bench.run(words);
  assert.deepEqual(after.slice(0, 15), words.slice(0, 15), 'registers');
  const events = bench.events();
  assert.ok(events.length <= 1);
  const [event] = events;
  const rsp = event?.args['sp_'] ?? 0n;
  assert.ok(typeof rsp === 'bigint');
  const expected = evaluate(program, stateOf(bench, words, rsp));
  assert.equal(event !== undefined, expected.passes, 'passes');
  if (event === undefined) return false;
  const names = program.arguments.map(({ name }) => name);
  const values: EventValue[] = names.map((name) => event.args[name] ?? assert.fail(name));
  assert.deepEqual(values, [...expected.values]);
  return true;
}

/** Registers of which rdi is `pointer`. */
function wordsWith(pointer: bigint, other: bigint): bigint[] {
  const words = Array.from({ length: STATE_WORDS }, (_, at) =>
    BigInt.asUintN(64, other + BigInt(at)),
  );
  words[ORDER.indexOf('rdi')] = pointer;
  words[ORDER.indexOf('rsi')] = other;
  return [...words.slice(0, 15), 0x202n];
}

const TABLE = ARENA + BigInt(At.table);
const POINTERS: readonly bigint[] = [
  ARENA,
  ARENA + 3n,
  TABLE,
  ARENA + BigInt(At.self),
  TABLE + 8n,
  TABLE + 40n,
  TABLE + 48n,
  TABLE + 64n,
  ARENA + BigInt(At.hello),
  ARENA + BigInt(At.long),
  END - 1n,
  END - 4n,
  END - 8n,
  END - 9n,
  END - 5n,
  END - 16n,
  END,
  0n,
  8n,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_fff8n,
  0x7fff_ffff_f000n,
  ARENA + BigInt(PAGE) - 2n,
];
const OTHERS: readonly bigint[] = [
  0n,
  1n,
  0xffn,
  0x80n,
  0x8000n,
  0xdead_beefn,
  0x8000_0000n,
  0xffff_ffff_ffff_fffbn,
];

/** Every kind of fetch, every type. */
const ARGUMENTS: readonly string[] = [
  'a=+0(%di):u8 b=+1(%di):u32 c=+8(%di) d=+300(%di):u64 e=+100(%di):u16 f=+2(%di):u8 g=+0(+0(%di)):u8 h=+5(+0(%di)):u8 i=+260(+0(%di)):u16 j=+0(%di):string[2] k=-3(%di):u8[3] l=-600(%di)',
  'a=+4095(%di):u8 b=+3839(%di):u8 c=+3582(%di):u8 d=+0(%di):u8 e=+256(%di):u8 f=+514(%di):u8',
  'a=%di b=%si:u8 c=%si:s8 d=%si:x16 e=%si:s16 f=%si:u32 g=%si:s32 h=%si:s64 i=%si:char j=%ax k=%cx:u16 l=%dx:u8 m=%r8:s32 n=%r11 o=%r15:char p=%ip',
  'a=%si:b1@0/8 b=%si:b4@4/8 c=%si:b5@3/32 d=%si:b63@1/64 e=%si:b64@0/64 f=%r9:b9@7/16',
  'a=\\5 b=\\-5 c=\\-5:s8 d=\\0xffffffffffffffff:u16 e=\\65:char f=\\"some" g=\\"" h=\\300:b4@0/16',
  'a=+0(%di) b=+0(%di):u8 c=-1(%di):s8 d=+2(%di):s16 e=+4(%di):u32 f=+0(%di):s64 g=+0(%di):char h=+8(%di):x16',
  'a=+0(%di):b3@2/8 b=+0(%di):b7@9/16 c=+0(%di):b31@1/32 d=+0(%di):b33@30/64',
  'a=+0(+0(%di)) b=+0(+0(%di)):u8 c=+0(+8(%di)):string d=+0(+0(%di)):string e=+0(+0(+32(%di))):u64 f=+8(+0(+32(%di))):s32',
  `a=${'+0('.repeat(13)}%di${')'.repeat(13)}:u8 b=${'+0('.repeat(12)}%di${')'.repeat(12)}:string`,
  'a=+0x7fffffffffffffff(%di) b=-0x8000000000000000(%di):u8 c=+0(+0x7fffffffffffffff(+0(%di)))',
  `a=@0x${TABLE.toString(16)} b=@0x${(ARENA + BigInt(At.hello)).toString(16)}:string c=@0x10:string d=+0(@0x${TABLE.toString(16)}):string e=\\0x${(ARENA + BigInt(At.hello)).toString(16)}:string`,
  'a=@+0x340:u8 b=@+832:u32 c=@+-16:u64 d=+0(@+0x340):u8',
  'a=+0(%di):u8[4] b=+0(%di):u8[3] c=+0(%di):s16[5] d=+0(%di):x32[2] e=+0(%di):u64[9] f=+0(%di):char[8] g=+0(%di):s8[1] h=+0(%di):u8[64]',
  'a=+0(%di):b4@0/8[3] b=+0(%di):b5@3/16[4] c=+0(%di):b12@20/32[3] d=+0(%di):b40@20/64[2]',
  'a=+0(%di):string[3] b=+8(%di):string[1] c=+0(+32(%di)):string[10] d=+0(%di):u64[3]',
  'a=+0(%di):string b=+1(%di):string c=$comm d=-2(%di):string e=\\"const" f=+0(%di):u8',
  'a=%flags:b1@1/8 s=+0(%di):symbol t=%di:symbol',
  Array.from({ length: 120 }, (_, at) => `x${at}=+${at}(%di):u8`).join(' '),
  Array.from({ length: 16 }, (_, at) => `x${at}=+${at}(%di):string`).join(' '),
  Array.from({ length: 16 }, (_, at) => `x${at}=+${at * 8}(%di):string[1]`).join(' '),
];

/** What of the arguments a filter may look at, with every operator. */
const FILTERS: readonly string[] = [
  'a=+0(%di):string[1] if a == "hello"',
  'a=+0(%di):u8 b=+8(%di):u8 c=+16(%di):u8 if a == 200 && c != 3',
  'a=%si if a == 255',
  'a=%si if a != 0xdeadbeef',
  'a=%si if a > 0x7fffffff && a < 0x8000000000000000',
  'a=%si if a >= 0xfffffffffffffffb || a <= 1',
  'a=%si:s64 if a < 0',
  'a=%si:s64 if a >= -5 && a <= -1',
  'a=%si:s32 b=%si:u32 if a < 0 && b > 0x80000000',
  'a=%si:s8 b=%si:u8 if a == -128 || b & 1',
  'a=%si:s16 b=%si:x16 if a <= -1 || b == 0x8000',
  'a=%si if a & 0x8000000000000000',
  'a=%si if a & 0x80',
  'a=%ax:u8 b=%cx c=%dx:s32 if a == 0 || b > 3 && c != 3',
  'a=%r8:u8 b=%r11 if !(a == 7) && !(b < 20)',
  'a=%si:b4@4/8 if a == 8',
  'a=%si:char if a == 255',
  'a=\\5 if a == 5',
  'a=\\5 if a != 5',
  'a=\\"some" if a ~ "s*e"',
  'a=\\"some" if a == "other" || a != "some"',
  'a=%si if !(a == 1 || a == 128) && (a < 1000 || a > 0xffffffff)',
  'a=%si if !!a == 1',
  `if common_pid == ${process.pid}`,
  `if common_pid != ${process.pid} || common_pid < 0`,
  'if cpu >= 0 && cpu < 4096',
  'if cpu > -1',
  'if cpu == -1 || cpu < -1 || cpu == 4294967295',
  'if __probe_ip == 1',
  'if __probe_ip != 1',
  'a=+0(%di):u8 if a == 200',
  'a=+0(%di):u8 if a != 200',
  'a=+0(%di):u8 if !(a != 200)',
  'a=+0(%di):s16 if a < 0',
  'a=+0(%di):b4@4/8 if a > 7',
  'a=+0(+0(%di)):u8 if a == 104',
  'a=+0(+0(%di)):u8 b=+0(+0(%di)):string if a == 104 && b == "hello"',
  'a=+0(+0(%di)):string if a ~ "*l*"',
  'a=+0(+0(%di)):string if a ~ "!h*"',
  'a=+0(+0(%di)):string if a ~ "[a-h]?l*[!a-n]"',
  'a=+0(+0(%di)):string if a == ""',
  'a=+0(+0(%di)):string if a != "hello"',
  'a=+0(+0(%di)):string if !(a == "hello")',
  'a=+0(+0(%di)):string if a ~ "xxx*" || a ~ "gr*e*q*"',
  'a=+0(%di):string if a == "tail!"',
  'a=+0(%di):string[3] if a == "hello"',
  'a=+0(%di):u8[4] if a & 0x80000000',
  'a=+0(%di):u8[2] if a > 0x1000',
  'a=+0(%di):s32[2] if a < 0',
  'a=+0(%di):b4@4/8[2] if a == 0xe0c',
  'a=+0(%di):u8 b=%si if a == 200 && b == 1',
  'a=+0(%di):u8 b=%si if a == 200 || b == 1',
  'a=+0(%di):u8 b=+8(%di):string c=+1(%di):u8 if c != 0',
  `if comm == "${comm}"`,
  'if comm ~ "n*" || comm ~ "*M*"',
  'if comm == "nobody"',
  `c=$comm if c == "${comm}"`,
  'c=$comm d=+0(%di):u8 if c ~ "*" && d >= 0',
  Array.from({ length: 120 }, (_, at) => `x${at}=%si:u8`).join(' ') +
    ` if ${Array.from({ length: 120 }, (_, at) => `x${at} != ${at}`).join(' && ')}`,
];

for (const [title, table] of [
  ['arguments', ARGUMENTS],
  ['filters', FILTERS],
] as const) {
  for (const threadPointer of ['memory', 'register'] as const) {
    test(`${title}, on good and bad pointers (fs base from ${threadPointer})`, () => {
      for (const text of table) {
        const program = programOf(text);
        const bench = makeBench(program, threadPointer);
        const passed = { yes: 0, no: 0 };
        for (const pointer of POINTERS) {
          for (const other of OTHERS) {
            try {
              passed[compare(bench, program, wordsWith(pointer, other)) ? 'yes' : 'no']++;
            } catch (error) {
              if (error instanceof Error)
                error.message = `${text} (${pointer.toString(16)}, ${other.toString(16)}): ${error.message}`;
              throw error;
            }
          }
        }
        const { hits, filtered, recorded } = bench.reader.counts(1);
        assert.deepEqual(
          { hits, filtered, recorded },
          { hits: passed.yes + passed.no, filtered: passed.no, recorded: passed.yes },
          text,
        );
        assert.deepEqual(bench.reader.loss(), { abandoned: 0, corrupt: 0, overrun: 0 });
      }
    });
  }
}

test('counts are filtered the same', () => {
  for (const text of FILTERS) {
    const program = programOf(text, 'count');
    const bench = makeBench({ ...program, arguments: [] }, 'memory');
    let passes = 0;
    for (const pointer of POINTERS) {
      for (const other of OTHERS) {
        const words = wordsWith(pointer, other);
        bench.run(words);
        if (evaluate(program, stateOf(bench, words, 0n)).passes) passes++;
      }
    }
    assert.equal(bench.events().length, 0);
    const { hits, filtered, aggregated, recorded } = bench.reader.counts(1);
    const runs = POINTERS.length * OTHERS.length;
    assert.deepEqual(
      { hits, filtered, aggregated, recorded },
      { hits: runs, filtered: runs - passes, aggregated: passes, recorded: 0 },
      text,
    );
  }
});

test('random globs on random texts', () => {
  const glob = fc
    .array(fc.constantFrom('*', '?', 'a', 'b', 'c', '[ab]', '[!a]', '[a-b]c', '\\*'), {
      maxLength: 8,
    })
    .map((parts) => parts.join(''));
  const texts = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', '*'), maxLength: 9 }), {
    minLength: 30,
    maxLength: 30,
  });
  let passes = 0;
  fc.assert(
    fc.property(glob, texts, (pattern, list) => {
      const program = programOf(`s=+0(%di):string if s ~ "${pattern}"`);
      const bench = makeBench(program, 'memory');
      for (const text of list) {
        arena.bytes.set(Buffer.from(`${text}\0`), At.long);
        if (compare(bench, program, wordsWith(ARENA + BigInt(At.long), 0n))) passes++;
      }
    }),
    { numRuns: 60 },
  );
  fill();
  assert.ok(passes > 50);
});

/** A fetch and a type that go together, at random. */
const fetches = fc
  .tuple(
    fc.constantFrom('%di', '%si', '%ax', '%r11', '@+0x340', `@0x${TABLE.toString(16)}`),
    fc.array(fc.integer({ min: -9, max: 80 }), { maxLength: 4 }),
    fc.constantFrom(
      '',
      ':u8',
      ':s16',
      ':x32',
      ':s64',
      ':char',
      ':b3@2/8',
      ':string',
      ':u8[7]',
      ':s32[3]',
      ':string[4]',
      ':b7@3/16[5]',
    ),
  )
  .map(([base, path, type]) => {
    const isPlain = path.length === 0 && !base.startsWith('@');
    const fits = !isPlain || !/string|\[/.test(type);
    const inner = path.reduce<string>(
      (at, offset) => `${offset < 0 ? '' : '+'}${offset}(${at})`,
      base,
    );
    return `${inner}${fits ? type : ''}`;
  });
const addresses = fc.oneof(
  fc.constantFrom(...POINTERS),
  fc.integer({ min: 0, max: 2 * PAGE + 16 }).map((at) => ARENA + BigInt(at)),
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
);

test('random programs on random states', () => {
  fc.assert(
    fc.property(
      fc.array(fetches, { minLength: 1, maxLength: 8 }),
      fc.array(fc.tuple(addresses, addresses), { minLength: 8, maxLength: 8 }),
      (list, pairs) => {
        const program = programOf(list.map((fetch, at) => `v${at}=${fetch}`).join(' '));
        const bench = makeBench(program, 'memory');
        for (const [pointer, other] of pairs) compare(bench, program, wordsWith(pointer, other));
      },
    ),
    { numRuns: 150 },
  );
});
