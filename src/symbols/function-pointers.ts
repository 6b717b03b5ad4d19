/**
 * Words in which the dynamic linker keeps the address of a function that it looked up: where an IFUNC
 * was resolved, they tell to which implementation.
 */

import { SHT } from './elf-header.ts';
import type { ElfFile } from './elf.ts';
import { fillsWithSymbol, forEachRelocation, RELOCATION } from './relocations.ts';
import { dynamicSymbols } from './symbol-rows.ts';

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
  const resolver = wanted.resolver === undefined ? undefined : Number(wanted.resolver);
  for (const table of relocationTables(elf)) {
    forEachRelocation(table, (kind, word, addend, symbol) => {
      const isWanted =
        kind === RELOCATION.indirectRelative
          ? addend === resolver
          : fillsWithSymbol(kind) && isNamed(symbol);
      if (isWanted) found.push(BigInt(word));
    });
  }
  return found;
}

/** By the dynamic section; a static program that relocates itself has sections only. */
function relocationTables(elf: ElfFile): Uint8Array[] {
  const { dynamic } = elf;
  if (dynamic !== undefined) return [dynamic.relocations, dynamic.linkageRelocations];
  return elf.sections
    .filter(({ type, address }) => type === SHT.rela && address !== 0)
    .map((section) => elf.sectionBytes(section));
}
