/** Functions that the compiler has cut in parts: what is hardly ever executed lies elsewhere, as a function of its own. */

import type { ElfFile } from './elf.ts';
import type { FunctionBounds } from './function-bounds.ts';
import { symbolSources } from './symbol-sources.ts';

/** What gcc and LLVM call such parts: `f.cold`, `f.cold.1`. */
const COLD = /\.cold(?:\.|$)/;

/**
 * Whether a symbol names what begins there, and not as a part of something else. What only the unwind tables know
 * may be such a part.
 * @throws TraplineError `bad-elf`.
 */
export function isWholeFunction(elf: ElfFile, { start, source }: FunctionBounds): boolean {
  if (source !== 'symbol') return false;
  const { own, opened } = symbolSources(elf);
  // In the order of functionBounds: a symbol of a debug file may be the only one to say that it is a part.
  for (const index of [own, ...opened]) {
    const names = index.namesAt(start);
    if (names.length > 0) return !names.some((name) => COLD.test(name));
  }
  return true; // an entry of the procedure linkage table
}
