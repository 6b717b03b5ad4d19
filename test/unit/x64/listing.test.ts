import assert from 'node:assert/strict';
import { test } from 'node:test';
import { address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { decodeAll } from '../../../src/x64/decode.ts';
import { Listing } from '../../../src/x64/listing.ts';
import { reachedFrom } from '../../../src/x64/reach.ts';

const AT = address(0x400000n);

/** Branches of all kinds, some of which leave the function. */
function branches(): Uint8Array {
  const code = new Assembler(AT);
  const end = code.label();
  code.jcc('e', end, 'near').nop(3).call(AT).jmp(address(0x3ff000n), 'near');
  code.raw([0xc7, 0xf8, 0x01, 0, 0, 0]).raw([0xff, 0xe0]).raw([0x0f, 0x05]).raw([0x0f, 0x0b]);
  return code.bind(end).raw([0xe2, 0xfe]).raw([0xc3]).finish();
}

void test('a listing tells of each instruction what its decoding does', () => {
  const code = branches();
  const listing = new Listing(code, AT);
  const all = decodeAll(code, AT);
  assert.equal(listing.count, all.length);
  assert.ok(listing.isClean && listing.end === code.byteLength);
  all.forEach(({ address: at, length, flow, target }, position) => {
    const start = Number(at - AT);
    assert.equal(listing.starts[position], start);
    assert.equal(listing.flowAt(position), flow);
    assert.equal(listing.lengthAt(position), length);
    assert.equal(
      listing.targetAt(position),
      target === undefined ? undefined : Number(target - AT),
    );
    for (let offset = start; offset < start + length; offset++) {
      assert.equal(listing.holderOf(offset), position);
      assert.equal(listing.positionOf(offset), offset === start ? position : -1);
    }
  });
  assert.equal(listing.firstEnd, Number((all[4]?.address ?? 0n) - AT));
  for (const offset of [-1, code.byteLength]) assert.equal(listing.holderOf(offset), -1);
  assert.equal(listing.flowAt(all.length), 'invalid');
});

void test('what is no instruction, or cut off, ends a listing', () => {
  const broken = new Listing(Uint8Array.of(0x90, 0x06, 0x90), AT);
  assert.deepEqual([broken.count, broken.end, broken.isClean], [1, 1, false]);
  const cut = new Listing(Uint8Array.of(0x90, 0xe8, 0, 0), AT);
  assert.deepEqual([cut.count, cut.end, cut.isClean], [1, 1, false]);
  const part = new Listing(Uint8Array.of(0x90), AT, 3);
  assert.deepEqual([part.count, part.isClean], [1, false], 'the function goes on');
  const none = new Listing(new Uint8Array(), AT);
  assert.deepEqual([none.count, none.isClean, none.firstEnd], [0, true, Infinity]);
});

void test('a call into its own function ends it, but for one over nothing', () => {
  // call 1f; two bytes; 1: call 2f; 2: call the start; ret
  const bytes = [
    [0xe8, 2, 0, 0, 0, 0x90, 0x90],
    [0xe8, 0, 0, 0, 0],
    [0xe8, 0xef, 0xff, 0xff, 0xff],
    [0xc3],
  ].flat();
  const listing = new Listing(Uint8Array.from(bytes), AT);
  assert.deepEqual(
    Array.from(listing.starts, (_, position) => listing.endsAt(position)),
    [true, false, false, false, false, true],
  );
  assert.equal(listing.firstEnd, 5);
  assert.deepEqual([...reachedFrom([0], listing)], [1, 0, 0, 1, 1, 1]);
});

void test('what is reached follows branches, also over a lock prefix, and not what stands behind a return', () => {
  // je 1f; lock; 1: dec [rdi]; jmp 2f; nop; 2: ret; nop; jrcxz to the start
  const bytes = [0x74, 0x01, 0xf0, 0xff, 0x0f, 0xeb, 0x01, 0x90, 0xc3, 0x90, 0xe3, 0xf4];
  const listing = new Listing(Uint8Array.from(bytes), AT);
  assert.deepEqual([...listing.starts], [0, 2, 5, 7, 8, 9, 10]);
  assert.deepEqual([...reachedFrom([0], listing)], [1, 1, 1, 0, 1, 0, 0]);
  assert.deepEqual([...reachedFrom([3], listing)], [0, 0, 0, 0, 0, 0, 0], 'no start of one');
  assert.deepEqual([...reachedFrom([10], listing)], [1, 1, 1, 0, 1, 0, 1]);
});
