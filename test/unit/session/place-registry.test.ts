import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { address, fileOffset, pid } from '../../../src/base/brand.ts';
import { asMapping, type MemoryMapping } from '../../../src/process/maps.ts';
import type { MappedFile } from '../../../src/session/files/files.ts';
import { PlaceRegistry } from '../../../src/session/probes/place-registry.ts';
import type { NamedPlaces } from '../../../src/session/probes/resolve.ts';

const A = pid(10);
const B = pid(11);

/** Only the identity of a file is asked for. */
function fileOf(inode: bigint): MappedFile {
  return { device: 'fe:01', inode, path: `/file${inode}` } as MappedFile;
}

function named(file: MappedFile, offsets: readonly number[], isOfProcess = false): NamedPlaces {
  const places = offsets.map((offset) => {
    return { file, offset: fileOffset(offset), name: `f${offset}`, eventName: undefined };
  });
  return { places, unresolved: [], excluded: 0, isOfProcess };
}

function mapped(at: number, bytes: number, file: MappedFile, offset: number): MemoryMapping {
  const { device, inode, path } = file;
  const part = { device, inode, path, offset: BigInt(offset), executable: true };
  return { ...asMapping(address(BigInt(at)), bytes), ...part };
}

function addressesOf(
  registry: PlaceRegistry<object>,
  owner: object,
  process: typeof A,
  maps: readonly MemoryMapping[],
): number[] {
  return (registry.placesIn(process, maps).get(owner) ?? []).map((place) => Number(place.address));
}

test('each mapping of a file shows the probes in its range, and no other', () => {
  const registry = new PlaceRegistry<object>();
  const [one, other] = [fileOf(1n), fileOf(2n)];
  const owner = {};
  registry.register(owner, one, named(one, [0x1800, 0x1000, 0x2fff]), A);
  registry.register(owner, other, named(other, [0x1000]), A);
  const maps = [
    mapped(0x10_0000, 0x1000, one, 0x1000),
    { ...mapped(0x20_0000, 0x1000, one, 0x1000), executable: false },
    mapped(0x30_0000, 0x2000, one, 0x1000),
    mapped(0x40_0000, 0x1000, fileOf(3n), 0x1000),
  ];
  assert.deepEqual(
    addressesOf(registry, owner, B, maps),
    [0x10_0000, 0x10_0800, 0x30_0000, 0x30_0800, 0x30_1fff],
  );
});

test('a probe is there from the first that wants it to the last', () => {
  const registry = new PlaceRegistry<object>();
  const file = fileOf(1n);
  const [first, second] = [{}, {}];
  registry.register(first, file, named(file, [0x10, 0x20]), A);
  registry.register(second, file, named(file, [0x20, 0x30]), A);
  assert.equal(registry.size, 3);
  registry.unregister(first);
  assert.equal(registry.size, 2);
  assert.deepEqual(addressesOf(registry, first, A, [mapped(0, 0x1000, file, 0)]), []);
  registry.unregister(first);
  registry.unregister(second);
  assert.equal(registry.size, 0);
});

test('what a definition means in one process it does not mean in another, until it does', () => {
  const registry = new PlaceRegistry<object>();
  const file = fileOf(1n);
  const owner = {};
  const maps = [mapped(0, 0x1000, file, 0)];
  registry.register(owner, file, named(file, [0x10], true), A);
  assert.equal(registry.knows(owner, file), false);
  assert.deepEqual(addressesOf(registry, owner, B, maps), []);
  registry.register(owner, file, named(file, [0x10, 0x20], true), B);
  assert.deepEqual(addressesOf(registry, owner, A, maps), [0x10]);
  assert.deepEqual(addressesOf(registry, owner, B, maps), [0x10, 0x20]);
  registry.forget(B);
  assert.equal(registry.size, 1);
  assert.deepEqual(addressesOf(registry, owner, A, maps), [0x10]);
  registry.forget(A);
  assert.equal(registry.size, 0);
});

test('a named address is that one alone', () => {
  const registry = new PlaceRegistry<object>();
  const file = fileOf(1n);
  const owner = {};
  registry.register(owner, file, named(file, [0x10], true), A, address(0x5010n));
  const maps = [mapped(0x1000, 0x1000, file, 0), mapped(0x5000, 0x1000, file, 0)];
  assert.deepEqual(addressesOf(registry, owner, A, maps), [0x5010]);
});

test('what was meant in a file that was written over is gone', () => {
  const registry = new PlaceRegistry<object>();
  const [before, after] = [fileOf(1n), fileOf(1n)];
  const owner = {};
  registry.register(owner, before, named(before, [0x10, 0x20]), A);
  assert.equal(registry.knows(owner, before), true);
  assert.equal(registry.knows(owner, after), false);
  registry.register(owner, after, named(after, [0x30]), A);
  assert.deepEqual(addressesOf(registry, owner, A, [mapped(0, 0x1000, after, 0)]), [0x30]);
  assert.equal(registry.size, 1);
});

test('whoever comes and goes, each finds what it registered, and nothing else', () => {
  const places = fc.uniqueArray(fc.nat({ max: 40 }), { maxLength: 8 });
  const steps = fc.array(
    fc.record({ owner: fc.nat({ max: 3 }), file: fc.nat({ max: 2 }), places }),
  );
  const files = [fileOf(1n), fileOf(2n), fileOf(3n)];
  fc.assert(
    fc.property(steps, (all) => {
      const registry = new PlaceRegistry<object>();
      const owners = [{}, {}, {}, {}];
      const expected = owners.map(() => files.map(() => new Set<number>()));
      for (const step of all) {
        const owner = owners[step.owner] ?? assert.fail();
        const file = files[step.file] ?? assert.fail();
        const mine = expected[step.owner] ?? assert.fail();
        if (step.places.length === 0) {
          registry.unregister(owner);
          for (const set of mine) set.clear();
        }
        registry.register(owner, file, named(file, step.places), A);
        for (const place of step.places) mine[step.file]?.add(place);
      }
      const maps = files.map((file, at) => mapped(at * 0x1000, 0x1000, file, 0));
      const found = registry.placesIn(A, maps);
      for (const [at, owner] of owners.entries()) {
        const wanted = (expected[at] ?? []).flatMap((set, file) =>
          [...set].sort((one, other) => one - other).map((offset) => file * 0x1000 + offset),
        );
        assert.deepEqual(
          (found.get(owner) ?? []).map((place) => Number(place.address)),
          wanted,
        );
      }
      const probes = new Set(
        expected.flatMap((sets) =>
          sets.flatMap((set, file) => [...set].map((offset) => `${file} ${offset}`)),
        ),
      );
      assert.equal(registry.size, probes.size);
    }),
  );
});
