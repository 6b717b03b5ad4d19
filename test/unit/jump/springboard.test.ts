import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address, fileOffset, type Address } from '../../../src/base/brand.ts';
import { ControlBlock } from '../../../src/engines/jump/block.ts';
import { CodeSpace } from '../../../src/engines/jump/code-space.ts';
import { JUMP_BYTES, patchOf, PatchMap } from '../../../src/engines/jump/patches.ts';
import type { SiteMethod } from '../../../src/process/control-rows.ts';
import { listReasons, placeSite, type PlacedSite } from '../../../src/engines/jump/place-site.ts';
import type { SitePlan } from '../../../src/engines/jump/planner.ts';
import { punGoals } from '../../../src/engines/jump/pun.ts';
import { keepsPuns, leadsElsewhere } from '../../../src/engines/jump/springboard.ts';
import type { SiteRow } from '../../../src/process/control-rows.ts';
import { asMapping, type MemoryMapping } from '../../../src/process/maps.ts';

const TEXT = 0x55_0000_0000n;
const TEXT_BYTES = 0x10_0000;
const GIGABYTE = 1n << 30n;
/** Of the pun below. */
const AT = address(TEXT + 0x800n);
const NOPS = new Uint8Array(32).fill(0x90);

function taken(from: bigint, to: bigint): MemoryMapping {
  return asMapping(address(from), Number(to - from));
}

/** A text with so much free memory behind it, all that begins a gigabyte below it, and no other. */
function mapsAround(behind: bigint): MemoryMapping[] {
  const end = TEXT + BigInt(TEXT_BYTES);
  return [
    taken(TEXT - GIGABYTE, TEXT),
    { ...asMapping(address(TEXT), TEXT_BYTES), executable: true },
    taken(end + behind, TEXT + 4n * GIGABYTE),
  ];
}

function site(more: Partial<SiteRow> & Pick<SiteRow, 'address' | 'method' | 'stub'>): SiteRow {
  return {
    state: 'live',
    index: 0,
    inode: 1n,
    deviceMajor: 0,
    deviceMinor: 0,
    fileOffset: 0,
    redZone: 0,
    patchBytes: JUMP_BYTES,
    prefixBytes: 0,
    via: undefined,
    counter: undefined,
    isRaised: false,
    stubBytes: 64,
    displacedBytes: JUMP_BYTES,
    list: more.stub,
    epilogue: more.stub,
    displaced: more.stub,
    ...more,
  };
}

/** Of one byte, which leads where the four nops behind it say. */
const PUN = site({
  address: AT,
  method: 'pun',
  patchBytes: 1,
  displacedBytes: 1,
  stub: address(AT + 5n + BigInt.asIntN(32, 0x9090_9090n)),
});

function planAt(at: Address): SitePlan {
  const way = {
    method: 'jump',
    patchBytes: JUMP_BYTES,
    displaced: NOPS.subarray(0, JUMP_BYTES),
    innerBoundaries: [],
    paddings: [],
  } as const; // the literal
  return {
    kind: 'plan',
    offset: fileOffset(0),
    address: at,
    redZone: 0,
    bytes: NOPS,
    ways: [way],
    rejected: [],
  };
}

function surroundings(behind: bigint, ...live: SiteRow[]) {
  const space = new CodeSpace(mapsAround(behind), ControlBlock.empty());
  const sites = { live: new PatchMap(live), all: new PatchMap(live) };
  return { ...sites, space, paddings: new Set<Address>(), original: () => NOPS };
}

function placed(...where: Parameters<typeof placeSite>): PlacedSite {
  const made = placeSite(...where);
  return typeof made === 'string' ? assert.fail(made) : made;
}

const text = { start: address(TEXT), end: address(TEXT + BigInt(TEXT_BYTES)) };

test('a jump over the end of a pun goes by a springboard where that alone lets the pun be led anew', () => {
  for (const distance of [1n, 2n, 3n]) {
    const at = address(AT + distance);
    const request = { plan: planAt(at), ways: planAt(at).ways, address: at, text, left: 1 };
    // A stub near the text makes the pun lead near it, too, where only this much is free.
    const around = surroundings(0x1_0000n, PUN);
    const made = placed(request, around);
    assert.equal(made.way.method, 'pun', `${distance} behind`);
    const row = { address: at, ...made.way, ...made, stub: made.stub.origin };
    assert.ok(keepsPuns(row, around));
    // Seen without keepsPuns: where the pun leads over these bytes is free memory.
    const then = Buffer.from(NOPS.subarray(1));
    then.set(patchOf(row), Number(distance) - 1);
    const [goal] = punGoals(AT, 1, then);
    assert.ok(goal !== undefined && goal.first < TEXT - GIGABYTE, goal?.first.toString(16));
  }
});

test('a jump to its stub does where the pun can be led anew, or is not there', () => {
  const at = address(AT + 1n);
  const request = { plan: planAt(at), ways: planAt(at).ways, address: at, text, left: 1 };
  for (const around of [surroundings(0x1_0000n), surroundings(GIGABYTE, PUN)]) {
    const made = placed(request, around);
    assert.equal(made.way.method, 'jump');
    assert.equal(made.via, undefined);
  }
});

test('a site under the jump of a lower one leads no pun elsewhere', () => {
  const stub = address(TEXT + BigInt(TEXT_BYTES));
  const between = site({ address: address(AT + 1n), method: 'jump', stub });
  const under = site({ address: address(AT + 3n), method: 'jump', stub });
  const before = new PatchMap([PUN, between]);
  assert.ok(!leadsElsewhere(PUN, NOPS, before, new PatchMap([PUN, between, under])));
  assert.ok(leadsElsewhere(PUN, NOPS, new PatchMap([PUN]), new PatchMap([PUN, under])));
  assert.ok(keepsPuns(under, surroundings(0x1_0000n, PUN, between)));
});

test('a reason that holds for several ways is given once', () => {
  const memory = 'no memory can be had where it would lead';
  assert.equal(listReasons(new Map([[memory, new Set(['pun'] as const)]])), `pun: ${memory}`);
  assert.equal(
    listReasons(
      new Map<string, Set<SiteMethod>>([
        [memory, new Set(['pun', 'short-jump'])],
        ['it is full', new Set(['jump'])],
      ]),
    ),
    `pun and short-jump: ${memory}; jump: it is full`,
  );
});
