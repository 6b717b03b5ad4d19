import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { address } from '../../../src/base/brand.ts';
import { ArenaSpace } from '../../../src/engines/jump/arena.ts';

const ARENA = { index: 0, address: address(0x7000_0000n), bytes: 0x1000, isExact: true };
const NOTHING = { generation: 1n, sessions: [], sites: [], programs: [] };

function makeCode(origin: bigint, bytes: number): { origin: bigint; bytes: Uint8Array } {
  return { origin, bytes: new Uint8Array(bytes) };
}

test('placeWithin: code begins in its range, in an arena, and over nothing that was placed before', () => {
  const wishes = fc.array(
    fc.record({
      first: fc.integer({ min: -64, max: 0x1040 }),
      width: fc.integer({ min: 0, max: 300 }),
      bytes: fc.integer({ min: 1, max: 200 }),
      spare: fc.integer({ min: 0, max: 64 }),
    }),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(wishes, (all) => {
      const space = new ArenaSpace({ ...NOTHING, arenas: [ARENA] });
      const end = ARENA.address + BigInt(ARENA.bytes);
      const used: { from: bigint; to: bigint }[] = [];
      for (const { first: from, width, bytes, spare } of all) {
        const first = ARENA.address + BigInt(from);
        const last = first + BigInt(width);
        const room = bytes + spare;
        const code = space.placeWithin(room, { first, last }, (at) => makeCode(at, bytes));
        const isFree = (at: bigint): boolean =>
          at >= ARENA.address &&
          at + BigInt(room) <= end &&
          used.every((one) => at + BigInt(room) <= one.from || at >= one.to);
        if (code === undefined) {
          // Then there is no place at all.
          for (let at = first; at <= last; at++) assert.ok(!isFree(at), `0x${at.toString(16)}`);
          continue;
        }
        assert.ok(code.origin >= first && code.origin <= last);
        assert.ok(isFree(code.origin));
        used.push({ from: code.origin, to: code.origin + BigInt(bytes) });
      }
    }),
    { numRuns: 300 },
  );
});

test('placeWithin: what declines a place takes none', () => {
  const space = new ArenaSpace({ ...NOTHING, arenas: [ARENA] });
  const range = { first: ARENA.address, last: ARENA.address };
  assert.equal(
    space.placeWithin(16, range, () => undefined),
    undefined,
  );
  const code = space.placeWithin(16, range, (at) => makeCode(at, 16));
  assert.equal(code?.origin, ARENA.address);
  assert.equal(
    space.placeWithin(1, range, (at) => makeCode(at, 1)),
    undefined,
  );
});
