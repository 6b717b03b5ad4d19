import assert from 'node:assert/strict';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { isLong, skipUnless } from '../../harness/features.ts';
import { address } from '../../../src/base/brand.ts';
import { decodeAt } from '../../../src/x64/decode.ts';
import { agrees, compareDecoding, type Disagreement } from './disassembly.ts';

/** Bytes of code of each file in the short form. */
const SAMPLE_BYTES = 250_000;
const LIBRARIES = '/lib/x86_64-linux-gnu';

const isRex = (byte: number | undefined): boolean => ((byte ?? 0) & 0xf0) === 0x40;
/** VIA's PadLock, in OpenSSL and whatever has it linked in: F3 0F A6 E0. */
const XSHA512: readonly number[] = [0xf3, 0x0f, 0xa6, 0xe0];

/** Where objdump sees something else, and why. What none of these explains is a defect. */
const EXPLAINED: readonly {
  readonly why: string;
  readonly holds: (one: Disagreement) => boolean;
}[] = [
  {
    // Intel SDM volume 2, 2.2.1: only a REX prefix right before the opcode counts. Seen in texts between code.
    why: 'objdump shows a REX prefix that does not count as an instruction of its own',
    holds: ({ bytes, theirs, length }) =>
      length === 1 && isRex(bytes[0]) && theirs?.startsWith('rex') === true,
  },
  {
    why: 'objdump 2.40 does not know rep xsha512',
    holds: ({ bytes }) => XSHA512.every((byte, at) => bytes[at] === byte),
  },
];

/** Compares one file and tells what came of it. */
async function check(context: TestContext, path: string, least: number): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-objdump-'));
  try {
    const budget = isLong() ? Infinity : SAMPLE_BYTES;
    const result = await compareDecoding(path, budget, folder);
    const { functions, instructions, unclean, disagreements } = result;
    context.diagnostic(
      `${path}: ${instructions} instructions of ${functions} functions, ${disagreements.length} differ, ${unclean} not known`,
    );
    assert.ok(instructions >= least, `${instructions} instructions`);
    const unexplained = disagreements.filter((one) => !EXPLAINED.some(({ holds }) => holds(one)));
    assert.deepEqual(
      unexplained.map(({ bytes, theirs }) => `${Buffer.from(bytes).toString('hex')}: ${theirs}`),
      [],
    );
    // A differing instruction in a million shows data between code, and no more of it is expected.
    assert.ok(disagreements.length <= 2 + instructions / 1e6, `${disagreements.length} differ`);
    // What the decoder does not know makes its whole function one that is refused.
    assert.ok(unclean <= functions / 10_000 + 1, `${unclean} functions are not clean`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const name of ['libc.so.6', 'libstdc++.so.6', 'libcrypto.so.3']) {
  void test(`lengths and targets in ${name} are those of objdump`, async (t) => {
    if (skipUnless(t, 'objdump', name === 'libcrypto.so.3' ? 'openssl' : 'g++')) return;
    await check(t, join(LIBRARIES, name), isLong() ? 200_000 : 25_000);
  });
}

void test('lengths and targets in node are those of objdump', async (t) => {
  if (skipUnless(t, 'objdump')) return;
  await check(t, process.execPath, isLong() ? 1_000_000 : 25_000);
});

void test('lengths and targets in python3 are those of objdump', async (t) => {
  if (skipUnless(t, 'objdump', 'python3')) return;
  await check(t, realpathSync('/usr/bin/python3'), isLong() ? 200_000 : 25_000);
});

void test('another target than that of objdump would be seen', () => {
  const jump = decodeAt(Uint8Array.of(0xeb, 0x10), 0, address(0x1000n));
  assert.equal(agrees(jump, 'jmp    0x1012'), true);
  assert.equal(agrees(jump, 'jmp    0x11012'), false);
  assert.equal(agrees(jump, 'jmp    rax'), false);
  const load = decodeAt(Uint8Array.of(0x8b, 0x05, 0, 1, 0, 0), 0, address(0x1000n));
  assert.equal(agrees(load, 'mov    eax,DWORD PTR [rip+0x100]        # 0x1106'), true);
  assert.equal(agrees(load, 'mov    eax,DWORD PTR [rip+0x101]        # 0x1107'), false);
  assert.equal(agrees(load, 'mov    eax,DWORD PTR [rax+0x100]'), false);
  const nop = decodeAt(Uint8Array.of(0x90), 0, address(0x1000n));
  assert.equal(agrees(nop, 'nop'), true);
  assert.equal(agrees(nop, 'call   0x1012'), false);
  assert.equal(agrees(nop, 'bnd jmp 0x1012'), false);
  assert.equal(agrees(nop, 'xor    eax,eax        # 0x1'), false);
});
