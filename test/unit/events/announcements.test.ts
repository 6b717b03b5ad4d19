import assert from 'node:assert/strict';
import { test } from 'node:test';

import { PAGE_BYTES } from '../../../src/base/page.ts';
import { Announcements } from '../../../src/events/announcements.ts';
import {
  Announced,
  ANNOUNCED_BYTES,
  ANNOUNCEMENTS,
  SegmentHeader,
} from '../../../src/events/layout.ts';

/** The first page of a segment, with what a target writes. */
function page(served: number): { view: DataView; announcements: Announcements } {
  const buffer = new ArrayBuffer(PAGE_BYTES);
  const view = new DataView(buffer);
  view.setUint32(SegmentHeader.served, served, true);
  view.setUint32(SegmentHeader.announced, served, true);
  return { view, announcements: new Announcements(buffer) };
}

function announce(view: DataView, pid: number): void {
  const number = (view.getUint32(SegmentHeader.announced, true) + 1) >>> 0;
  view.setUint32(SegmentHeader.announced, number, true);
  const entry = (number - 1) & (ANNOUNCEMENTS - 1);
  const at = SegmentHeader.announcements + entry * ANNOUNCED_BYTES;
  view.setUint32(at + Announced.pid, pid, true);
  view.setUint32(at + Announced.tid, pid + 1, true);
  view.setUint32(at + Announced.consumer, 7, true);
  view.setBigUint64(at + Announced.frame, BigInt(pid) << 40n, true);
  view.setUint32(at + Announced.number, number, true);
}

for (const served of [0, 5, 2 ** 31 - 2, 2 ** 32 - 2]) {
  test(`those that were not served are given in order, from number ${served} on`, () => {
    const { view, announcements } = page(served);
    assert.equal(announcements.pending(), undefined);
    for (const pid of [10, 20, 30]) announce(view, pid);
    const pending = announcements.pending();
    assert.deepEqual(
      pending?.known.map(({ pid, tid, consumer, frame }) => [
        pid,
        tid,
        consumer,
        Number(frame >> 40n),
      ]),
      [
        [10, 11, 7, 10],
        [20, 21, 7, 20],
        [30, 31, 7, 30],
      ],
    );
    assert.equal(pending?.unknown, 0);
    announcements.serve(pending.last);
    assert.equal(announcements.pending(), undefined);
    announce(view, 40);
    assert.deepEqual(
      announcements.pending()?.known.map(({ pid }) => pid),
      [40],
    );
  });
}

test('of too many the last ones are known, and how many there are', () => {
  const { view, announcements } = page(0);
  for (let pid = 1; pid <= ANNOUNCEMENTS + 6; pid++) announce(view, pid);
  const pending = announcements.pending();
  assert.equal(pending?.unknown, 6);
  assert.deepEqual(
    pending?.known.map(({ pid }) => pid),
    Array.from({ length: ANNOUNCEMENTS }, (_, at) => at + 7),
  );
});

test('one that is being written is counted as unknown', () => {
  const { view, announcements } = page(0);
  announce(view, 10);
  view.setUint32(SegmentHeader.announced, 2, true);
  const pending = announcements.pending();
  assert.deepEqual([pending?.last, pending?.known.length, pending?.unknown], [2, 1, 1]);
});

test('whatever a target writes, no more than the entries are looked at', () => {
  const { view, announcements } = page(0);
  for (const number of [1, 64, 65, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1]) {
    view.setUint32(SegmentHeader.announced, number, true);
    const pending = announcements.pending();
    assert.ok((pending?.known.length ?? 0) <= ANNOUNCEMENTS);
    if (pending !== undefined) announcements.serve(pending.last);
    assert.equal(announcements.pending(), undefined);
  }
});
