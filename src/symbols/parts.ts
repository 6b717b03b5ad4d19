/** Functions that the compiler has cut in parts: what is hardly ever executed lies elsewhere, as a function of its own. */

import type { FileOffset } from '../base/brand.ts';
import type { ElfFile } from './elf.ts';
import type { FunctionBounds } from './function-bounds.ts';
import { lowerBound } from './function-index.ts';
import { symbolSources } from './symbol-sources.ts';

/** What gcc and LLVM call such parts: `f.cold`, `f.cold.1`. */
const COLD = /\.cold(?:\.|$)/;

/**
 * Whether a symbol names what begins there, and not as a part of something else. What only the unwind tables know
 * may be such a part.
 */
export function isWholeFunction(elf: ElfFile, { start, source }: FunctionBounds): boolean {
  return source === 'symbol' && !namesAt(elf, start).some((name) => COLD.test(name));
}

function namesAt(elf: ElfFile, start: FileOffset): string[] {
  const index = symbolSources(elf).own;
  const { ids, offsets } = index.order;
  const names: string[] = [];
  for (let at = lowerBound(offsets, start); offsets[at] === start; at++) {
    const { rows, row } = index.locate(ids[at] ?? 0);
    names.push(rows.name(row));
  }
  return names;
}
