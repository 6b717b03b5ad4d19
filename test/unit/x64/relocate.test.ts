import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { BlockEncoder, BlockEncoderOptions, Decoder, DecoderOptions } from 'iced-x86';
import { address, type Address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { decodeAll, decodeAt } from '../../../src/x64/decode.ts';
import { CONDITIONS, mem } from '../../../src/x64/operands.ts';
import { relocate, type Relocated } from '../../../src/x64/relocate.ts';
import {
  assembleHarness,
  callCode,
  libcFunction,
  mapNear,
  mapRegion,
  STATE_WORDS,
  viewMemory,
} from './executable.ts';
import { gnuAssemble, objdump } from './oracles.ts';

const FROM = address(0x10000000n);
const TO = address(0x20000000n);

function moved(bytes: Uint8Array, from: Address = FROM, to: Address = TO): Relocated {
  const result = relocate(bytes, from, to);
  assert.equal(result.kind, 'relocated', 'reason' in result ? result.reason : '');
  assert.ok(result.kind === 'relocated');
  return result;
}

function texts(result: Relocated): string[] {
  return [...objdump(result.bytes, TO).values()].map((line) => line.replace(/\s+/g, ' '));
}

void test('what does not depend on its place is copied byte by byte', () => {
  const source = 'endbr64; push rbp; mov rbp, rsp; data16 nop; ds mov eax, [rcx]; notrack jmp rax';
  const bytes = gnuAssemble(source);
  const result = moved(bytes);
  assert.deepEqual(result.bytes, new Uint8Array(bytes));
  assert.equal(result.flowEndsAt, bytes.byteLength);
  assert.equal(result.fallsThrough, false);
  assert.deepEqual(
    result.map.map(({ from, to }) => from === to),
    Array<boolean>(6).fill(true),
  );
});

void test('operands relative to rip keep their target', () => {
  const bytes = gnuAssemble('cmp dword ptr [rip+0x100], 0x12345678\nlea rax, [rip-0x11]');
  const result = moved(bytes);
  const targets = decodeAll(result.bytes, TO).map(({ ripTarget }) => ripTarget);
  assert.deepEqual(targets, [FROM + 10n + 0x100n, FROM]);
});

void test('branches become near ones, and counted ones jump to a jump', () => {
  const bytes = gnuAssemble('.byte 0x74,0x20\n.byte 0xe3,0x10\n.byte 0xe0,0x20\njmp .+0x30');
  const result = moved(bytes);
  assert.deepEqual(result.map, [
    { from: 0, to: 0 },
    { from: 2, to: 6 },
    { from: 4, to: 15 },
    { from: 6, to: 24 },
  ]);
  assert.deepEqual(texts(result), [
    'je 0x10000022',
    'jrcxz 0x2000000a',
    'jmp 0x2000000f',
    'jmp 0x10000014',
    'loopne 0x20000013',
    'jmp 0x20000018',
    'jmp 0x10000026',
    'jmp 0x10000036',
  ]);
});

void test('calls push the original return address in one instruction', () => {
  const cases: [string, RegExp][] = [
    ['call .+0x100', /^jmp 0x10000100$/],
    ['call rbx', /^jmp rbx$/],
    ['call r11', /^jmp r11$/],
    ['call [rip+0x20]', /# 0x10000026$/],
    ['call [rsp+8]', /^jmp QWORD PTR \[rsp\+0x10\]$/],
    ['call [rsp]', /^jmp QWORD PTR \[rsp\+0x8\]$/],
    ['call [rsp-0x10]', /^jmp QWORD PTR \[rsp-0x8\]$/],
    ['call [esp+8]', /^jmp QWORD PTR \[esp\+0x10\]$/],
    ['.byte 0x66, 0x66, 0x48, 0xe8, 0, 1, 0, 0', /^jmp 0x10000108$/],
    ['call [rsp+rbx*8+0x7c]', /^jmp QWORD PTR \[rsp\+rbx\*8\+0x84\]$/],
    ['call [r12+8]', /^jmp QWORD PTR \[r12\+0x8\]$/],
    ['call fs:[rax]', /^jmp QWORD PTR fs:\[rax\]$/],
  ];
  for (const [source, expected] of cases) {
    const bytes = gnuAssemble(source);
    const result = moved(bytes);
    assert.equal(result.fallsThrough, false, source);
    assert.equal(result.flowEndsAt, undefined, source);
    const word = new DataView(result.bytes.buffer).getBigUint64(result.bytes.byteLength - 8, true);
    assert.equal(word, FROM + BigInt(bytes.byteLength), source);
    const [push, jump] = decodeAll(result.bytes, TO);
    assert.equal(push?.ripTarget, TO + BigInt(result.bytes.byteLength - 8), source);
    assert.match(texts(result)[1] ?? '', expected, source);
    assert.equal(6 + (jump?.length ?? 0) + 8, result.bytes.byteLength, source);
  }
});

void test('what cannot be moved is refused with the place and the reason', () => {
  const cases: [string, RegExp, bigint][] = [
    ['push rbp\nint3\nnop', /breakpoint/, 1n],
    ['ud2', /faults/, 0n],
    ['.byte 0x06', /decoder/, 0n],
    ['nop\n.byte 0x48, 0x8b', /decoder/, 1n],
    ['xbegin 1f\nnop\n1: nop', /aborts into/, 0n],
    ['.byte 0x66, 0xc7, 0xf8, 0, 1', /prefix/, 0n],
    ['nop\n.byte 0xeb, 0xff\nnop', /goes into/, 1n],
    ['je .+3\nmov eax, 5', /goes into/, 0n],
    ['call rax\nnop', /return into/, 0n],
    ['call .+5\npop rax', /goes into/, 0n],
    ['call [rsp-8]', /near rsp/, 0n],
    ['call [rsp-15]', /near rsp/, 0n],
    ['call [rsp+rbx*8-0x100]', /near rsp/, 0n],
    ['call [esp-0x20]', /near rsp/, 0n],
    ['call rsp', /through rsp/, 0n],
    ['nop\nlea rax, [rip-7]', /points into/, 1n],
    ['mov eax, [rip-6]', /points into/, 0n],
    ['call fword ptr [rax]', /far call/, 0n],
    ['.byte 0x66, 0xe9, 0, 1, 0, 0', /prefix/, 0n],
    // REX.W counts only next to the opcode.
    ['.byte 0x48, 0x66, 0xe9, 0, 1, 0, 0', /prefix/, 0n],
    ['.byte 0x66, 0xff, 0xd0', /prefix/, 0n],
    ['mov eax, [eip+0x10]', /eip/, 0n],
  ];
  for (const [source, reason, at] of cases) {
    const result = relocate(gnuAssemble(source), FROM, TO);
    assert.equal(result.kind, 'refused', source);
    assert.ok(result.kind === 'refused');
    assert.match(result.reason, reason, source);
    assert.equal(result.at, FROM + at, source);
  }
  const far = address(0x200000000n);
  for (const source of ['mov eax, [rip+0x100]', 'jmp .+0x1000', 'call .+0x1000', 'loop .+0x40']) {
    const result = relocate(gnuAssemble(source), FROM, far);
    assert.match(result.kind === 'refused' ? result.reason : '', /out of reach/, source);
  }
});

void test('a branch to the first byte or behind the last is not into the block', () => {
  const bytes = gnuAssemble('.byte 0x75, 0xfe\n.byte 0xeb, 0x00');
  assert.deepEqual(texts(moved(bytes)), ['jne 0x10000000', 'jmp 0x10000004']);
});

void test('a branch to an instruction that moves goes to it where it is now', () => {
  const bytes = gnuAssemble('je 1f\n2: inc ecx\n1: jrcxz 1f\nloop 2b\n1: nop');
  const result = moved(bytes);
  assert.deepEqual(result.map, [
    { from: 0, to: 0 },
    { from: 2, to: 6 },
    { from: 4, to: 8 },
    { from: 6, to: 17 },
    { from: 8, to: 26 },
  ]);
  assert.deepEqual(texts(result), [
    'je 0x20000008',
    'inc ecx',
    'jrcxz 0x2000000c',
    'jmp 0x20000011',
    'jmp 0x2000001a',
    'loop 0x20000015',
    'jmp 0x2000001a',
    'jmp 0x20000006',
    'nop',
  ]);
});

void test('a branch over a lock prefix stays one', () => {
  const bytes = gnuAssemble('je 1f\n.byte 0xf0\n1: dec qword ptr [rip+0x100]');
  const result = moved(bytes);
  assert.deepEqual(texts(result), [
    'je 0x20000007',
    'lock dec QWORD PTR [rip+0xfffffffff00000fc] # 0x1000010a',
  ]);
  assert.deepEqual(result.map, [
    { from: 0, to: 0 },
    { from: 2, to: 6 },
    { from: 3, to: 7 },
  ]);
});

void test('a transaction aborts to where it did', () => {
  assert.deepEqual(texts(moved(gnuAssemble('xbegin .+0x20'))), ['xbegin 0x10000020']);
});

void test('the end of the flow in the middle is told', () => {
  const result = moved(gnuAssemble('pop rbx\nret\nnop\nnop\nnop'));
  assert.equal(result.flowEndsAt, 2);
  assert.equal(result.fallsThrough, true);
});

void test('random bytes are moved or refused, never thrown', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 24 }), (bytes) => {
      const result = relocate(bytes, FROM, TO);
      if (result.kind === 'refused') return result.reason.length > 0;
      return result.bytes.byteLength > 0 && result.map[0]?.to === 0;
    }),
    { numRuns: 3000 },
  );
});

/** What BlockEncoder makes of one instruction; undefined when it refuses. */
function blockEncoded(bytes: Uint8Array, from: bigint, to: bigint): Uint8Array | undefined {
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  decoder.ip = from;
  const instruction = decoder.decode();
  const encoder = new BlockEncoder(64, BlockEncoderOptions.None);
  encoder.add(instruction);
  try {
    return encoder.encode(to);
  } catch {
    return undefined; // out of its reach: nothing to compare with
  } finally {
    encoder.free();
    instruction.free();
    decoder.free();
  }
}

void test('every instruction of a stretch of libc goes where BlockEncoder sends it', () => {
  const libc = readFileSync('/lib/x86_64-linux-gnu/libc.so.6');
  const start = Number(libcOffset('qsort_r'));
  const text = new Uint8Array(libc.subarray(start, start + 60_000));
  const from = address(BigInt(start) + 0x10000000n);
  let compared = 0;
  for (const { address: at, length, flow } of decodeAll(text, from)) {
    const offset = Number(at - from);
    const bytes = text.subarray(offset, offset + length);
    const ours = relocate(bytes, at, TO);
    if (flow === 'call' || flow === 'indirect-call' || ours.kind === 'refused') continue;
    const theirs = blockEncoded(bytes, at, TO);
    if (theirs === undefined) continue;
    const one = decodeAt(ours.bytes, 0, TO);
    const other = decodeAt(theirs, 0, TO);
    assert.equal(one.target, other.target);
    assert.equal(one.ripTarget, other.ripTarget);
    assert.equal(one.flow, other.flow);
    const isCounted = flow === 'conditional' && ((bytes[length - 2] ?? 0) & 0xfc) === 0xe0;
    assert.equal(ours.bytes.byteLength, isCounted ? one.length + 7 : one.length);
    compared++;
  }
  assert.ok(compared > 5000, `${compared} compared`);
});

/** The offset of a function in libc's file: its first segments are mapped at their offsets. */
function libcOffset(name: string): bigint {
  const at = libcFunction(name);
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const [, low, high, offset] = /^(\w+)-(\w+) r-xp (\w+) .*libc\.so/.exec(line) ?? [];
    if (low === undefined || BigInt(`0x${low}`) > at || BigInt(`0x${high}`) <= at) continue;
    return at - BigInt(`0x${low}`) + BigInt(`0x${offset}`);
  }
  throw new Error(`${name} is not in libc's text`);
}

const HERE = mapRegion(0x30000000n, 0x10000);
const FAR = mapRegion(0x70000000n, 0x10000);
const HARNESS = HERE.address;
const BLOCK = address(HERE.address + 0x1000n);
const TARGETS = address(HERE.address + 0x3000n);
const DATA = address(HERE.address + 0x8000n);
const STATE = HERE.address + 0xa000n;
const MOVED = address(FAR.address);
HERE.bytes.set(assembleHarness(HARNESS));

/** Places to branch to: each adds its number to rax, so the state shows which was reached. */
function assembleTargets(): Uint8Array {
  const code = new Assembler(TARGETS);
  for (let index = 0; index < 4; index++) {
    code
      .lea('rax', mem({ base: 'rax', displacement: 0x1111 * (index + 1) }))
      .ret()
      .align(16);
  }
  return code.finish();
}
HERE.bytes.set(assembleTargets(), Number(TARGETS - HERE.address));

/** Runs code from a state; the state and the data afterwards. */
function run(at: Address, state: readonly bigint[], data: Uint8Array): readonly bigint[] {
  const view = new BigUint64Array(HERE.bytes.buffer, HERE.bytes.byteOffset + 0xa000, STATE_WORDS);
  view.set(state.map((word) => BigInt.asUintN(64, word)));
  HERE.bytes.set(data, 0x8000);
  callCode(HARNESS, at, STATE);
  const words = new BigUint64Array(HERE.bytes.buffer, HERE.bytes.byteOffset + 0x8000, 8);
  return [...view, ...words];
}

type Step = (code: Assembler, number: number) => unknown;

const word = (number: number): Address => address(DATA + BigInt((number & 7) * 8));
const target = (number: number): Address => address(TARGETS + BigInt((number & 3) * 16));
/** Short branches need a target near: the second half of the page of the block is filled with them. */
const near = (code: Assembler, number: number): Address =>
  address(code.here() + 0x40n + BigInt((number & 3) * 16));

const STRAIGHT: readonly Step[] = [
  (code, number) => code.add('rax', mem({ target: word(number) })),
  (code, number) => code.mov(mem({ target: word(number), width: 8 }), number - 100),
  (code, number) => code.xor(mem({ target: word(number) }), 'r11'),
  (code, number) => code.lea('r9', mem({ target: word(number) })),
  (code, number) => code.cmp(mem({ target: word(number), width: 1 }), number & 127),
  (code) => code.lea('rdx', mem({ target: BLOCK })),
  (code) => code.push('rbx').pop('r8'),
  (code, number) => code.imul('rsi', 'rdi', number),
  (code) => code.sub('rcx', 1),
  (code) => code.adc('r15', 'r14'),
];

const LAST: readonly Step[] = [
  (code, number) => code.jcc(CONDITIONS[number & 15] ?? 'e', target(number >> 4)),
  (code, number) => code.jmp(target(number)),
  (code, number) => code.call(target(number)),
  (code, number) => code.lea('rbx', mem({ target: target(number) })).call('rbx'),
  (code) =>
    code
      .push('rdx')
      .pop('rdx')
      .call(mem({ target: POINTER })),
  (code) => code.ret(),
];

/** A word that points to the first target. */
const POINTER = address(HERE.address + 0x9000n);
HERE.bytes.set(new Assembler(POINTER).u64(TARGETS).finish(), 0x9000);

void test('moved blocks leave the machine as the originals do', () => {
  let ran = 0;
  const states = fc.array(fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), {
    minLength: 15,
    maxLength: 15,
  });
  const steps = fc.array(fc.tuple(fc.nat(STRAIGHT.length - 1), fc.nat(255)), { maxLength: 4 });
  const last = fc.tuple(fc.nat(LAST.length - 1), fc.nat(255));
  const short = fc.option(
    fc.tuple(fc.constantFrom(0x70, 0x75, 0x7c, 0xe0, 0xe1, 0xe2, 0xe3, 0xeb), fc.nat(3)),
  );
  fc.assert(
    fc.property(states, fc.nat(255), steps, last, short, (registers, flags, body, end, branch) => {
      // CF PF AF ZF SF, and bit 1, which is always set; OF from another bit.
      const eflags = BigInt((flags & 0xd5) | 2 | ((flags & 8) << 8));
      const code = new Assembler(BLOCK);
      for (const [step, number] of body) STRAIGHT[step]?.(code, number);
      if (branch === null) LAST[end[0]]?.(code, end[1]);
      else code.raw([branch[0], Number(near(code, branch[1]) - code.here())]);
      const block = code.finish();
      ran++;
      const result = moved(block, BLOCK, MOVED);
      place(block, result);
      const data = Uint8Array.from({ length: 64 }, (_, index) => (index * 37) & 255);
      const state = [...registers, eflags];
      assert.deepEqual(run(MOVED, state, data), run(BLOCK, state, data));
    }),
    { numRuns: 2000 },
  );
  assert.ok(ran >= 2000);
});

/** Puts a block where it was assembled, places to land behind it, and its moved copy far away. */
function place(block: Uint8Array, result: Relocated): void {
  const behind = new Assembler(address(BLOCK + BigInt(block.byteLength)));
  // Every landing shows by where it lies, in r13.
  for (let index = 0; index < 32; index++) {
    behind.lea('r13', mem({ base: 'r13', displacement: index + 1 }));
  }
  behind.ret();
  HERE.bytes.set(block, 0x1000);
  HERE.bytes.set(behind.finish(), 0x1000 + block.byteLength);
  const back = new Assembler(address(MOVED + BigInt(result.bytes.byteLength)));
  back.jmp(address(BLOCK + BigInt(block.byteLength)));
  FAR.bytes.set(result.bytes);
  FAR.bytes.set(back.finish(), result.bytes.byteLength);
}

void test('functions of libc work with their first instructions moved', () => {
  const text = viewMemory(HERE.address + 0xb000n, 64);
  text.set(new TextEncoder().encode('12345 Trapline\0'));
  const string = HERE.address + 0xb000n;
  const cases: [string, bigint, bigint][] = [
    ['atoi', string, 0n],
    ['abs', -5n, 0n],
    ['labs', -7n, 0n],
    ['toupper', 0x62n, 0n],
    ['isalpha', 0x62n, 0n],
    ['ffs', 0x50n, 0n],
    ['strtoul', string, 0n],
    ['htonl', 0x01020304n, 0n],
    ['getenv', string, 0n],
    ['getppid', 0n, 0n],
    ['strdup', string, 0n],
    ['basename', string, 0n],
    ['wctob', 0x41n, 0n],
    ['l64a', 77n, 0n],
    ['a64l', string, 0n],
    ['inet_addr', string, 0n],
    ['strsignal', 11n, 0n],
    ['sigismember', string, 3n],
    ['wcslen', string, 0n],
  ];
  const here = mapNear(libcFunction('atoi'), 0x10000);
  for (const [name, first, second] of cases) {
    const at = address(libcFunction(name));
    const code = viewMemory(at, 64).slice();
    let length = 0;
    while (length < 5) length += decodeAt(code, length, address(at + BigInt(length))).length;
    const to = address(here.address);
    const result = moved(code.slice(0, length), at, to);
    const back = new Assembler(address(to + BigInt(result.bytes.byteLength)));
    here.bytes.set(result.bytes);
    here.bytes.set(back.jmp(address(at + BigInt(length))).finish(), result.bytes.byteLength);
    const once = callCode(at, first, second);
    const again = callCode(to, first, second);
    // Only strdup's result is new at each call.
    if (name !== 'strdup') assert.equal(again, once, name);
    else assert.notEqual(again, once);
  }
});
