/** Where the function around a byte of the file begins and ends. */

import { fileOffset, type FileOffset } from '../base/brand.ts';
import type { ElfFile } from './elf.ts';
import { functionIndex, knownSize, lowerBound } from './function-index.ts';
import { STT } from './symbol-rows.ts';
import { unwindTables } from './unwind.ts';

/** A function's extent in the file, and who says so. */
export interface FunctionBounds {
  readonly start: FileOffset;
  /** The first byte behind it. */
  readonly end: FileOffset;
  readonly source: 'symbol' | 'fde';
}

/**
 * The bounds of the function that covers `offset`: by a symbol with a size (the innermost), else
 * by the unwind tables. Part of a function that the compiler moved away (`.cold`) counts as one of
 * its own.
 * @returns undefined when neither knows.
 * @throws TraplineError `bad-elf`.
 */
export function functionBounds(elf: ElfFile, offset: FileOffset): FunctionBounds | undefined {
  return boundsBySymbol(elf, offset) ?? boundsByFrame(elf, offset);
}

function boundsBySymbol(elf: ElfFile, offset: FileOffset): FunctionBounds | undefined {
  const index = functionIndex(elf);
  const { ids, offsets, reach } = index.order;
  for (let at = lowerBound(offsets, offset + 1) - 1; at >= 0; at--) {
    if ((reach[at] ?? 0) <= offset) return undefined;
    const start = offsets[at] ?? 0;
    const { rows, row } = index.locate(ids[at] ?? 0);
    const size = rows.type(row) === STT.notype ? 0 : knownSize(index, rows, row, start);
    if (start + size > offset) {
      return { start: fileOffset(start), end: fileOffset(start + size), source: 'symbol' };
    }
  }
  return undefined;
}

/** The bounds by the unwind tables alone. @throws TraplineError `bad-elf`. */
export function boundsByFrame(elf: ElfFile, offset: FileOffset): FunctionBounds | undefined {
  const address = elf.loads.addressOf(offset);
  const frame = address < 0 ? undefined : unwindTables(elf).find(address);
  if (frame === undefined) return undefined;
  const start = elf.loads.offsetOf(frame.start);
  const end = elf.loads.offsetOf(frame.end - 1);
  if (start < 0 || end < start) return undefined;
  return { start: fileOffset(start), end: fileOffset(end + 1), source: 'fde' };
}
