/** What the loader will have written into data words: in a PIE the file itself may hold zeros. */

import { SHN_UNDEF } from './elf-header.ts';
import type { ElfFile } from './elf.ts';
import { forEachPacked, forEachRelocation, RELOCATION } from './relocations.ts';
import { dynamicSymbols, type SymbolRows } from './symbol-rows.ts';

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
 * Every address of the file's code (in its own numbering) that a word of it will hold, or that the loader calls, in ascending
 * order: by relocations, packed ones too, and those that name a symbol of the file and a distance from it; and in programs
 * that lie where they were linked to lie, whose words hold addresses as they are, every aligned word that could be one.
 * @throws TraplineError `bad-elf`.
 */
export function codePointers(elf: ElfFile): Float64Array {
  const isCode = codeTest(elf);
  const found: number[] = [];
  const symbols = dynamicSymbols(elf);
  forEachRelocation(elf.dynamic?.relocations ?? new Uint8Array(), (kind, _, addend, symbol) => {
    const base = baseOf(kind, symbol, symbols);
    if (base !== undefined && isCode(base + addend)) found.push(base + addend);
  });
  const view = new DataView(elf.bytes.buffer, elf.bytes.byteOffset, elf.bytes.byteLength);
  forEachPacked(elf.dynamic?.packedRelocations ?? new Uint8Array(), (word) => {
    // The word itself holds what is added to the load base.
    const at = elf.loads.offsetOf(word);
    if (at < 0 || at + WORD_BYTES > view.byteLength) return;
    const value = wordAt(view, at);
    if (isCode(value)) found.push(value);
  });
  if (mayHoldAddresses(elf)) addWords(elf, view, isCode, found);
  return Float64Array.from(found).sort();
}

/** Whether words of a file hold addresses that no relocation tells of: then a number may look like one. */
export function mayHoldAddresses({ type }: ElfFile): boolean {
  return type === 'fixed';
}

/** What a relocation's addend is added to; undefined where it holds no address of this file. */
function baseOf(kind: number, symbol: number, symbols: SymbolRows | undefined): number | undefined {
  if (kind === RELOCATION.relative || kind === RELOCATION.indirectRelative) return 0;
  if (kind !== RELOCATION.absolute || symbols === undefined) return undefined;
  const isDefined = symbol < symbols.count && symbols.sectionIndex(symbol) !== SHN_UNDEF;
  return isDefined ? symbols.address(symbol) : undefined;
}

/** Whether an address lies between the first and the last byte of the file's code. */
function codeTest(elf: ElfFile): (value: number) => boolean {
  const code = elf.loads.segments.filter(({ executable }) => executable);
  const lowest = Math.min(...code.map(({ address }) => address));
  const highest = Math.max(...code.map(({ address, fileSize }) => address + fileSize));
  return (value) => value >= lowest && value < highest;
}

const WORD_BYTES = 8;

/** Of executable segments, too: a linker that separates nothing lays constants and tables with the code. */
function addWords(
  elf: ElfFile,
  view: DataView,
  isCode: (value: number) => boolean,
  found: number[],
): void {
  for (const { offset, fileSize, address } of elf.loads.segments) {
    const end = Math.min(offset + fileSize, view.byteLength);
    const first = offset + ((WORD_BYTES - (address % WORD_BYTES)) % WORD_BYTES);
    for (let at = first; at + WORD_BYTES <= end; at += WORD_BYTES) {
      const value = wordAt(view, at);
      if (isCode(value)) found.push(value);
    }
  }
}

/** Two halves make the number without a bigint for each; what is rounded is no address of code. */
function wordAt(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}
