/** All code of a file that is known to be a function. */

import type { ElfFile } from '../../src/symbols/elf.ts';
import { functionIndex } from '../../src/symbols/function-index.ts';
import { symbolSources } from '../../src/symbols/symbol-sources.ts';
import { unwindTables } from '../../src/symbols/unwind.ts';

/** A function's extent, in file offsets. */
export interface FunctionExtent {
  readonly start: number;
  readonly end: number;
}

/** Every function that symbols, unwind tables or the linkage table know, by start; the longest where several start. */
export function allFunctions(elf: ElfFile): FunctionExtent[] {
  const ends = new Map<number, number>();
  const add = (start: number, end: number): void => {
    if (start >= 0 && end > start) ends.set(start, Math.max(end, ends.get(start) ?? 0));
  };
  for (const index of [functionIndex(elf), symbolSources(elf).linkage]) {
    index?.order.offsets.forEach((start, at) => add(start, index.order.ends[at] ?? 0));
  }
  for (const frame of unwindTables(elf).all()) {
    add(elf.loads.offsetOf(frame.start), elf.loads.offsetOf(frame.end - 1) + 1);
  }
  const all = [...ends].map(([start, end]) => ({ start, end }));
  return all.sort((one, other) => one.start - other.start);
}
