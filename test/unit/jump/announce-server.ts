/** The other side of announcements, in a thread: hears each one at once, and answers a while after it was made. */

import assert from 'node:assert/strict';
import { parentPort, workerData } from 'node:worker_threads';

import { address } from '../../../src/base/brand.ts';
import { PAGE_BYTES } from '../../../src/base/page.ts';
import { Announcements } from '../../../src/events/announcements.ts';
import { SegmentHeader } from '../../../src/events/layout.ts';
import { wakeAll } from '../../../src/sys/futex.ts';
import { viewMemory } from '../../../src/sys/mapping.ts';
import { sleepMicroseconds } from '../../../src/sys/wait.ts';

// What the test gives: where the segment is, and for how many announcements to stay.
const { segment, count, delay } = workerData as { segment: bigint; count: number; delay: number };
const announcements = new Announcements(viewMemory(address(segment), PAGE_BYTES));
assert.ok(parentPort !== null);
parentPort.postMessage('ready');
for (let served = 0; served < count;) {
  sleepMicroseconds(5000);
  const pending = announcements.pending();
  if (pending === undefined) continue;
  announcements.hear();
  sleepMicroseconds(delay);
  served = pending.last;
  announcements.serve(served);
  wakeAll(address(segment + BigInt(SegmentHeader.served)));
}
