import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address, fileOffset } from '../../../src/base/brand.ts';
import { renderExplanation } from '../../../src/cli/explain.ts';
import type { Explanation } from '../../../src/index.ts';

const base = {
  name: 'work',
  file: '/bin/work',
  offset: fileOffset(0x1130),
  address: 0x401130n,
  function: { start: fileOffset(0x1120), end: fileOffset(0x1140), source: 'fde' },
  code: [
    { offset: 0x1130, address: 0x401130n, bytes: '31c0', text: 'xor eax, eax', isDisplaced: true },
    { offset: 0x1132, address: 0x401132n, bytes: 'c3', text: 'ret', isDisplaced: false },
  ],
  landings: [
    { at: 0x1130, reason: 'the branch at file offset 0x1000 goes there' },
    { at: 0x1130, reason: 'a jump table leads there' },
    { at: 0x1130, reason: 'an exception lands there' },
  ],
  rejected: [{ method: 'jump', reason: 'other code\u0007 begins' }],
} as const satisfies Explanation;

test('a place that can be probed', () => {
  const one: Explanation = {
    ...base,
    pid: 12,
    processAddress: address(0x7000n),
    method: 'pun',
    isThere: false,
    patch: 'e9a0',
    displacedBytes: 2,
    mapped: [65536, 4096],
    costNanoseconds: { count: 1.26, record: 8 },
    stub: [{ name: 'stub', lines: [{ address: 0x6000n, text: 'ret' }] }],
  };
  assert.deepEqual(renderExplanation(one), [
    'work',
    '  file      /bin/work:0x1130',
    '  address   0x401130, in process 12 at 0x7000',
    '  function  file offsets 0x1120 to 0x1140, by the unwind tables',
    '  method    pun',
    '  writes    e9 a0; 2 bytes of instructions move to the stub',
    '  maps      64 KiB + 4 KiB near the code',
    '            not jump: other code\\x07 begins',
    '  cost      8.0 ns a hit that records, 1.3 ns one that counts',
    '     address   bytes  instruction   who comes here, but from above',
    '  >  0x401130  31c0   xor eax, eax  the branch at file offset 0x1000 goes there, and 2 more',
    '     0x401132  c3     ret',
    '  stub:',
    '    0x6000  ret',
    '',
  ]);
});

test('a place that can not', () => {
  const one: Explanation = {
    name: base.name,
    file: base.file,
    offset: base.offset,
    refused: 'it is not the start of an instruction',
    nearest: [fileOffset(0x112e), fileOffset(0x1132)],
    code: [],
    landings: [],
    rejected: [],
  };
  assert.deepEqual(renderExplanation(one), [
    'work',
    '  file     /bin/work:0x1130',
    '  refused  it is not the start of an instruction',
    '  instead  the nearest instructions that can be probed: /bin/work:0x112e and /bin/work:0x1132',
    '',
  ]);
});
