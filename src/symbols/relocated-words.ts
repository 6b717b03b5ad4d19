/** What the loader will have written into data words: in a PIE the file itself may hold zeros. */

import type { ElfFile } from './elf.ts';

/** R_X86_64_RELATIVE: the word becomes load base + addend (x86-64 psABI, table 4.9). */
const R_X86_64_RELATIVE = 8n;
const RELA_BYTES = 24;

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
  const table = elf.dynamic?.relocations ?? new Uint8Array();
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  for (let at = 0; at + RELA_BYTES <= table.byteLength; at += RELA_BYTES) {
    const word = Number(view.getBigUint64(at, true));
    if (word < start || word >= start + size) continue;
    if (view.getBigUint64(at + 8, true) !== R_X86_64_RELATIVE) continue;
    found.set(word, Number(view.getBigInt64(at + 16, true)));
  }
  return found;
}

/**
 * Every address of the file's code (in its own numbering) that a word of its data will hold, in ascending order: by
 * relative relocations; and where words hold addresses in the file itself (programs that lie where they were
 * linked to lie, packed relocations), every aligned word that could be one.
 * @throws TraplineError `bad-elf`.
 */
export function codePointers(elf: ElfFile): Float64Array {
  const table = elf.dynamic?.relocations ?? new Uint8Array();
  const found = relocated(table);
  const hasAddresses = elf.type === 'fixed' || elf.dynamic?.hasPackedRelocations === true;
  const all = hasAddresses ? [...found, ...wordsInData(elf)] : found;
  return Float64Array.from(all).sort();
}

function relocated(table: Uint8Array): number[] {
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const found: number[] = [];
  for (let at = 0; at + RELA_BYTES <= table.byteLength; at += RELA_BYTES) {
    if (view.getUint32(at + 8, true) !== Number(R_X86_64_RELATIVE)) continue;
    found.push(Number(view.getBigInt64(at + 16, true)));
  }
  return found;
}

const WORD_BYTES = 8;

function wordsInData(elf: ElfFile): number[] {
  const code = elf.loads.segments.filter(({ executable }) => executable);
  const lowest = Math.min(...code.map(({ address }) => address));
  const highest = Math.max(...code.map(({ address, fileSize }) => address + fileSize));
  const found: number[] = [];
  for (const { executable, offset, fileSize, address } of elf.loads.segments) {
    if (executable) continue;
    const end = Math.min(offset + fileSize, elf.bytes.byteLength);
    const view = new DataView(elf.bytes.buffer, elf.bytes.byteOffset, elf.bytes.byteLength);
    const first = offset + ((WORD_BYTES - (address % WORD_BYTES)) % WORD_BYTES);
    for (let at = first; at + WORD_BYTES <= end; at += WORD_BYTES) {
      // Code lies below 2^48: two halves make the number without a bigint for each.
      const high = view.getUint32(at + 4, true);
      if (high > 0xffff) continue;
      const value = high * 0x1_0000_0000 + view.getUint32(at, true);
      if (value >= lowest && value < highest) found.push(value);
    }
  }
  return found;
}
