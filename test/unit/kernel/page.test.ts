import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { PAGE_HEADER_BYTES, PageCursor } from '../../../src/engines/kernel/page.ts';

/** Writes pages as kernel/trace/ring_buffer.c does. */
class PageWriter {
  readonly bytes = Buffer.alloc(8192);
  at = PAGE_HEADER_BYTES;

  constructor(time: bigint) {
    this.bytes.writeBigUInt64LE(time, 0);
  }

  word(value: number): this {
    this.at = this.bytes.writeUInt32LE(value >>> 0, this.at);
    return this;
  }

  header(type: number, delta: number): this {
    return this.word(type | (delta << 5));
  }

  /** An event of up to 112 bytes says its length in its type, a longer one in a word of its own. */
  event(delta: number, data: Buffer): this {
    if (data.length <= 112) this.header(data.length / 4, delta);
    else this.header(0, delta).word(data.length + 4);
    data.copy(this.bytes, this.at);
    this.at += data.length;
    return this;
  }

  /** @param flags RB_MISSED_EVENTS and RB_MISSED_STORED, bits 31 and 30 */
  finish(flags = 0): Buffer {
    this.bytes.writeUInt32LE(((this.at - PAGE_HEADER_BYTES) | flags) >>> 0, 8);
    return this.bytes;
  }
}

function read(page: Buffer, bytes = page.length): { time: bigint; data: string }[] {
  const cursor = new PageCursor();
  cursor.open(page, bytes);
  const found: { time: bigint; data: string }[] = [];
  while (cursor.next()) {
    const time = (BigInt(cursor.timeHigh) << 32n) | BigInt(cursor.timeLow);
    const end = cursor.offset + cursor.length;
    found.push({ time, data: page.toString('hex', cursor.offset, end) });
  }
  return found;
}

const small = Buffer.from('01020304', 'hex');

test('short and long events, their times added up', () => {
  const long = Buffer.alloc(400, 7);
  const page = new PageWriter(0xffff_fff0n).event(5, small).event(20, long).event(0, small);
  assert.deepEqual(read(page.finish()), [
    { time: 0xffff_fff5n, data: '01020304' },
    { time: 0x1_0000_0009n, data: long.toString('hex') },
    { time: 0x1_0000_0009n, data: '01020304' },
  ]);
});

test('a time beyond 27 bits, an absolute one, and one whose top bits are the page’s', () => {
  const page = new PageWriter(1000n);
  page.header(30, 7).word(3).event(1, small); // (3 << 27) + 7 later
  page.header(31, 9).word(0x40).event(2, small); // (0x40 << 27) + 9
  assert.deepEqual(
    read(page.finish()).map(({ time }) => time),
    [1000n + (3n << 27n) + 7n + 1n, (0x40n << 27n) + 9n + 2n],
  );
  const late = new PageWriter(0xf800_0000_0000_0000n).header(31, 9).word(0xffff_ffff);
  late.event(0, small);
  assert.equal(read(late.finish())[0]?.time, 0xf800_0000_0000_0000n | (0xffff_ffffn << 27n) | 9n);
});

test('what was discarded is passed over, what is empty ends the page', () => {
  const page = new PageWriter(0n).event(1, small);
  page.header(29, 1).word(12).word(0xdead).word(0xbeef); // 12 bytes behind its header
  page.event(1, small).header(29, 0).word(0x1234);
  assert.deepEqual(
    read(page.finish()).map(({ time }) => time),
    [1n, 3n],
  );
});

test('flags of lost events are no length', () => {
  const page = new PageWriter(0n).event(1, small);
  assert.equal(read(page.finish(0xc000_0000)).length, 1);
});

test('what was not read is not looked at', () => {
  const page = new PageWriter(0n).event(1, small).event(1, Buffer.alloc(400)).finish();
  assert.equal(read(page, PAGE_HEADER_BYTES + 8).length, 1);
  assert.equal(read(page, PAGE_HEADER_BYTES + 20).length, 1);
  assert.equal(read(page, 4).length, 0);
});

test('any bytes are read to their end, nothing outside', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => {
      const cursor = new PageCursor();
      cursor.open(Buffer.from(bytes), bytes.length);
      for (let count = 0; cursor.next(); count++) {
        assert.ok(count < bytes.length);
        assert.ok(cursor.length >= 0 && cursor.offset + cursor.length <= bytes.length);
      }
    }),
  );
});
