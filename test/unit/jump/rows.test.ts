import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as fc from 'fast-check';

import { address } from '../../../src/base/brand.ts';
import { joinRows, runs, splitAtPages } from '../../../src/engines/jump/rows.ts';

/** Rows of `size` bytes, each full of its own index. */
const rowsAt = (
  indices: readonly number[],
  size: number,
): { offset: number; bytes: Uint8Array }[] =>
  indices.map((index) => ({ offset: index * size, bytes: new Uint8Array(size).fill(index + 1) }));

const indices = fc.uniqueArray(fc.integer({ min: 0, max: 120 }));

test('rows that touch become one write each, in whatever order they came', () => {
  fc.assert(
    fc.property(indices, fc.integer({ min: 1, max: 96 }), (some, size) => {
      const memory = new Uint8Array(121 * size);
      const wanted = new Uint8Array(121 * size);
      for (const { offset, bytes } of rowsAt(some, size)) wanted.set(bytes, offset);
      const joined = joinRows(rowsAt(some, size));
      for (const { offset, bytes } of joined) memory.set(bytes, offset);
      assert.deepEqual(memory, wanted);
      assert.equal(joined.length, runs(some).length);
    }),
  );
});

test('numbers that follow one another are one run', () => {
  assert.deepEqual(runs([]), []);
  assert.deepEqual(runs([10, 2, 0, 9, 1]), [
    { first: 0, count: 3 },
    { first: 9, count: 2 },
  ]);
});

test('no write crosses a page, and the later part comes first', () => {
  const bytes = new Uint8Array(9000).map((_, index) => index % 251);
  const parts = splitAtPages([{ address: address(0x1ff0n), bytes }]);
  assert.deepEqual(
    parts.map((part) => [part.address, part.bytes.byteLength]),
    [
      [0x4000n, 9000 - 16 - 8192],
      [0x3000n, 4096],
      [0x2000n, 4096],
      [0x1ff0n, 16],
    ],
  );
  const again = Buffer.concat(parts.toReversed().map((part) => part.bytes));
  assert.deepEqual(new Uint8Array(again), bytes);
});
