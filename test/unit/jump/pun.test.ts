import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { address } from '../../../src/base/brand.ts';
import { jumpBytes, PREFIX } from '../../../src/engines/jump/patches.ts';
import { punGoals } from '../../../src/engines/jump/pun.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { mem } from '../../../src/x64/operands.ts';
import { callCode, mapRegion } from '../x64/executable.ts';

/** Where the jump in `bytes`, at `at`, leads by the manual's words: behind it, and the displacement more. */
function goalByManual(at: bigint, bytes: Uint8Array): bigint {
  let prefixes = 0;
  while (bytes[prefixes] === PREFIX) prefixes++;
  assert.equal(bytes[prefixes], 0xe9);
  const view = new DataView(bytes.buffer, bytes.byteOffset + prefixes + 1, 4);
  return at + BigInt(prefixes + 5 + view.getInt32(0, true));
}

const rests = fc.uint8Array({ minLength: 8, maxLength: 8 });
const places = fc.bigInt({ min: 1n << 33n, max: 1n << 46n });

test('a pun can lead to the goals that it says, and its last bytes are the rest', () => {
  fc.assert(
    fc.property(places, fc.integer({ min: 1, max: 4 }), rests, fc.nat(), (at, own, rest, pick) => {
      const goals = punGoals(address(at), own, rest);
      assert.equal(goals.length, own);
      for (const { prefixBytes, first, last } of goals) {
        const free = own - 1 - prefixBytes;
        assert.equal(last - first, (1n << BigInt(8 * free)) - 1n);
        for (const goal of [first, last, first + (BigInt(pick) & (last - first))]) {
          const bytes = jumpBytes(address(at), address(goal), prefixBytes);
          assert.equal(goalByManual(at, bytes), goal);
          assert.deepEqual(bytes.subarray(own), rest.subarray(0, bytes.byteLength - own));
        }
        // One further, and the rest would have to be another.
        for (const goal of [first - 1n, last + 1n]) {
          const distance = goal - at - BigInt(prefixBytes + 5);
          if (BigInt.asIntN(32, distance) !== distance) continue;
          const bytes = jumpBytes(address(at), address(goal), prefixBytes);
          assert.notDeepEqual(bytes.subarray(own), rest.subarray(0, bytes.byteLength - own));
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test('goals where nothing can be mapped are left out; fewer bytes behind, fewer goals', () => {
  const negative = Uint8Array.of(0, 0, 0, 0x80);
  assert.deepEqual(punGoals(address(0x40_0000n), 1, negative), []);
  const high = Uint8Array.of(0, 0, 0, 0x7f);
  assert.deepEqual(punGoals(address((1n << 47n) - 0x1000n), 1, high), []);
  assert.deepEqual(punGoals(address(1n << 40n), 2, Uint8Array.of(1, 2)), []);
  assert.equal(punGoals(address(1n << 40n), 2, Uint8Array.of(1, 2, 3)).length, 1);
});

test('the processor goes where a prefixed jump leads, from every part of a page', () => {
  const region = mapRegion(0x61_0000_0000n, 0x4000);
  const goal = region.address + 0x3000n;
  region.bytes.set(
    new Assembler(address(goal))
      .lea('rax', mem({ base: 'rdi' }))
      .ret()
      .finish(),
    0x3000,
  );
  for (let prefixes = 0; prefixes <= 3; prefixes++) {
    for (const from of [0n, 0x800n, 0xffcn, 0xffdn, 0xffen, 0xfffn]) {
      const at = region.address + from;
      const bytes = jumpBytes(address(at), address(goal), prefixes);
      assert.equal(goalByManual(at, bytes), goal);
      region.bytes.set(bytes, Number(from));
      assert.equal(callCode(at, 0x1234n, 0n), 0x1234n);
      region.bytes.fill(0xcc, Number(from), Number(from) + bytes.byteLength);
    }
  }
});
