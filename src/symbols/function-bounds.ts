/** Where the function around a byte of the file begins and ends. */

import { fileOffset, type FileOffset } from '../base/brand.ts';
import { lowerBound } from '../base/sorted.ts';
import { SHT } from './elf-header.ts';
import type { ElfFile } from './elf.ts';
import { knownSize, type FunctionIndex } from './function-index.ts';
import { symbolSources } from './symbol-sources.ts';
import { STT } from './symbol-rows.ts';
import { unwindTables } from './unwind.ts';

/** A function's extent in the file, and who says so. */
export interface FunctionBounds {
  readonly start: FileOffset;
  /** The first byte behind it. */
  readonly end: FileOffset;
  /** `fde`: the unwind tables. `section`: one that holds a single function. */
  readonly source: 'symbol' | 'fde' | 'section';
}

/**
 * The bounds of the function that covers `offset`: by a symbol with a size (the innermost), else
 * by the unwind tables, else by Go's function table, and by symbols of a debug file that a search for names opened
 * already; at last by symbols of functions that tell no size, up to the next one, and by the sections that hold one
 * function each (`.init`, `.fini`). Part of a function that the compiler moved away (`.cold`) counts as one of its
 * own, and so does each entry of the procedure linkage table.
 * @returns undefined when none of them knows.
 * @throws TraplineError `bad-elf`.
 */
export function functionBounds(elf: ElfFile, offset: FileOffset): FunctionBounds | undefined {
  const sources = symbolSources(elf);
  const own = boundsBySymbol(sources.own, offset);
  if (own !== undefined) return own;
  const linkage = sources.linkageAt(offset);
  const entry = linkage && boundsBySymbol(linkage, offset);
  if (entry !== undefined) return entry;
  const frame = boundsByFrame(elf, offset);
  if (frame !== undefined) return frame;
  for (const index of sources.opened) {
    const bounds = boundsBySymbol(index, offset);
    if (bounds !== undefined) return bounds;
  }
  return boundsByNext(sources.own, offset) ?? boundsBySection(elf, offset);
}

/** Of a function whose symbol has no size: crt files and assembly. Its code goes on to the next symbol at most. */
function boundsByNext(index: FunctionIndex, offset: FileOffset): FunctionBounds | undefined {
  const { ids, offsets, ends } = index.order;
  const last = lowerBound(offsets, offset + 1) - 1;
  const start = offsets[last] ?? Infinity;
  for (let at = last; offsets[at] === start; at--) {
    const { rows, row } = index.locate(ids[at] ?? 0);
    const end = ends[at] ?? 0;
    if (rows.type(row) === STT.notype || rows.size(row) !== 0 || end <= offset) continue;
    return { start: fileOffset(start), end: fileOffset(end), source: 'symbol' };
  }
  return undefined;
}

/** gABI, "Initialization and Termination Functions": DT_INIT and DT_FINI, each alone in its section. */
const FUNCTION_SECTIONS: ReadonlySet<string> = new Set(['.init', '.fini']);

function boundsBySection(elf: ElfFile, offset: FileOffset): FunctionBounds | undefined {
  const section = elf.sections.find(
    (one) =>
      FUNCTION_SECTIONS.has(one.name) &&
      one.type !== SHT.nobits &&
      offset >= one.offset &&
      offset < one.offset + one.size,
  );
  if (section === undefined) return undefined;
  const { offset: start, size } = section;
  return { start: fileOffset(start), end: fileOffset(start + size), source: 'section' };
}

function boundsBySymbol(index: FunctionIndex, offset: FileOffset): FunctionBounds | undefined {
  const { offsets, reach } = index.order;
  for (let at = lowerBound(offsets, offset + 1) - 1; at >= 0; at--) {
    if ((reach[at] ?? 0) <= offset) return undefined;
    const bounds = boundsOf(index, at);
    if (bounds.end > offset) return bounds;
  }
  return undefined;
}

/** By the size that the symbol at a position of the order tells: nothing, if it tells none. */
function boundsOf(index: FunctionIndex, at: number): FunctionBounds {
  const { ids, offsets } = index.order;
  const start = offsets[at] ?? 0;
  const { rows, row } = index.locate(ids[at] ?? 0);
  const size = rows.type(row) === STT.notype ? 0 : knownSize(index, rows, row, start);
  return { start: fileOffset(start), end: fileOffset(start + size), source: 'symbol' };
}

/**
 * The functions that share bytes with one: where another symbol lies within a function, each has the other's code as its own.
 * @throws TraplineError `bad-elf`.
 */
export function overlapping(elf: ElfFile, { start, end }: FunctionBounds): FunctionBounds[] {
  const index = symbolSources(elf).own;
  const { offsets, reach } = index.order;
  const found = new Map<string, FunctionBounds>();
  const add = (bounds: FunctionBounds): void => {
    if (bounds.start === start && bounds.end === end) return;
    found.set(`${bounds.start} ${bounds.end}`, bounds);
  };
  for (let at = lowerBound(offsets, end) - 1; (reach[at] ?? 0) > start; at--) {
    const bounds = boundsOf(index, at);
    if (bounds.end > Math.max(start, bounds.start)) add(bounds);
  }
  const frame = boundsByFrame(elf, start);
  if (frame !== undefined) add(frame);
  return [...found.values()];
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
