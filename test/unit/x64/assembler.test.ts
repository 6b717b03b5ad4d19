import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Decoder, DecoderOptions, Formatter, FormatterSyntax } from 'iced-x86';
import { address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { CONDITIONS, mem } from '../../../src/x64/operands.ts';
import { partOf, resized } from '../../../src/x64/registers.ts';
import { assemblerCases, type Case } from './assembler-cases.ts';
import { gnuAssemble, objdump } from './oracles.ts';

const SLOT = 32;

/** Every case in a slot of its own, so that one wrong length does not shift the others. */
function ourSlots(cases: readonly Case[]): { bytes: Uint8Array; lengths: number[] } {
  const bytes = new Uint8Array(cases.length * SLOT).fill(0xcc);
  const lengths = cases.map(({ emit }, index) => {
    const code = new Assembler(address(index * SLOT));
    emit(code);
    const instruction = code.finish();
    bytes.set(instruction, index * SLOT);
    return instruction.byteLength;
  });
  return { bytes, lengths };
}

function icedTexts(bytes: Uint8Array): { text: string; length: number }[] {
  const formatter = new Formatter(FormatterSyntax.Intel);
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  const texts: { text: string; length: number }[] = [];
  for (let at = 0; at < bytes.byteLength; at += SLOT) {
    decoder.position = at;
    decoder.ip = BigInt(at);
    const instruction = decoder.decode();
    texts.push({ text: formatter.format(instruction), length: instruction.length });
    instruction.free();
  }
  decoder.free();
  formatter.free();
  return texts;
}

void test('every mnemonic and operand reads as GNU as, objdump and iced understand it', () => {
  const cases = [...assemblerCases()];
  assert.ok(cases.length > 10_000, `${cases.length} cases`);
  const source = cases.map(({ text }) => `${text}\n.balign ${SLOT}, 0xcc`).join('\n');
  const theirs = gnuAssemble(source);
  const { bytes: ours, lengths } = ourSlots(cases);
  assert.equal(theirs.byteLength, ours.byteLength);

  const iced = { ours: icedTexts(ours), theirs: icedTexts(theirs) };
  const dump = { ours: objdump(ours), theirs: objdump(theirs) };
  for (const [index, { text }] of cases.entries()) {
    assert.equal(iced.ours[index]?.text, iced.theirs[index]?.text, text);
    assert.equal(iced.ours[index]?.length, lengths[index], `${text}: the length`);
    const at = BigInt(index * SLOT);
    assert.equal(dump.ours.get(at), dump.theirs.get(at), text);
    assert.ok(dump.ours.has(at) && !dump.ours.get(at)?.includes('bad'), text);
  }
});

function constantLength(value: bigint): number {
  return new Assembler(address(0)).mov('rax', value).length;
}

void test('a 64-bit constant takes the shortest form', () => {
  assert.equal(constantLength(0n), 5);
  assert.equal(constantLength(0xffffffffn), 5);
  assert.equal(constantLength(-1n), 7);
  assert.equal(constantLength(0xffff_ffff_8000_0000n), 7);
  assert.equal(constantLength(0x1_0000_0000n), 10);
});

void test('operands relative to rip count from the end of the instruction', () => {
  const origin = 0x400000n;
  const code = new Assembler(address(origin));
  const word = code.label('word');
  code.mov('rax', mem({ target: word }));
  code.cmp(mem({ target: word, width: 4 }), 0x12345678);
  code.test(mem({ target: word, width: 1 }), 1);
  code.lea('r15', mem({ target: address(0x401000n) }));
  code.lock().inc(mem({ target: word, displacement: 8, width: 8 }));
  code.jmp(mem({ target: word }));
  code.call(mem({ target: word }));
  code.mov(mem({ target: word, width: 8 }), -1);
  code.bind(word).u64(0x1122334455667788n);
  const at = code.addressOf(word).toString(16);
  const lines = [...objdump(code.finish(), origin).values()].slice(0, 8);
  const targets = lines.map((line) => /# 0x([0-9a-f]+)/.exec(line)?.[1]);
  const next = (code.addressOf(word) + 8n).toString(16);
  assert.deepEqual(targets, [at, at, at, '401000', next, at, at, at]);
});

void test('every condition branches, short and near, to labels and addresses', () => {
  const origin = 0x400000n;
  for (const condition of CONDITIONS) {
    const code = new Assembler(address(origin));
    const end = code.label('end');
    code.jcc(condition, end, 'short').jcc(condition, end, 'near').bind(end);
    code.jcc(condition, address(0x7fff0000n));
    const name = condition === 'p' ? 'jp' : `j${condition}`;
    const lines = [...objdump(code.finish(), origin).values()];
    assert.deepEqual(
      lines.map((line) => line.replace(/\s+/g, ' ')),
      [`${name} 0x400008`, `${name} 0x400008`, `${name} 0x7fff0000`],
    );
  }
});

void test('a short branch that does not reach is refused', () => {
  const code = new Assembler(address(0));
  const end = code.label('end');
  code.jmp(end, 'short').nop(128).bind(end);
  assert.throws(() => code.finish(), /out of reach/);
});

void test('short branches are chosen backwards, near ones forwards', () => {
  const code = new Assembler(address(0x1000n));
  const start = code.boundLabel();
  const end = code.label();
  code.jmp(start).jcc('ne', start).jmp(end).jcc('ne', end).jmp(end, 'short').call(end).bind(end);
  const bytes = code.finish();
  assert.equal(bytes.byteLength, 2 + 2 + 5 + 6 + 2 + 5);
  const lines = [...objdump(bytes, 0x1000n).values()].map((line) => line.replace(/\s+/g, ' '));
  assert.deepEqual(lines, [
    'jmp 0x1000',
    'jne 0x1000',
    'jmp 0x1016',
    'jne 0x1016',
    'jmp 0x1016',
    'call 0x1016',
  ]);
});

void test('a short backward branch reaches exactly 128 bytes', () => {
  for (const [gap, length] of [
    [126, 2],
    [127, 5],
  ] as const) {
    const code = new Assembler(address(0x1000n));
    const start = code.boundLabel();
    code.nop(gap).jmp(start);
    assert.equal(code.length - gap, length);
    assert.ok(
      objdump(code.finish(), 0x1000n)
        .get(BigInt(0x1000 + gap))
        ?.endsWith('0x1000'),
    );
  }
});

void test('what cannot be written is refused', () => {
  const code = new Assembler(address(0x1000n));
  const loose = code.label('loose');
  assert.throws(() => code.mov('rax', 1n << 64n), RangeError);
  assert.throws(() => code.add('rax', 0x80000000), RangeError);
  assert.throws(() => code.add('al', 256), RangeError);
  assert.throws(() => code.mov(mem({ base: 'rax' }), 1), /width/);
  assert.throws(() => code.mov('rax', 'ebx'), /differ/); // wrong on purpose
  assert.throws(() => code.mov(mem({ base: 'rax' }), mem({ base: 'rcx' })), RangeError);
  assert.throws(() => mem({ base: 'rax', index: 'rsp' }), RangeError);
  assert.throws(() => mem({ base: 'rax', displacement: 2 ** 31 }), RangeError);
  assert.throws(() => mem({ base: 'rax', target: address(0) }), RangeError);
  assert.throws(() => code.shl('eax', 32), RangeError);
  assert.throws(() => code.movsx('eax', 'ecx'), RangeError);
  assert.throws(() => code.set('e', mem({ base: 'rax', width: 8 })), RangeError);
  code.jmp(loose);
  assert.throws(() => code.finish(), /loose is not bound/);
  code.bind(loose);
  assert.throws(() => code.bind(loose), /twice/);
  const far = new Assembler(address(0)).jmp(address(0x80000005n));
  assert.throws(() => far.finish(), /out of reach/);
  assert.equal(new Assembler(address(0)).jmp(address(0x80000004n)).finish().byteLength, 5);
});

void test('nops of every length are whole instructions, alignment is by address', () => {
  assert.equal(new Assembler(address(0)).nop(0).length, 0);
  for (let length = 1; length <= 40; length++) {
    const bytes = new Assembler(address(0)).nop(length).finish();
    assert.equal(bytes.byteLength, length);
    for (const line of objdump(bytes).values()) assert.match(line, /nop|xchg +ax,ax/);
  }
  const code = new Assembler(address(0x1003n)).align(8).u64(1n).nop(3).align(16, 'nop');
  assert.equal(code.here(), 0x1020n);
  assert.deepEqual([...code.finish().subarray(0, 6)], [0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 1]);
});

void test('register names are cut and widened', () => {
  assert.equal(resized('rdi', 1), 'dil');
  assert.equal(resized('r9b', 8), 'r9');
  assert.deepEqual(partOf('r13d'), { number: 13, width: 4 });
});
