/**
 * Which bytes between functions instructions read as data: constants in a text may look like filler. Every byte position is taken
 * for the ModRM byte of a memory operand relative to rip, as branches are searched for (landings.ts). What takes the address
 * of data, or holds it as a number, is found there.
 */

import { address } from '../base/brand.ts';
import { lowerBound } from '../base/sorted.ts';
import { scanOperands } from './branch-scan.ts';
import { ripOperandAt } from './decode.ts';
import type { TextFunction } from './landings.ts';
import type { Marked } from './marks.ts';

/** Bytes that an instruction reads at once, at most; few read more, and none of those reads constants. */
const MOST_READ = 64;
/** Bytes of an instruction before its ModRM byte, at most. */
const MOST_BEFORE = 10;
/** Where a text is taken to lie: high enough for what lies before it, low enough for addresses of 32 bits. */
const BASE = 1n << 31n;
/** Bytes of an immediate operand, at most: what is addressed counts from behind it. */
const IMMEDIATE = 4;

/**
 * Finds the first byte of each range of bytes that an instruction reads or writes relative to rip.
 * @param text executable bytes of the file that are mapped together
 * @param wanted offsets from the text's start, which may lie in another text
 * @param functionAt the function that an offset of the text belongs to, if it is known
 */
export function findReads(
  text: Uint8Array,
  wanted: readonly Marked[],
  functionAt: (at: number) => TextFunction | undefined,
): (number | undefined)[] {
  const reads: Marked[] = [];
  const marked = wanted.map(({ first, end }) => {
    return { first: first - MOST_READ - IMMEDIATE, end };
  });
  scanOperands(text, marked, (from) => reads.push(...readsAt(text, from, functionAt)));
  reads.sort((one, other) => one.first - other.first);
  const firsts = Float64Array.from(reads, ({ first }) => first);
  const longest = reads.reduce((most, { first, end }) => Math.max(most, end - first), 0);
  return wanted.map((range) => {
    for (let at = lowerBound(firsts, range.first - longest); at < reads.length; at++) {
      const { first, end } = reads[at] ?? range;
      if (first >= range.end) break;
      if (end > range.first) return Math.max(first, range.first);
    }
    return undefined;
  });
}

/** What is read by an operand whose ModRM byte stands at `from`: what its function shows, else what any decoding does. */
function readsAt(
  text: Uint8Array,
  from: number,
  functionAt: (at: number) => TextFunction | undefined,
): Marked[] {
  const around = functionAt(from);
  const known = around?.listing.isClean === true ? around : undefined;
  const holder = known?.listing.starts[known.listing.holderOf(from - known.start)];
  if (known !== undefined && holder !== undefined) {
    const read = readAt(text, known.start + holder, from);
    return read === undefined ? [] : [read];
  }
  const possible: Marked[] = [];
  for (let start = from - 1; start >= Math.max(0, from - MOST_BEFORE); start--) {
    const read = readAt(text, start, from);
    if (read !== undefined) possible.push(read);
  }
  return possible;
}

/** What the instruction at `start` reads by an operand whose ModRM byte stands at `from`. */
function readAt(text: Uint8Array, start: number, from: number): Marked | undefined {
  const operand = ripOperandAt(text, start, address(BASE + BigInt(start)));
  if (operand?.at !== from + 1) return undefined;
  const first = Number(operand.target - BASE);
  return { first, end: first + (operand.size || MOST_READ) };
}
