/** Functions that have no name, by the unwind tables: every compiled function is there, so that exceptions can pass it. */

import { fileOffset, type FileOffset } from '../base/brand.ts';
import { lowerBound } from '../base/sorted.ts';
import type { ElfFile } from './elf.ts';
import type { FunctionSymbol } from './function-symbol.ts';
import { linkageSections } from './linkage-table.ts';
import { unwindTables } from './unwind.ts';

/** A function, or a part of one that the compiler moved away. */
export interface UnnamedFunction {
  readonly offset: FileOffset;
  /** In bytes. */
  readonly size: number;
}

/**
 * The functions of the unwind tables that begin inside none of `known` (sorted by offset), by offset.
 * @throws TraplineError `bad-elf`.
 */
export function unnamedFunctions(
  elf: ElfFile,
  known: readonly FunctionSymbol[],
): UnnamedFunction[] {
  const starts = Float64Array.from(known, ({ offset }) => offset);
  let highest = 0;
  // Up to and with each function: the end of all of them, so that one search answers.
  const reach = Float64Array.from(known, ({ offset, size, sizeKnown }) => {
    highest = Math.max(highest, offset + (sizeKnown ? size : 1));
    return highest;
  });
  const linkage = linkageSections(elf);
  const found = new Map<number, UnnamedFunction>();
  for (const { start, end } of unwindTables(elf).all()) {
    const offset = elf.loads.offsetOf(start);
    const segment = elf.loads.segmentOf(start);
    if (offset < 0 || segment?.executable !== true || end <= start) continue;
    if (linkage.some(({ address, size }) => start >= address && start < address + size)) continue;
    const before = lowerBound(starts, offset + 1) - 1;
    if (before >= 0 && (reach[before] ?? 0) > offset) continue;
    const size = Math.min(end - start, segment.address + segment.fileSize - start);
    found.set(offset, { offset: fileOffset(offset), size });
  }
  return [...found.values()].sort((a, b) => a.offset - b.offset);
}
