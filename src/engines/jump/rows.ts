/** Rows of the control block as few writes, none of which a death of ours can cut in a harmful place. */

import { address } from '../../base/brand.ts';
import { leftInPage } from '../../base/page.ts';
import type { ControlWrite } from '../../process/control-rows.ts';
import type { CodeWrite } from './writes.ts';

/** Rows that lie behind one another, as one write each. Sorts what it is given. */
export function joinRows(writes: ControlWrite[]): ControlWrite[] {
  const joined: ControlWrite[] = [];
  writes.sort((left, right) => left.offset - right.offset);
  for (let first = 0; first < writes.length;) {
    const from = writes[first]?.offset ?? 0;
    let end = from;
    let next = first;
    for (; writes[next]?.offset === end || next === first; next++) {
      end += writes[next]?.bytes.byteLength ?? 0;
    }
    const bytes = new Uint8Array(end - from);
    for (; first < next; first++) {
      const row = writes[first];
      if (row !== undefined) bytes.set(row.bytes, row.offset - from);
    }
    joined.push({ offset: from, bytes });
  }
  return joined;
}

/** Numbers that follow one another, from the smallest on. */
export function runs(numbers: Iterable<number>): { first: number; count: number }[] {
  const found: { first: number; count: number }[] = [];
  for (const number of Uint32Array.from(numbers).sort()) {
    const last = found.at(-1);
    if (last !== undefined && last.first + last.count === number) last.count++;
    else found.push({ first: number, count: 1 });
  }
  return found;
}

/**
 * Splits writes where pages end, the later part first: the kernel copies page by page and may be killed
 * between two, and a row counts from its first word on.
 */
export function splitAtPages(writes: readonly CodeWrite[]): CodeWrite[] {
  const parts: CodeWrite[] = [];
  for (const { address: from, bytes } of writes) {
    for (let at = 0; at < bytes.byteLength;) {
      const room = leftInPage(from + BigInt(at));
      parts.push({ address: address(from + BigInt(at)), bytes: bytes.subarray(at, at + room) });
      at += room;
    }
  }
  return parts.toReversed();
}
