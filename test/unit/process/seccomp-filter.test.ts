/** The evaluator of seccomp filters, on filters as libseccomp and hand-written programs have them. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { assert as check, nat, property, uint8Array } from 'fast-check';

import { TraplineError } from '../../../src/base/errors.ts';
import { evaluate, passes } from '../../../src/process/seccomp-filter.ts';

const ALLOW = 0x7fff_0000;
const KILL = 0x8000_0000;
const ERRNO = 0x0005_0001;

type Instruction = readonly [code: number, jumpTrue: number, jumpFalse: number, k: number];

function assemble(program: readonly Instruction[]): Uint8Array {
  const bytes = Buffer.alloc(program.length * 8);
  program.forEach(([code, jumpTrue, jumpFalse, k], index) => {
    bytes.writeUInt16LE(code, index * 8);
    bytes.writeUInt8(jumpTrue, index * 8 + 2);
    bytes.writeUInt8(jumpFalse, index * 8 + 3);
    bytes.writeUInt32LE(k, index * 8 + 4);
  });
  return bytes;
}

/** Refuses one call by its number, and everything of another architecture. */
const refuseOne = (number: number, action: number): Uint8Array =>
  assemble([
    [0x20, 0, 0, 4],
    [0x15, 1, 0, 0xc000_003e],
    [0x06, 0, 0, KILL],
    [0x20, 0, 0, 0],
    [0x15, 0, 1, number],
    [0x06, 0, 0, action],
    [0x06, 0, 0, ALLOW],
  ]);

test('a filter refuses the call that it names, and no other', () => {
  const filter = refuseOne(310, KILL);
  assert.equal(evaluate(filter, { number: 310, arguments: [] }), KILL);
  assert.equal(passes(filter, { number: 310, arguments: [] }), false);
  assert.equal(passes(filter, { number: 39, arguments: [] }), true);
  assert.equal(passes(refuseOne(39, ERRNO), { number: 39, arguments: [] }), false);
  assert.equal(passes(refuseOne(39, 0x7ffc_0000), { number: 39, arguments: [] }), true);
});

test('arguments are compared by their halves', () => {
  // Allows prctl only with PR_GET_NAME (16).
  const filter = assemble([
    [0x20, 0, 0, 16],
    [0x15, 0, 3, 16],
    [0x20, 0, 0, 20],
    [0x15, 0, 1, 0],
    [0x06, 0, 0, ALLOW],
    [0x06, 0, 0, KILL],
  ]);
  assert.equal(passes(filter, { number: 157, arguments: [16n] }), true);
  assert.equal(passes(filter, { number: 157, arguments: [15n] }), false);
  assert.equal(passes(filter, { number: 157, arguments: [(1n << 32n) | 16n] }), false);
});

test('arithmetic, memory, the index register and jumps over ranges', () => {
  // M[3] = number; x = M[3]; a = (x << 4 | 5) - x; a in [100, 200) ? ALLOW : KILL
  const filter = assemble([
    [0x20, 0, 0, 0],
    [0x02, 0, 0, 3],
    [0x61, 0, 0, 3],
    [0x64, 0, 0, 4],
    [0x44, 0, 0, 5],
    [0x1c, 0, 0, 0],
    [0x35, 0, 2, 100],
    [0x35, 1, 0, 200],
    [0x06, 0, 0, ALLOW],
    [0x06, 0, 0, KILL],
  ]);
  for (let number = 0; number < 40; number++) {
    const value = ((number << 4) | 5) - number;
    const expected = value >= 100 && value < 200;
    assert.equal(passes(filter, { number, arguments: [] }), expected, `call ${number}`);
  }
});

test('any bytes end, with an answer or a clear error', () => {
  check(
    property(uint8Array({ maxLength: 800 }), nat(500), (bytes, number) => {
      try {
        const answer = evaluate(bytes, { number, arguments: [1n, 2n, 3n, 4n, 5n, 6n] });
        assert.ok(Number.isInteger(answer) && answer >= 0 && answer <= 0xffff_ffff);
      } catch (error) {
        assert.ok(error instanceof TraplineError && error.code === 'bad-input', String(error));
      }
    }),
    { numRuns: 3000 },
  );
});
