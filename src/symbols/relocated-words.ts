/** What the loader will have written into data words: in a PIE the file itself may hold zeros. */

import type { ElfFile } from './elf.ts';
import { forEachRelocation, RELOCATION } from './relocations.ts';

/**
 * The relative relocations of words in a range of addresses: address of the word → the address (in
 * the file's own numbering) that it will hold.
 * @throws TraplineError `bad-elf`.
 */
export function relativeRelocations(
  elf: ElfFile,
  start: number,
  size: number,
): ReadonlyMap<number, number> {
  const found = new Map<number, number>();
  forEachRelative(elf, (word, value) => {
    if (word >= start && word < start + size) found.set(word, value);
  });
  return found;
}

function forEachRelative(elf: ElfFile, take: (word: number, value: number) => void): void {
  forEachRelocation(elf.dynamic?.relocations ?? new Uint8Array(), (kind, word, addend) => {
    if (kind === RELOCATION.relative) take(word, addend);
  });
}

/**
 * Every address of the file's code (in its own numbering) that a word of its data will hold, in ascending order: by
 * relative relocations; and where words hold addresses in the file itself (programs that lie where they were
 * linked to lie, packed relocations), every aligned word that could be one.
 * @throws TraplineError `bad-elf`.
 */
export function codePointers(elf: ElfFile): Float64Array {
  const isCode = codeTest(elf);
  const found: number[] = [];
  forEachRelative(elf, (_, value) => {
    if (isCode(value)) found.push(value);
  });
  const hasAddresses = elf.type === 'fixed' || elf.dynamic?.hasPackedRelocations === true;
  if (hasAddresses) addWordsInData(elf, isCode, found);
  return Float64Array.from(found).sort();
}

/** Whether an address lies between the first and the last byte of the file's code. */
function codeTest(elf: ElfFile): (value: number) => boolean {
  const code = elf.loads.segments.filter(({ executable }) => executable);
  const lowest = Math.min(...code.map(({ address }) => address));
  const highest = Math.max(...code.map(({ address, fileSize }) => address + fileSize));
  return (value) => value >= lowest && value < highest;
}

const WORD_BYTES = 8;

function addWordsInData(elf: ElfFile, isCode: (value: number) => boolean, found: number[]): void {
  const view = new DataView(elf.bytes.buffer, elf.bytes.byteOffset, elf.bytes.byteLength);
  for (const { executable, offset, fileSize, address } of elf.loads.segments) {
    if (executable) continue;
    const end = Math.min(offset + fileSize, elf.bytes.byteLength);
    const first = offset + ((WORD_BYTES - (address % WORD_BYTES)) % WORD_BYTES);
    for (let at = first; at + WORD_BYTES <= end; at += WORD_BYTES) {
      // Code lies below 2^48: two halves make the number without a bigint for each.
      const high = view.getUint32(at + 4, true);
      if (high > 0xffff) continue;
      const value = high * 0x1_0000_0000 + view.getUint32(at, true);
      if (isCode(value)) found.push(value);
    }
  }
}
