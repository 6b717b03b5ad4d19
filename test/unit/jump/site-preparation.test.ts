/** Changes as they are worked out: every jump leads where its row says, whatever could not be. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { address, type Address } from '../../../src/base/brand.ts';
import type { Repunned } from '../../../src/engines/jump/site-preparation.ts';
import { goalOf } from '../../../src/engines/jump/patches.ts';
import type { SiteRow } from '../../../src/process/control-rows.ts';
import { asMapping } from '../../../src/process/maps.ts';
import { isLong } from '../../harness/features.ts';
import { FIRST, TEXT, TEXT_BYTES, Text, type Wish } from './text-model.ts';

/** `nop` throughout: a pun's free bytes and its rest are easily told. */
function nops(): Uint8Array {
  return new Uint8Array(TEXT_BYTES).fill(0x90);
}

/** The same, but for some: behind how many prefixes a pun leads near depends on them. */
function codeWith(others: Readonly<Record<number, number>>): Uint8Array {
  const file = nops();
  for (const [at, byte] of Object.entries(others)) file[FIRST + Number(at)] = byte;
  return file;
}

const HIGH_PUN: Wish = { at: 3, method: 'pun', own: 1 };
const LOW_PUN: Wish = { at: 0, method: 'pun', own: 4 };
/** Both puns rest on it: the low one on its first byte, an `eb` as its jump's highest. */
const NEW: Wish = { at: 4, method: 'short-jump', own: 2 };
/** Only the high one rests on it. */
const BEHIND: Wish = { at: 6, method: 'short-jump', own: 2 };
function placesOf(rows: Iterable<SiteRow>): number[] {
  return [...rows].map((row) => Number(row.address - TEXT) - FIRST).sort((a, b) => a - b);
}

function puns(repunned: readonly Repunned[]): number[] {
  return placesOf(repunned.map(({ before }) => before));
}

/** A text with both puns. */
function punned(): Text {
  const text = new Text(nops());
  text.change([HIGH_PUN, LOW_PUN]);
  return text;
}

/** Where the high pun leads after a change, if all memory is free. */
function goalAfter(...change: readonly Wish[]): Address {
  const text = punned();
  text.change(change);
  return text.goalAt(HIGH_PUN.at);
}

test('puns that rest on what new sites write are led anew', () => {
  const { dropped, intended } = punned().change([NEW, BEHIND]);
  assert.deepEqual(placesOf(dropped), []);
  assert.deepEqual(puns(intended.repunned), [LOW_PUN.at, HIGH_PUN.at]);
});

test('a new site that keeps one pun from being led anew is dropped; the other leads where it did', () => {
  const text = punned();
  const before = [...text.block.sites.values()];
  text.takeAllBut([goalAfter(NEW)]);
  const { dropped, intended } = text.change([NEW]);
  assert.deepEqual(placesOf(dropped), [NEW.at]);
  assert.deepEqual(intended.repunned, []);
  assert.deepEqual([...text.block.sites.values()], before);
});

test('a pun that rests on two new sites, of which one is dropped, is led by the other', () => {
  const text = punned();
  const goal = goalAfter(BEHIND);
  text.takeAllBut([goalAfter(NEW, BEHIND), goal]);
  const { dropped, intended, newSites } = text.change([NEW, BEHIND]);
  assert.deepEqual(placesOf(dropped), [NEW.at]);
  assert.deepEqual(placesOf(newSites.map(({ row }) => row)), [BEHIND.at]);
  assert.deepEqual(puns(intended.repunned), [HIGH_PUN.at]);
  assert.equal(goalOf(intended.repunned[0]?.after ?? assert.fail()), goal);
});

test('a pun that is led anew behind fewer prefixes leads where it did, if another that rests on it must', () => {
  const text = new Text(codeWith({ 11: 0x58, 14: 0xfc }));
  text.change([{ at: 7, method: 'pun', own: 4 }]);
  // Where it would lead with the other's new bytes is the text itself.
  text.change([{ at: 6, method: 'pun', own: 1 }]);
  const before = [...text.block.sites.values()];
  assert.deepEqual(
    before.map(({ prefixBytes }) => prefixBytes),
    [3, 0],
  );
  const { dropped } = text.change([{ at: 12, method: 'jump', own: 1 }]);
  assert.deepEqual(placesOf(dropped), [12]);
  assert.deepEqual([...text.block.sites.values()], before);
});

test('a new site is dropped for a pun that rests on it by way of two others', () => {
  const text = new Text(codeWith({ 9: 0xfc, 17: 0x5f, 18: 0xfc }));
  text.change([{ at: 5, method: 'pun', own: 1 }]);
  text.change([{ at: 11, method: 'pun', own: 4 }]);
  text.change([{ at: 6, method: 'pun', own: 4 }]);
  const before = [...text.block.sites.values()];
  assert.equal(before.length, 3);
  const { dropped } = text.change([{ at: 12, method: 'jump', own: 1 }]);
  assert.deepEqual(placesOf(dropped), [12]);
  assert.deepEqual([...text.block.sites.values()], before);
});

test('a pun on whose springboard a task stands keeps one on which it rests from being led anew', () => {
  const text = new Text(codeWith({ 14: 0xfc }));
  text.change([
    { at: 9, method: 'pun', own: 2 },
    { at: 8, method: 'pun', own: 1 },
  ]);
  const before = [...text.block.sites.values()];
  const wish: Wish = { at: 13, method: 'jump', own: 1 };
  const { intended } = text.change([wish], { sites: [], boards: [8] });
  assert.deepEqual(puns(intended.repunned), [8, 9]);
  assert.deepEqual([...text.block.sites.values()], before);
});

const places = fc.array(fc.integer({ min: 0, max: 23 }), { maxLength: 4 });
const wishes = fc.record({
  at: fc.integer({ min: 0, max: 23 }),
  method: fc.constantFrom<Wish['method']>('jump', 'short-jump', 'pun', 'pun'),
  own: fc.integer({ min: 1, max: 4 }),
});
const changes = fc.array(
  fc.record({
    asked: fc.uniqueArray(wishes, { selector: ({ at }) => at, maxLength: 5 }),
    inTheWay: fc.record({ sites: places, boards: places }),
    removed: places,
  }),
  { maxLength: 6 },
);
/** Nops, flags and pushes: each leads a pun somewhere else. */
const instructions = fc.array(fc.constantFrom<number>(0x90, 0xf8, 0xfc, 0x50, 0x5f, 0x58), {
  minLength: 64,
  maxLength: 64,
});
const NOBODY: { inTheWay: { sites: number[]; boards: number[] }; removed: number[] } = {
  inTheWay: { sites: [], boards: [] },
  removed: [],
};
/** One in which a site is dropped for a pun's sake, which is rare among random ones, and others are led anew. */
const DROPPING: [number[], number[], (typeof NOBODY & { asked: Wish[] })[]] = [
  [...codeWith({ 8: 0xf8 }).subarray(FIRST, FIRST + 64)],
  [],
  [
    {
      asked: [
        { at: 2, method: 'pun', own: 1 },
        { at: 3, method: 'pun', own: 4 },
      ],
      ...NOBODY,
    },
    { asked: [{ at: 8, method: 'jump', own: 1 }], ...NOBODY },
    { asked: [], ...NOBODY, removed: [2, 3] },
    { asked: [{ at: 10, method: 'pun', own: 1 }], ...NOBODY },
    { asked: [{ at: 11, method: 'jump', own: 1 }], ...NOBODY },
  ],
];
/** 16 MiB each, somewhere within 2 GB: more than half of what there is. */
const strangers = fc.uniqueArray(fc.integer({ min: -127, max: 127 }), { maxLength: 160 });

test('change after change, whatever is asked for, in the way, and free, each jump leads where its row says', () => {
  let dropped = 0;
  let repunned = 0;
  fc.assert(
    fc.property(instructions, strangers, changes, (code, numbers, all) => {
      const file = nops();
      file.set(code, FIRST);
      const taken = numbers.filter((number) => number !== 0);
      const text = new Text(
        file,
        taken.map((number) => asMapping(address(TEXT + BigInt(number) * 0x100_0000n), 0x100_0000)),
      );
      for (const { asked, inTheWay, removed } of all) {
        const made = text.change(asked, inTheWay);
        text.remove(removed);
        dropped += made.dropped.size;
        repunned += made.intended.repunned.length;
      }
    }),
    { numRuns: isLong() ? 20_000 : 400, examples: [DROPPING] },
  );
  assert.ok(repunned > 0);
  assert.ok(dropped > 0);
});
