import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { exitsOf, placeInCopy, slotBytes, slotsOf } from '../../../src/engines/jump/slots.ts';
import { relocate, SLOT_BYTES } from '../../../src/x64/relocate.ts';
import { callCode, mapRegion } from '../x64/executable.ts';

/** inc rdi; inc rdi; inc rdi; lea rax, [rdi]; ret */
const CODE = Uint8Array.of(
  0x48,
  0xff,
  0xc7,
  0x48,
  0xff,
  0xc7,
  0x48,
  0xff,
  0xc7,
  0x48,
  0x8d,
  0x07,
  0xc3,
);
const SITE = address(0x62_0000_0000n);

test('each slot, in a copy at every distance from a page, holds a jump and then a nop again', () => {
  const region = mapRegion(SITE, 0x4000);
  const stub = address(SITE + 0x3000n);
  // Where the first slot leads: mov rax, rdi; ret
  region.bytes.set([0x48, 0x89, 0xf8, 0xc3], 0x3000);
  for (let back = 0; back < 48; back++) {
    const displaced = address(SITE + 0x2000n - BigInt(back));
    const moved = relocate(CODE, SITE, displaced, { slots: true });
    assert.ok(moved.kind === 'relocated');
    region.bytes.set(moved.bytes, Number(displaced - SITE));
    const slots = slotsOf({ address: SITE, displaced }, moved.map);
    assert.deepEqual(
      slots.map(({ boundary }) => boundary - SITE),
      [3n, 6n, 9n, 12n],
    );
    assert.equal(callCode(displaced, 10n, 0n), 13n);
    slots.forEach(({ at }, nth) => {
      assert.ok((at % 4096n) + BigInt(SLOT_BYTES) <= 4096n, `at 0x${at.toString(16)}`);
      region.bytes.set(slotBytes(at, { stub }), Number(at - SITE));
      if (nth < 3) assert.equal(callCode(displaced, 10n, 0n), 11n + BigInt(nth));
      region.bytes.set(slotBytes(at, undefined), Number(at - SITE));
      assert.equal(callCode(displaced, 10n, 0n), 13n);
    });
  }
});

test('behind a system call a task goes on where the kernel finds it again, at every distance from a page', () => {
  // xor eax, eax; syscall; cld
  const bytes = Uint8Array.of(0x31, 0xc0, 0x0f, 0x05, 0xfc);
  let filled = 0;
  for (const from of [0, 2]) {
    const original = bytes.subarray(from);
    for (let back = 0; back < 48; back++) {
      const displaced = address(SITE + 0x2000n - BigInt(back));
      const moved = relocate(original, SITE, displaced, { slots: true });
      assert.ok(moved.kind === 'relocated');
      const place = placeInCopy(moved.map, original, 4 - from);
      assert.ok(place !== undefined);
      assert.deepEqual(
        [...moved.bytes.subarray(place - 2, place)],
        [0x0f, 0x05],
        `${from} ${back}`,
      );
      const filler = (moved.map.at(-1)?.to ?? 0) - place;
      assert.ok(filler >= 0 && filler < SLOT_BYTES, `${from} ${back}`);
      if (filler > 0) filled++;
    }
  }
  assert.ok(filled > 0);
});

function exits(...bytes: number[]): bigint[] {
  return exitsOf(Uint8Array.from(bytes), SITE).map((exit) => exit - SITE);
}

test('a stub goes back behind what it displaces and where its branches lead, if that is outside', () => {
  assert.deepEqual(exits(0x90, 0x90), [2n]);
  assert.deepEqual(exits(0x90, 0xc3), []);
  assert.deepEqual(exits(0x74, 0x01, 0xc3), [3n]);
  assert.deepEqual(exits(0x74, 0x01, 0xc3, 0x90), [4n]);
  assert.deepEqual(exits(0x74, 0x08, 0x90), [10n, 3n]);
  assert.deepEqual(exits(0xeb, 0x10), [18n]);
});
