import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { address } from '../../../src/base/brand.ts';
import { decodeAll, decodeAt, format, type Flow } from '../../../src/x64/decode.ts';
import { iced } from '../../../src/x64/iced.ts';
import { gnuAssemble, objdump } from './oracles.ts';

const AT = address(0x400000n);

void test('every kind of flow is told, with its target', () => {
  const cases: [string, Flow, bigint | undefined][] = [
    ['mov eax, [rbx]', 'next', undefined],
    ['nop', 'next', undefined],
    ['jmp .+0x1000', 'jump', AT + 0x1000n],
    ['.byte 0xeb, 0xfe', 'jump', AT],
    ['je .+0x10', 'conditional', AT + 0x10n],
    ['loop .+0x10', 'conditional', AT + 0x10n],
    ['jrcxz .+0x10', 'conditional', AT + 0x10n],
    ['call .+0x1000', 'call', AT + 0x1000n],
    ['jmp rax', 'indirect-jump', undefined],
    ['notrack jmp [rax+rbx*8]', 'indirect-jump', undefined],
    ['call [rip+0x10]', 'indirect-call', undefined],
    ['ret', 'return', undefined],
    ['repz ret', 'return', undefined],
    ['iretq', 'return', undefined],
    ['syscall', 'system', undefined],
    ['int3', 'interrupt', undefined],
    ['int 0x80', 'interrupt', undefined],
    ['ud2', 'exception', undefined],
    ['xbegin .+0x20', 'transaction', AT + 0x20n],
    ['xabort 1', 'next', undefined],
    ['xend', 'next', undefined],
    ['.byte 0x06', 'invalid', undefined],
    ['.byte 0x48, 0x8b', 'invalid', undefined],
  ];
  for (const [source, flow, target] of cases) {
    const decoded = decodeAt(gnuAssemble(source), 0, AT);
    assert.equal(decoded.flow, flow, source);
    assert.equal(decoded.target, target, source);
  }
});

void test('lengths and operands relative to rip are those of objdump', () => {
  const bytes = gnuAssemble(
    'mov rax, [rip+0x20]\nlea rcx, [rip-0x100]\nvaddps ymm0, ymm1, [rip]\nret',
  );
  const all = decodeAll(bytes, AT);
  const lines = objdump(bytes, AT);
  assert.deepEqual(
    all.map((instruction) => instruction.address),
    [...lines.keys()],
  );
  const comments = [...lines.values()].map((line) => /# 0x(\w+)/.exec(line)?.[1]);
  assert.deepEqual(
    all.map(({ ripTarget }) => ripTarget?.toString(16)),
    comments,
  );
});

void test('decoding stops at the first invalid instruction, and past the end', () => {
  const all = decodeAll(Uint8Array.of(0x90, 0x06, 0x90), AT);
  assert.deepEqual(
    all.map(({ flow }) => flow),
    ['next', 'invalid'],
  );
  assert.equal(decodeAt(Uint8Array.of(0x90), 1, AT).flow, 'invalid');
  assert.deepEqual(decodeAll(new Uint8Array(0), AT), []);
});

void test('random bytes decode forward, whole or not at all', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      let at: bigint = AT;
      for (const instruction of decodeAll(bytes, AT)) {
        assert.equal(instruction.address, at);
        assert.ok(instruction.length >= 1 && instruction.length <= 15);
        at += BigInt(instruction.length);
      }
      assert.ok(at <= AT + BigInt(bytes.byteLength));
    }),
  );
});

void test('instructions are shown in Intel syntax', () => {
  const bytes = gnuAssemble('mov rax, qword ptr fs:[rcx+rdx*8+0x10]\njmp .+0x1000');
  assert.equal(format(bytes, 0, AT), 'mov rax, fs:[rcx+rdx*8+0x10]');
  assert.equal(format(bytes, 6, address(AT + 6n)), 'jmp 0x401006');
  assert.equal(format(Uint8Array.of(0x06), 0, AT), '(bad)');
});

void test('decoding does not leak the memory of the decoder', () => {
  const bytes = gnuAssemble('mov rax, [rip+0x20]\nret');
  // The package exports its WebAssembly instance, but not in its declarations.
  const { __wasm } = iced() as unknown as { __wasm: { memory: { buffer: ArrayBuffer } } };
  for (let round = 0; round < 100; round++) decodeAll(bytes, AT);
  const before = __wasm.memory.buffer.byteLength;
  for (let round = 0; round < 20_000; round++) decodeAll(bytes, AT);
  for (let round = 0; round < 2000; round++) format(bytes, 0, AT);
  assert.equal(__wasm.memory.buffer.byteLength, before);
});
