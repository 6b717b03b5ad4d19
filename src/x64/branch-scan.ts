/**
 * What looks like a branch into marked bytes. Every byte position of a text is taken for the opcode of a direct branch, or
 * of a `lea` relative to rip: no true one is missed, wherever it hides, and many of those found are none.
 */

import { Buffer } from 'node:buffer';

import { join, marksOf, type Marked, type Marks } from './marks.ts';

/** Displacements of one byte reach so far back and so far on from the byte behind them. */
const SHORT_BACK = 128;
const SHORT_ON = 127;

/** Whether a byte is the opcode of a branch with a displacement of one byte (Intel SDM volume 2, A.3). */
const IS_SHORT = Uint8Array.from({ length: 256 }, (_, byte) =>
  (byte >= 0x70 && byte < 0x80) || // jcc
  (byte >= 0xe0 && byte < 0xe4) || // loopnz, loopz, loop, jrcxz
  byte === 0xeb // jmp
    ? 1
    : 0,
);

/** What the upper half of a displacement counts. */
const UPPER = 0x1_0000;

/**
 * Above so many runs, a long one counting once more for each 64 KB, one pass over all displacements costs less than
 * searching for each run. Measured at 1.5 MB of text: 13 ms for the pass when the code is cold and 5 when it is not, 6 and
 * 1 for a run; at 28 MB, not cold, 60 and 7.
 */
const MOST_SEARCHED = 4;

/**
 * Finds what looks like a branch to marked bytes, or takes the address of one.
 * @param marked in any order
 * @param hit called with the offset of the opcode, behind any prefixes, and where it leads
 */
export function scanBranches(
  text: Uint8Array,
  marked: readonly Marked[],
  hit: (from: number, target: number) => void,
): void {
  const runs = join(marked);
  const marks = marksOf(runs);
  scanNear(text, runs, marks, (opcodeLengths ??= lengthsOf(lengthOfOpcode)), hit);
  scanShort(text, marks, runs, hit);
}

/**
 * Finds what looks like a memory operand relative to rip that addresses a marked byte, if no bytes of the instruction follow
 * its displacement: one to four of an immediate operand lead as much further on.
 * @param marked in any order
 * @param hit called with the offset of the ModRM byte, and what is addressed
 */
export function scanOperands(
  text: Uint8Array,
  marked: readonly Marked[],
  hit: (from: number, target: number) => void,
): void {
  const runs = join(marked);
  scanNear(text, runs, marksOf(runs), (operandLengths ??= lengthsOf(lengthOfOperand)), hit);
}

/** Displacements of four bytes, by whichever way costs less. */
function scanNear(
  text: Uint8Array,
  runs: readonly Marked[],
  marks: Marks,
  lengths: Uint8Array,
  hit: (from: number, target: number) => void,
): void {
  const weight = runs.reduce((sum, { first, end }) => sum + 1 + (end - first) / UPPER, 0);
  if (weight > MOST_SEARCHED) passNear(text, marks, lengths, hit);
  else for (const run of runs) searchNear(text, run, lengths, hit);
}

/** Whether the opcode of a jump with a displacement stands there: `jmp`, `jcc`, but no call. */
export function isJump(bytes: Uint8Array, at: number): boolean {
  const first = bytes[at] ?? 0;
  if (first === 0xe9 || first === 0xeb) return true;
  return first === 0x0f ? ((bytes[at + 1] ?? 0) & 0xf0) === 0x80 : (first & 0xf0) === 0x70;
}

/** Whether what was found there can only be a `lea`. */
export function isLea(text: Uint8Array, from: number): boolean {
  return text[from] === LEA;
}

/**
 * For each two bytes, the first in the lower half: how many of them are what is looked for before a displacement. Made when it
 * is needed.
 */
let opcodeLengths: Uint8Array | undefined;
let operandLengths: Uint8Array | undefined;

function lengthsOf(length: (before: number, last: number) => number): Uint8Array {
  return Uint8Array.from({ length: UPPER }, (_, pair) => length(pair & 0xff, pair >>> 8));
}

/**
 * All displacements of four bytes in one pass of plain integer work, for it runs over tens of megabytes. One lookup tells
 * of nearly all positions that no opcode ends there.
 */
function passNear(
  text: Uint8Array,
  { lowest, span, bits }: Marks,
  lengths: Uint8Array,
  hit: (from: number, target: number) => void,
): void {
  const last = text.byteLength - 4;
  let pair = 0;
  // at + 3 < text.byteLength
  for (let at = 1; at <= last; at++) {
    pair = (pair >>> 8) | (text[at - 1]! << 8);
    const opcode = lengths[pair]!; // pair < UPPER
    if (opcode === 0) continue;
    const displacement =
      text[at]! | (text[at + 1]! << 8) | (text[at + 2]! << 16) | (text[at + 3]! << 24);
    const mark = at + 4 + displacement - lowest;
    // Comparing without sign first rules out many: the bits are far apart in memory.
    if (mark >>> 0 >= span) continue;
    if (((bits[mark >> 3]! >> (mark & 7)) & 1) === 0) continue;
    hit(at - opcode, lowest + mark);
  }
}

/**
 * The same for one run. Wherever a branch to it stands, the upper half of its displacement is one of the few numbers that
 * lead there from those 64 KB of text: that pair of bytes is searched for, which is native code.
 */
function searchNear(
  text: Uint8Array,
  { first, end }: Marked,
  lengths: Uint8Array,
  hit: (from: number, target: number) => void,
): void {
  const length = text.byteLength;
  const bytes = Buffer.from(text.buffer, text.byteOffset, length);
  const wanted = Buffer.alloc(2);
  // A displacement counts from the byte behind it, which is 4 to `length`; it has a sign.
  const least = Math.max(-UPPER / 2, Math.floor((first - length) / UPPER));
  const most = Math.min(UPPER / 2 - 1, Math.floor((end - 1 - 4) / UPPER));
  for (let upper = least; upper <= most; upper++) {
    const lowest = Math.max(4, first - (upper * UPPER + UPPER - 1));
    const highest = Math.min(length, end - 1 - upper * UPPER);
    if (lowest > highest) continue;
    wanted.writeUInt16LE(upper & 0xffff);
    const part = bytes.subarray(0, highest);
    for (let at = part.indexOf(wanted, lowest - 2); at >= 0; at = part.indexOf(wanted, at + 1)) {
      const lower = text[at - 2]! | (text[at - 1]! << 8); // at >= lowest - 2 >= 2
      const target = at + 2 + upper * UPPER + lower;
      if (target < first || target >= end) continue;
      const opcode = lengths[(text[at - 4] ?? 0) | ((text[at - 3] ?? 0) << 8)]!;
      if (opcode > 0) hit(at - 2 - opcode, target);
    }
  }
}

/** The opcode of `lea`; no branch has it. */
const LEA = 0x8d;

/** Bytes of the opcode of a branch or a `lea` with four more bytes that ends with these two; 0 if none does. */
function lengthOfOpcode(before: number, last: number): number {
  if (last === 0xe8 || last === 0xe9) return 1; // call, jmp
  const isEscape = before === 0x0f && (last & 0xf0) === 0x80; // 0F 80 to 0F 8F: jcc
  const isXbegin = before === 0xc7 && last === 0xf8;
  const takesAddress = before === LEA && lengthOfOperand(before, last) > 0;
  return isEscape || isXbegin || takesAddress ? 2 : 0;
}

/** The same of a memory operand, behind any opcode. ModRM of mod 0 and rm 5: relative to rip (Intel SDM volume 2, table 2-7). */
function lengthOfOperand(_: number, last: number): number {
  return (last & 0xc7) === 5 ? 1 : 0;
}

/** Displacements of one byte: only what stands near a marked byte can reach it. */
function scanShort(
  text: Uint8Array,
  { lowest, span, bits }: Marks,
  runs: readonly Marked[],
  hit: (from: number, target: number) => void,
): void {
  const length = text.byteLength;
  let next = 0;
  for (const { first, end } of runs) {
    const last = Math.min(length - 1, end - 1 - 2 + SHORT_BACK);
    for (let at = Math.max(next, first - 2 - SHORT_ON); at <= last; at++) {
      next = at + 1;
      if (IS_SHORT[text[at]!] === 0) continue; // at < length
      const target = at + 2 + ((text[at + 1]! << 24) >> 24); // undefined << 24 is 0
      const mark = target - lowest;
      if (mark < 0 || mark >= span) continue;
      if ((bits[mark >> 3]! >> (mark & 7)) & 1) hit(at, target);
    }
  }
}
