/**
 * Which rows of symbol tables are functions, and the same rows in order of their place in the file. Rows
 * of all tables of an index share one numbering, table after table ("ids").
 */

import { TraplineError } from '../base/errors.ts';
import { lowerBound } from '../base/sorted.ts';
import type { ElfFile } from './elf.ts';
import { SHF_EXECINSTR, SHN_LORESERVE, SHN_UNDEF, type SectionedFile } from './elf-header.ts';
import { STT, SymbolRows, dynamicSymbols, staticSymbols } from './symbol-rows.ts';

/**
 * What kind of function a symbol names. `assembly`: code without a type (STT_NOTYPE). `plt`: the entry of the
 * procedure linkage table by which this file calls a function of another.
 */
export type FunctionKind = 'function' | 'ifunc' | 'assembly' | 'plt';

const SHN_ABS = 0xfff1;
const SHN_XINDEX = 0xffff;

/** The functions of one file by some of its tables. Those of one file come from {@link functionIndex}. */
export class FunctionIndex {
  readonly elf: ElfFile;
  readonly tables: readonly SymbolRows[];
  readonly #starts: readonly number[];
  /** For each table and section of its file: the section's end address when it holds code, else 0. */
  readonly #codeEnds: ReadonlyMap<SymbolRows, Float64Array>;
  #order: OrderedFunctions | undefined;

  /** @param elf the file that is mapped, whose addresses all tables give. */
  constructor(elf: ElfFile, tables: readonly (SymbolRows | undefined)[]) {
    this.elf = elf;
    this.tables = tables.filter((table) => table !== undefined);
    const starts: number[] = [];
    let total = 0;
    for (const table of this.tables) {
      starts.push(total);
      total += table.count;
    }
    this.#starts = starts;
    this.#codeEnds = new Map(this.tables.map((table) => [table, codeEnds(table.file)]));
  }

  /** The table and row of an id. */
  locate(id: number): { rows: SymbolRows; row: number } {
    for (let at = this.tables.length - 1; at >= 0; at--) {
      const rows = this.tables[at];
      const start = this.#starts[at] ?? 0;
      if (rows !== undefined && id >= start) return { rows, row: id - start };
    }
    throw new TraplineError({ code: 'internal', message: `internal error: no symbol ${id}` });
  }

  /** The id of a row. */
  idOf(rows: SymbolRows, row: number): number {
    return (this.#starts[this.tables.indexOf(rows)] ?? 0) + row;
  }

  /** The file offset of the function that a row defines, or -1 when it defines none. */
  functionOffset(rows: SymbolRows, row: number): number {
    const type = rows.type(row);
    if (type !== STT.func && type !== STT.gnuIfunc && type !== STT.notype) return -1;
    const section = rows.sectionIndex(row);
    if (section === SHN_UNDEF) return -1;
    const address = rows.address(row);
    if (type === STT.notype && !this.#isCode(rows, row, section, address)) return -1;
    const segment = this.elf.loads.segmentOf(address);
    if (segment === undefined || !segment.executable) return -1;
    return segment.offset + (address - segment.address);
  }

  /** Untyped symbols are functions only inside a section of code, and not as marks of its end. */
  #isCode(rows: SymbolRows, row: number, section: number, address: number): boolean {
    if (rows.nameOffset(row) === 0 || section === SHN_ABS) return false;
    if (section >= SHN_LORESERVE) return section === SHN_XINDEX;
    const ends = this.#codeEnds.get(rows);
    return ends === undefined || ends.length === 0 || address < (ends[section] ?? 0);
  }

  /** Where the code of the section or segment around a row's address ends, as a file offset. */
  codeEnd(rows: SymbolRows, row: number, offset: number): number {
    const segment = this.elf.loads.segmentAtOffset(offset);
    if (segment === undefined) return offset;
    const segmentEnd = segment.offset + segment.fileSize;
    const end = this.#codeEnds.get(rows)?.[rows.sectionIndex(row)] ?? 0;
    const sectionEnd = segment.offset + (end - segment.address);
    return sectionEnd > offset ? Math.min(sectionEnd, segmentEnd) : segmentEnd;
  }

  /** The names of the functions that begin at a byte of the file. @throws TraplineError `bad-elf`. */
  namesAt(offset: number): string[] {
    const { ids, offsets } = this.order;
    const names: string[] = [];
    for (let at = lowerBound(offsets, offset); offsets[at] === offset; at++) {
      const { rows, row } = this.locate(ids[at] ?? 0);
      names.push(rows.name(row));
    }
    return names;
  }

  /** All functions by file offset; built at the first call. */
  get order(): OrderedFunctions {
    this.#order ??= orderFunctions(this);
    return this.#order;
  }
}

/** Parallel arrays, one element for each function symbol, by file offset and then id. */
export interface OrderedFunctions {
  readonly ids: Uint32Array;
  readonly offsets: Float64Array;
  /** Where each ends (file offsets): by its size, else by the next symbol or its section. */
  readonly ends: Float64Array;
  /** The largest of all `ends` up to and with this one: bounds a search for what covers a byte. */
  readonly reach: Float64Array;
}

const indexes = new WeakMap<ElfFile, FunctionIndex>();

function codeEnds(file: SectionedFile): Float64Array {
  return Float64Array.from(file.sections, (section) =>
    (section.flags & SHF_EXECINSTR) === 0 ? 0 : section.address + section.size,
  );
}

/** The index of a file's own two tables, made at the first call and kept as long as the file. */
export function functionIndex(elf: ElfFile): FunctionIndex {
  let index = indexes.get(elf);
  if (index === undefined) {
    index = new FunctionIndex(elf, [staticSymbols(elf), dynamicSymbols(elf)]);
    indexes.set(elf, index);
  }
  return index;
}

function orderFunctions(index: FunctionIndex): OrderedFunctions {
  const total = index.tables.reduce((sum, table) => sum + table.count, 0);
  if (!Number.isSafeInteger(index.elf.bytes.byteLength * total)) {
    throw new TraplineError({
      code: 'limit',
      message: `${index.elf.name} has too many symbols (${total})`,
    });
  }
  // One number holds offset and id: sorting numbers natively is three times faster than by callback.
  const keys = new Float64Array(total);
  const knownEnds = new Float64Array(total);
  let count = 0;
  let id = 0;
  for (const rows of index.tables) {
    for (let row = 0; row < rows.count; row++, id++) {
      const offset = index.functionOffset(rows, row);
      if (offset < 0) continue;
      keys[count++] = offset * total + id;
      knownEnds[id] = offset + knownSize(index, rows, row, offset);
    }
  }
  const sorted = keys.subarray(0, count).sort();
  const ids = new Uint32Array(count);
  const offsets = new Float64Array(count);
  for (let at = 0; at < count; at++) {
    const key = sorted[at] ?? 0;
    const offset = Math.floor(key / total);
    offsets[at] = offset;
    ids[at] = key - offset * total;
  }
  return { ids, offsets, ...findEnds(index, ids, offsets, knownEnds) };
}

function findEnds(
  index: FunctionIndex,
  ids: Uint32Array,
  offsets: Float64Array,
  knownEnds: Float64Array,
): { ends: Float64Array; reach: Float64Array } {
  const ends = new Float64Array(ids.length);
  let next = Infinity;
  for (let at = ids.length - 1; at >= 0; at--) {
    const offset = offsets[at] ?? 0;
    const id = ids[at] ?? 0;
    const following = offsets[at + 1] ?? Infinity;
    if (following > offset) next = following;
    const knownEnd = knownEnds[id] ?? 0;
    ends[at] = knownEnd > offset ? knownEnd : estimatedEnd(index, id, offset, next);
  }
  const reach = new Float64Array(ids.length);
  let highest = 0;
  for (let at = 0; at < ids.length; at++) {
    highest = Math.max(highest, ends[at] ?? 0);
    reach[at] = highest;
  }
  return { ends, reach };
}

/** By the next symbol or the end of the code around it. */
function estimatedEnd(index: FunctionIndex, id: number, offset: number, next: number): number {
  const { rows, row } = index.locate(id);
  return Math.min(next, index.codeEnd(rows, row, offset));
}

/** The symbol's own size in bytes, or 0 when it has none or one that its segment can't hold. */
export function knownSize(
  index: FunctionIndex,
  rows: SymbolRows,
  row: number,
  offset: number,
): number {
  const size = rows.size(row);
  if (size === 0) return 0;
  const segment = index.elf.loads.segmentAtOffset(offset);
  if (segment === undefined) return 0;
  return size <= segment.offset + segment.fileSize - offset ? size : 0;
}
