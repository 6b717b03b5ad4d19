/** From what a user may say about sizes to what a session uses. */

import { cpus } from 'node:os';

import { TraplineError } from '../base/errors.ts';
import { layoutSegment } from '../events/layout.ts';
import type { SessionShape } from './protocol.ts';
import type { SessionOptions } from './types.ts';

const DEFAULT_RING_BYTES = 1 << 20;
const SMALLEST_RING_BYTES = 256 << 10;
const LARGEST_RING_BYTES = 1 << 30;
const DEFAULT_BUDGET = 64 << 20;
/** The longest ArrayBuffer in Node 20; a longer one ends the process. */
const LARGEST_SEGMENT_BYTES = 2 ** 32;
/** One processor's ring in the kernel, where the budget allows it. */
const KERNEL_RING_BYTES = 8 << 20;
const PART_BYTES = 64 << 10;
/** Tasks of one target that can record at the same time, whatever the budget. */
const MOST_CONTEXTS = 4096;
/** Consumers that one target can have in a session's life: places × probes, removed ones included. */
export const CONSUMER_CAPACITY = 16_384;

/** @throws TraplineError `usage` for sizes that can't be. */
export function decideShape(options: SessionOptions): SessionShape {
  if (options.engine === 'kernel' && options.perfMap === true) {
    throw new TraplineError({
      code: 'usage',
      message: 'the kernel engine writes no code that a perf map could name',
      hint: 'Leave out the perf map, or use the jump engine.',
    });
  }
  const ringBytes = options.ringBytes ?? DEFAULT_RING_BYTES;
  const isPowerOfTwo = Number.isInteger(Math.log2(ringBytes));
  if (!isPowerOfTwo || ringBytes < SMALLEST_RING_BYTES || ringBytes > LARGEST_RING_BYTES) {
    throw new TraplineError({
      code: 'usage',
      message: `a ring can't have ${ringBytes} bytes`,
      hint: 'It has to be a power of two from 256 KiB to 1 GiB.',
    });
  }
  const budget = options.ringBudget ?? Math.max(DEFAULT_BUDGET, ringBytes);
  if (!(budget >= ringBytes)) {
    throw new TraplineError({
      code: 'usage',
      message: `a budget of ${budget} bytes does not hold one ring of ${ringBytes}`,
      hint: 'Raise the budget or make rings smaller.',
    });
  }
  const contextCount = Math.min(MOST_CONTEXTS, Math.floor(budget / ringBytes));
  const segment = { contextCount, consumerCapacity: CONSUMER_CAPACITY, ringBytes };
  if (layoutSegment(segment).totalBytes > LARGEST_SEGMENT_BYTES) {
    throw new TraplineError({
      code: 'usage',
      message: `a budget of ${budget} bytes for the rings of one process is too large`,
      hint: 'Less than 4 GiB work: what JavaScript can look at in one piece.',
    });
  }
  // The kernel takes all of its rings at once.
  const share = Math.floor(budget / cpus().length) & ~(PART_BYTES - 1);
  return {
    engine: options.engine ?? 'jump',
    kernelRingBytes:
      options.ringBytes ?? Math.max(SMALLEST_RING_BYTES, Math.min(KERNEL_RING_BYTES, share)),
    segment,
    perfMap: options.perfMap === true,
  };
}
