/**
 * Words in which the dynamic linker keeps the address of a function that it looked up: where an IFUNC
 * was resolved, they tell to which implementation.
 */

import { SHT } from './elf-header.ts';
import type { ElfFile } from './elf.ts';
import { dynamicSymbols } from './symbol-rows.ts';

/** x86-64 psABI, table 4.9. */
const R_X86_64 = { globalData: 6, jumpSlot: 7, indirectRelative: 37 } as const;
const RELA_BYTES = 24;

/** What is looked for. */
export interface WantedFunction {
  /** Its names in the dynamic symbol table. */
  readonly names: ReadonlySet<string>;
  /** Its resolver, in this file's own numbering, when this is the file that defines it. */
  readonly resolver: bigint | undefined;
}

/**
 * The addresses (the file's own numbering) of words that will hold where a function is.
 * @throws TraplineError `bad-elf`.
 */
export function functionPointers(elf: ElfFile, wanted: WantedFunction): bigint[] {
  const found: bigint[] = [];
  const symbols = dynamicSymbols(elf);
  const named = new Map<number, boolean>();
  const isNamed = (row: number): boolean => {
    if (symbols === undefined || row === 0 || row >= symbols.count) return false;
    const known = named.get(row) ?? wanted.names.has(symbols.name(row));
    named.set(row, known);
    return known;
  };
  for (const table of relocationTables(elf)) {
    const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
    for (let at = 0; at + RELA_BYTES <= table.byteLength; at += RELA_BYTES) {
      const type = view.getUint32(at + 8, true);
      const isWanted =
        type === R_X86_64.indirectRelative
          ? view.getBigInt64(at + 16, true) === wanted.resolver
          : isFunctionPointer(type) && isNamed(view.getUint32(at + 12, true));
      if (isWanted) found.push(view.getBigUint64(at, true));
    }
  }
  return found;
}

function isFunctionPointer(type: number): boolean {
  return type === R_X86_64.jumpSlot || type === R_X86_64.globalData;
}

/** By the dynamic section; a static program that relocates itself has sections only. */
function relocationTables(elf: ElfFile): Uint8Array[] {
  const { dynamic } = elf;
  if (dynamic !== undefined) return [dynamic.relocations, dynamic.linkageRelocations];
  return elf.sections
    .filter(({ type, address }) => type === SHT.rela && address !== 0)
    .map((section) => elf.sectionBytes(section));
}
