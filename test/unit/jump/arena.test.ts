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

test('a new space has exactly the bytes of arenas that no row uses', () => {
  const base = 0x7000_0000n;
  const blocks = fc.array(
    fc.tuple(fc.integer({ min: 0, max: 380 }), fc.integer({ min: 1, max: 40 })),
    {
      maxLength: 12,
    },
  );
  fc.assert(
    fc.property(blocks, (wanted) => {
      const arenas = [2, 0, 1].map((nth, index) => {
        return { index, address: address(base + BigInt(nth * 0x80)), bytes: 0x80, isExact: true };
      });
      const used = new Set<number>();
      const programs = wanted.flatMap(([at, codeBytes]) => {
        const bytes = Array.from({ length: codeBytes }, (_, index) => at + index);
        // No row describes what goes over the end of its arena.
        const isInOne = at >> 7 === (at + codeBytes - 1) >> 7;
        if (!isInOne || bytes.some((one) => used.has(one))) return [];
        for (const one of bytes) used.add(one);
        const code = address(base + BigInt(at));
        return [
          { code, codeBytes, next: code, index: 0, session: 0, site: 0, consumer: 0, probe: 0 },
        ];
      });
      const space = new ArenaSpace({ ...NOTHING, arenas, programs });
      for (let at = 0; at < 3 * 0x80; at++) {
        const where = base + BigInt(at);
        const range = { first: where, last: where };
        const code = space.placeWithin(1, range, (origin) => makeCode(origin, 1));
        assert.equal(code === undefined, used.has(at), `byte ${at}`);
      }
    }),
  );
});
