import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { address, type Address } from '../../../src/base/brand.ts';
import {
  PatchMap,
  patchOf,
  restOf,
  restsOn,
  type PatchedSite,
} from '../../../src/engines/jump/patches.ts';

const TEXT = 0x5555_0000_0000n;
const LENGTH = 96;

/** A site of any method, somewhere in the text. */
const sites = fc.record({
  at: fc.integer({ min: 0, max: LENGTH - 16 }),
  method: fc.constantFrom<PatchedSite['method']>('nop', 'jump', 'short-jump', 'pun'),
  own: fc.integer({ min: 1, max: 4 }),
  goal: fc.integer({ min: -0x4000_0000, max: 0x4000_0000 }),
});

type Drawn = typeof sites extends fc.Arbitrary<infer Value> ? Value : never;

function siteOf({ at, method, own, goal }: Drawn): PatchedSite {
  const where = address(TEXT + BigInt(at));
  const stub = address(where + BigInt(goal));
  if (method === 'short-jump') {
    const via = address(where + 2n + BigInt(goal % 120));
    return { address: where, method, patchBytes: 2, prefixBytes: 0, stub, via };
  }
  const isPun = method === 'pun';
  const prefixBytes = isPun ? Math.abs(goal) % own : 0;
  const patchBytes = isPun ? own : 5;
  return { address: where, method, patchBytes, prefixBytes, stub, via: undefined };
}

/** The straightforward model: for each byte, the lowest site that writes it. */
function model(original: Uint8Array, live: readonly PatchedSite[]): Uint8Array {
  return original.map((byte, at) => {
    const where = TEXT + BigInt(at);
    const [lowest] = live
      .filter((site) => where >= site.address && where < site.address + BigInt(site.patchBytes))
      .sort((one, other) => (one.address < other.address ? -1 : 1));
    return lowest === undefined ? byte : (patchOf(lowest)[Number(where - lowest.address)] ?? byte);
  });
}

test('overlay: the lowest site wins each byte; after all are gone it is the original, in whatever order', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(sites, { selector: ({ at }) => at, maxLength: 24 }),
      fc.uint8Array({ minLength: LENGTH, maxLength: LENGTH }),
      fc.array(fc.nat(), { minLength: 24, maxLength: 24 }),
      (drawn, original, order) => {
        const map = new PatchMap<PatchedSite>();
        const live: PatchedSite[] = [];
        const check = (): void => {
          const expected = model(original, live);
          assert.deepEqual(map.overlay(address(TEXT), original), expected);
          // A part of it is the same.
          const part = map.overlay(address(TEXT + 7n), original.subarray(7, 40));
          assert.deepEqual(part, expected.subarray(7, 40));
        };
        for (const site of drawn.map(siteOf)) {
          map.add(site);
          live.push(site);
          check();
        }
        for (const pick of order) {
          const [gone] = live.splice(live.length === 0 ? 0 : pick % live.length, 1);
          if (gone === undefined) break;
          map.delete(gone);
          check();
        }
        assert.deepEqual(map.overlay(address(TEXT), original), original);
      },
    ),
    { numRuns: 300 },
  );
});

function bytesBetween(from: Address, to: Address): bigint[] {
  return Array.from({ length: Number(to - from) }, (_, at) => from + BigInt(at));
}

test('restsOn: exactly the higher sites that write a byte of the end of a jump', () => {
  fc.assert(
    fc.property(sites, sites, (first, second) => {
      const [one, other] = [siteOf(first), siteOf(second)];
      const rest = restOf(one);
      const written = bytesBetween(
        other.address,
        address(other.address + BigInt(other.patchBytes)),
      );
      const shared = rest && bytesBetween(rest.start, rest.end).some((at) => written.includes(at));
      assert.equal(restsOn(one, other), other.address > one.address && shared === true);
      const end = one.address + BigInt(one.prefixBytes + 5);
      if (one.method === 'pun') assert.equal(rest?.end, end);
      else assert.equal(rest, undefined);
    }),
  );
});

test('two sites at one address, one retired: the one that is meant goes', () => {
  const [one, other] = [1000, 2000].map((goal) => siteOf({ at: 3, method: 'jump', own: 1, goal }));
  assert.ok(one !== undefined && other !== undefined);
  const map = new PatchMap([one, other]);
  map.delete(other);
  assert.equal(map.at(one.address), one);
});
