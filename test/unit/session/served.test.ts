/** What a target has of each probe, while its mappings change. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { parseMaps, type MemoryMapping } from '../../../src/process/maps.ts';
import { ServedProbes } from '../../../src/session/probes/served.ts';

const PROBE = 1;
const PLACE = address(0x1140n);

function maps(...lines: readonly string[]): MemoryMapping[] {
  return parseMaps(lines.map((line) => `${line}\n`).join(''));
}

const THERE = maps('1000-2000 r-xp 00001000 fe:01 42 /lib');

function served(): ServedProbes {
  const probes = new ServedProbes();
  probes.note(PROBE, THERE);
  assert.ok(probes.take(PROBE, PLACE, THERE));
  assert.ok(!probes.take(PROBE, PLACE, THERE));
  return probes;
}

/** Whether the place is new when its library is there again behind other mappings. */
function isNewAfter(...between: readonly (readonly MemoryMapping[])[]): boolean {
  const probes = served();
  for (const some of [...between, THERE]) probes.sync(some);
  return probes.take(PROBE, PLACE, THERE);
}

test('a place is served once, as long as its file stays there', () => {
  assert.ok(!isNewAfter());
  assert.ok(!isNewAfter(THERE));
});

test('unloaded and loaded again at the same address it is new', () => {
  assert.ok(isNewAfter(maps('5000-6000 r-xp 00000000 fe:01 7 /other')));
});

test('another file, or other bytes of it, in between make it new', () => {
  assert.ok(isNewAfter(maps('1000-2000 r-xp 00001000 fe:01 7 /other')));
  assert.ok(isNewAfter(maps('1000-2000 r-xp 00000000 fe:01 42 /lib')));
});

test('parts with another protection do not, though each is a mapping to be looked at', () => {
  const split = maps(
    '1000-1800 rw-p 00001000 fe:01 42 /lib',
    '1800-2000 r-xp 00001800 fe:01 42 /lib',
  );
  assert.ok(!isNewAfter(split));
  assert.ok(!isNewAfter(maps('1000-2000 ---p 00001000 fe:01 42 /lib')));
  const probes = served();
  probes.sync(split);
  assert.ok(split.every((mapping) => !probes.has(PROBE, mapping)));
});
