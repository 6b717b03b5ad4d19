/** What the dynamic linker writes into a file's code when it loads it: a word that was another one when it was probed. */

import { lowerBound } from '../base/sorted.ts';
import type { Dynamic } from './dynamic.ts';
import type { ElfFile } from './elf.ts';
import { PF_W, PF_X, PT, type ProgramHeader } from './elf-header.ts';
import { forEachPacked, forEachRelocation, RELOCATION } from './relocations.ts';

/** The relocations of words in executable segments. */
export interface TextRelocations {
  /** Where the words begin, as file offsets in ascending order. */
  readonly offsets: Float64Array;
  /** Whether some are of other kinds than whole addresses: a branch may lead elsewhere than the file says. */
  readonly haveOthers: boolean;
}

/** Bytes of a relocated word: most have eight, and none has more. */
const WORD_BYTES = 8;
const SHORT_ENTRY_BYTES = 16;
const HALF = 0x1_0000_0000;

/** Kinds that fill a whole word with an address, or with what is no address of code: a module, a distance (psABI, table 4.9). */
const WHOLE: ReadonlySet<number> = new Set([...Object.values(RELOCATION), 16, 17, 18, 38]);

/**
 * Finds them; most files have none, and are asked for two flags only: nobody can write where it is not allowed to.
 * @throws TraplineError `bad-elf`.
 */
export function textRelocations(elf: ElfFile): TextRelocations {
  const offsets: number[] = [];
  let haveOthers = false;
  const { dynamic } = elf;
  if (dynamic !== undefined && (dynamic.writesText || elf.programHeaders.some(isWritableCode))) {
    forEachWord(dynamic, (kind, address) => {
      // A word may begin before a segment and end in it.
      const last = elf.loads.segmentOf(address + WORD_BYTES - 1);
      const segment = elf.loads.segmentOf(address) ?? last;
      if (segment?.executable !== true && last?.executable !== true) return;
      const home = segment?.executable === true ? segment : last;
      offsets.push(address - (home?.address ?? 0) + (home?.offset ?? 0));
      haveOthers ||= !WHOLE.has(kind);
    });
  }
  return { offsets: Float64Array.from(offsets).sort(), haveOthers };
}

function isWritableCode({ type, flags }: ProgramHeader): boolean {
  return type === PT.load && (flags & PF_X) !== 0 && (flags & PF_W) !== 0;
}

/** The first relocated byte of some bytes of the file; undefined where none is. */
export function firstRelocated(
  { offsets }: TextRelocations,
  start: number,
  end: number,
): number | undefined {
  const first = offsets[lowerBound(offsets, start - WORD_BYTES + 1)] ?? Infinity;
  return first < end ? Math.max(first, start) : undefined;
}

/** Shows the kind and the address of each relocated word, of all tables. */
function forEachWord(dynamic: Dynamic, take: (kind: number, address: number) => void): void {
  for (const table of [dynamic.relocations, dynamic.linkageRelocations]) {
    forEachRelocation(table, take);
  }
  const short = viewOf(dynamic.shortRelocations);
  for (let at = 0; at + SHORT_ENTRY_BYTES <= short.byteLength; at += SHORT_ENTRY_BYTES) {
    take(short.getUint32(at + 8, true), wordAt(short, at));
  }
  forEachPacked(dynamic.packedRelocations, (word) => take(RELOCATION.relative, word));
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

function wordAt(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * HALF + view.getUint32(at, true);
}
