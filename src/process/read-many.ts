/** Reading many small ranges of a stopped process by few calls. */

import { address } from '../base/brand.ts';
import type { MemoryRange } from '../sys/memory.ts';
import type { StoppedProcess } from './stop.ts';

/** Ranges so close to each other are read together, with what lies between. */
const LARGEST_GAP = 16 << 10;
const LARGEST_CHUNK = 4 << 20;

/**
 * Reads ranges of a stopped process.
 * @returns the bytes of each, in the order in which they were asked for; some share memory.
 * @throws TraplineError `bad-input` where one can't be read.
 */
export function readMany(stopped: StoppedProcess, ranges: readonly MemoryRange[]): Uint8Array[] {
  const starts = Float64Array.from(ranges, (range) => Number(range.address)); // exact: below 2^47
  const order = Uint32Array.from(ranges.keys()).sort((a, b) => at(starts, a) - at(starts, b));
  const results: Uint8Array[] = Array.from(ranges, () => NOTHING);
  const lengthOf = (index: number): number => ranges[index]?.length ?? 0;
  for (let first = 0; first < order.length;) {
    const from = at(starts, at(order, first));
    let end = from + lengthOf(at(order, first));
    let next = first + 1;
    for (; next < order.length; next++) {
      const start = at(starts, at(order, next));
      if (start > end + LARGEST_GAP || start - from > LARGEST_CHUNK) break;
      end = Math.max(end, start + lengthOf(at(order, next)));
    }
    const bytes = new Uint8Array(end - from);
    const count = stopped.readInto(address(BigInt(from)), bytes);
    for (; first < next; first++) {
      const index = at(order, first);
      const offset = at(starts, index) - from;
      const length = lengthOf(index);
      results[index] =
        offset + length <= count
          ? bytes.subarray(offset, offset + length)
          : stopped.read(address(BigInt(at(starts, index))), length); // behind a hole, or not there
    }
  }
  return results;
}

const NOTHING = new Uint8Array(0);

function at(numbers: Float64Array | Uint32Array, index: number): number {
  return numbers[index] ?? 0;
}
