/** The writing side of ring.test.ts: a task of its own, on the shared segment. */

import { workerData } from 'node:worker_threads';

import type { SegmentLayout } from '../../../src/events/layout.ts';
import { TaskWriter } from './writer.ts';

interface Work {
  readonly buffer: SharedArrayBuffer;
  readonly layout: SegmentLayout;
  readonly context: number;
  readonly count: number;
}

const { buffer, layout, context, count } = workerData as Work; // what ring.test.ts passed
const writer = new TaskWriter(buffer, layout, context);
writer.claim(100 + context, 50, `worker${context}`);

/** Waits for room, as no stub would. Each position is used once. */
function reserve(): number {
  for (;;) {
    const position = writer.reserve(32);
    if (position !== undefined) return position;
  }
}

function write(position: number, value: number): void {
  writer.clock(position, BigInt(value));
  writer.put(position, 16, value, context);
  writer.put(position, 24, ~value, value);
  writer.commit(position, 0, context);
}

for (let value = 0; value < count; value++) {
  const position = reserve();
  // Now and then a signal comes between: its records are committed before the one it interrupted.
  const inner = value % 5 === 0 ? writer.reserve(32) : undefined;
  if (inner !== undefined) write(inner, ++value);
  write(position, inner === undefined ? value : value - 1);
}
