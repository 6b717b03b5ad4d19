/** Which instructions may fault: a table of what compilers write. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { mayFault } from '../../../src/x64/faults.ts';

const AT = address(0x40_1000n);

const MAY: readonly (readonly [text: string, bytes: readonly number[]])[] = [
  ['mov ebx, [rdi]', [0x8b, 0x1f]],
  ['mov [rax+8], rcx', [0x48, 0x89, 0x48, 0x08]],
  ['test [rax], al', [0x84, 0x00]],
  ['mov eax, [rsp+rcx*4]', [0x8b, 0x04, 0x8c]],
  ['mov eax, [rbp-4]', [0x8b, 0x45, 0xfc]],
  ['rep movsb', [0xf3, 0xa4]],
  ['stosq', [0x48, 0xab]],
  ['idiv ecx', [0xf7, 0xf9]],
  ['div dword [rdi]', [0xf7, 0x37]],
  ['call [rax]', [0xff, 0x10]],
  ['push rbx; mov ebx, [rdi]', [0x53, 0x8b, 0x1f]],
];

const NEVER: readonly (readonly [text: string, bytes: readonly number[]])[] = [
  ['push rbx', [0x53]],
  ['lea rax, [rdi+8]', [0x48, 0x8d, 0x47, 0x08]],
  ['nop [rax+rax]', [0x0f, 0x1f, 0x44, 0x00, 0x00]],
  ['mov eax, [rsp+8]', [0x8b, 0x44, 0x24, 0x08]],
  ['mov eax, [rip+16]', [0x8b, 0x05, 0x10, 0x00, 0x00, 0x00]],
  ['mov rcx, fs:[-8]', [0x64, 0x48, 0x8b, 0x0c, 0x25, 0xf8, 0xff, 0xff, 0xff]],
  ['add eax, ecx', [0x01, 0xc8]],
  ['call near', [0xe8, 0x00, 0x00, 0x00, 0x00]],
  ['ret', [0xc3]],
];

test('instructions that go by a pointer, or divide, may fault', () => {
  for (const [text, bytes] of MAY) assert.equal(mayFault(Uint8Array.from(bytes), AT), true, text);
  for (const [text, bytes] of NEVER) {
    assert.equal(mayFault(Uint8Array.from(bytes), AT), false, text);
  }
});

test('by r14 only where that is an anchor', () => {
  const compare = Uint8Array.of(0x49, 0x3b, 0x66, 0x10); // cmp rsp, [r14+0x10]
  assert.equal(mayFault(compare, AT), true);
  assert.equal(mayFault(compare, AT, 'r14'), false);
});
