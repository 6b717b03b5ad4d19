/** The function that a dynamic linker calls for debuggers when its list of libraries has changed. */

import { Buffer } from 'node:buffer';

import { fileOffset, type FileOffset } from '../base/brand.ts';
import type { ElfFile } from './elf.ts';
import { dynamicSymbols, type SymbolRows } from './symbol-rows.ts';

/** What a dynamic linker has for debuggers. */
export interface LinkerHook {
  /**
   * Of `_dl_debug_state`, which is empty: glibc (elf/dl-debug.c; dl-open.c calls it when all is mapped and nothing
   * relocated, dl-close.c when all is unmapped) and musl (ldso/dynlink.c, before initialisers) have it.
   */
  readonly offset: FileOffset;
  /**
   * How far behind the function the word `_r_debug.r_state` lies (<link.h>): not 0, RT_CONSISTENT, while libraries
   * are about to be mapped or unmapped. Undefined where the linker has no such symbol.
   */
  readonly state: bigint | undefined;
}

/** Of struct r_debug: an int, padded, and two pointers stand before it. */
const STATE_OFFSET = 24n;

/**
 * Finds it among a file's dynamic symbols.
 * @returns undefined for a file that is no dynamic linker.
 * @throws TraplineError `bad-elf`.
 */
export function linkerHook(elf: ElfFile): LinkerHook | undefined {
  const rows = dynamicSymbols(elf);
  const called = rows && addressOf(rows, '_dl_debug_state');
  if (rows === undefined || called === undefined) return undefined;
  const offset = elf.loads.offsetOf(called);
  if (offset < 0) return undefined;
  const state = addressOf(rows, '_r_debug');
  // The symbol table's numbers are whole, and far below 2^53.
  const distance = state === undefined ? undefined : BigInt(state - called) + STATE_OFFSET;
  return { offset: fileOffset(offset), state: distance };
}

function addressOf(rows: SymbolRows, symbol: string): number | undefined {
  const name = Buffer.from(symbol);
  for (let row = 0; row < rows.count; row++) {
    if (rows.isNamed(row, name) && rows.sectionIndex(row) !== 0) return rows.address(row);
  }
  return undefined;
}
