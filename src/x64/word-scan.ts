/**
 * What looks like an address of marked bytes, in code that always lies where it was linked to lie: there an instruction may
 * hold one as a plain number. Every byte position of a text is taken for the first of four that hold it.
 */

import { Buffer } from 'node:buffer';

import { join, marksOf, type Marked, type Marks } from './marks.ts';

/** What all but the lowest byte of a word count. */
const BLOCK = 0x100;
/** What they are at most. */
const BLOCKS = 0x100_0000;

/**
 * Of more blocks of addresses than this, one pass over all words costs less than searching for each: some 60 ms at 28 MB of
 * text, and 2 for a block.
 */
const MOST_SEARCHED = 16;

/**
 * Finds the words of four bytes that hold a marked address, or the lower half of one.
 * @param marked addresses, in any order, all within 4 GB
 * @param hit called with where the word begins and the address
 */
export function scanWords(
  text: Uint8Array,
  marked: readonly Marked[],
  hit: (at: number, target: number) => void,
): void {
  const runs = join(marked);
  const blocks = runs.reduce((sum, { first, end }) => sum + 1 + (end - 1 - first) / BLOCK, 0);
  if (blocks > MOST_SEARCHED) passWords(text, marksOf(runs), hit);
  else for (const run of runs) searchWords(text, run, hit);
}

function passWords(
  text: Uint8Array,
  { lowest, span, bits }: Marks,
  hit: (at: number, target: number) => void,
): void {
  // As its lower half: the difference is what counts.
  const least = lowest | 0;
  // As the word before the first.
  let word = (text[0]! << 8) | (text[1]! << 16) | (text[2]! << 24);
  const last = text.byteLength - 4;
  for (let at = 0; at <= last; at++) {
    word = (word >>> 8) | (text[at + 3]! << 24);
    const mark = (word - least) >>> 0;
    if (mark >= span) continue;
    if ((bits[mark >> 3]! >> (mark & 7)) & 1) hit(at, lowest + mark);
  }
}

/** The same for one run: its addresses have few upper bytes, and three bytes are searched for natively. */
function searchWords(
  text: Uint8Array,
  { first, end }: Marked,
  hit: (at: number, target: number) => void,
): void {
  const bytes = Buffer.from(text.buffer, text.byteOffset, text.byteLength);
  const wanted = Buffer.alloc(3);
  for (let block = Math.floor(first / BLOCK); block * BLOCK < end; block++) {
    wanted.writeUIntLE(block % BLOCKS, 0, 3);
    for (let at = bytes.indexOf(wanted, 1); at >= 0; at = bytes.indexOf(wanted, at + 1)) {
      const target = block * BLOCK + text[at - 1]!; // at >= 1
      if (target >= first && target < end) hit(at - 1, target);
    }
  }
}
