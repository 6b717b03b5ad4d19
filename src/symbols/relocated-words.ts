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
 * Every address (in the file's own numbering) that the loader will write into a word, in ascending order.
 * @throws TraplineError `bad-elf`.
 */
export function relativeTargets(elf: ElfFile): Float64Array {
  const table = elf.dynamic?.relocations ?? new Uint8Array();
  const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
  const found = new Float64Array(Math.floor(table.byteLength / RELA_BYTES));
  let count = 0;
  for (let row = 0; row < found.length; row++) {
    const at = row * RELA_BYTES;
    if (view.getUint32(at + 8, true) !== Number(R_X86_64_RELATIVE)) continue;
    found[count++] = Number(view.getBigInt64(at + 16, true));
  }
  return found.subarray(0, count).sort();
}
