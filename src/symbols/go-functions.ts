/**
 * Go's function table (pclntab), which a stripped program keeps, since its own stack traces come from it. The layouts are those of
 * runtime/symtab.go and cmd/link/internal/ld/pcln.go from Go 1.2 on; the magic number tells which.
 */

import { Buffer } from 'node:buffer';

import { ByteWriter, type ByteReader } from '../base/bytes.ts';
import type { ElfFile } from './elf.ts';
import { PT, type Section } from './elf-header.ts';
import { badElf, elfReader, sliceOf } from './malformed.ts';
import { relativeRelocations } from './relocated-words.ts';
import { SymbolRows, writeRow } from './symbol-rows.ts';

/** Magic numbers: Go 1.2, 1.16, 1.18, 1.20. */
const MAGIC = { first: 0xfffffffb, split: 0xfffffffa, relative: 0xfffffff0, newest: 0xfffffff1 };
const POINTER_BYTES = 8;
/** What the linker fills gaps between functions with (int3), and how long a gap can be. */
const FILLER = 0xcc;
const MAX_FILLER = 63;
/** Places in the module data (runtime.moduledata: pointer, six slices, a word, the first and the last function, text). */
const MODULE_FIRST = 8 + 6 * 24 + 8;
const MODULE_TEXT = MODULE_FIRST + 2 * 8;
const MODULE_BYTES = MODULE_TEXT + 8;

/** A function table whose header was read. */
export interface GoFunctionTable {
  /** Number of functions. */
  readonly count: number;
  /** Start of the function at an index; at `count`: the end of the text. */
  readonly startOf: (index: number) => number;
  /** The name's offset in {@link names}. @throws TraplineError `bad-elf`. */
  readonly nameOf: (index: number) => number;
  /** NUL-terminated names. */
  readonly names: Uint8Array;
}

/**
 * Reads the header of the function table.
 * @returns undefined when the file has none that is known, or does not say where its text starts.
 * @throws TraplineError `bad-elf`.
 */
export function goFunctionTable(elf: ElfFile): GoFunctionTable | undefined {
  const section = elf.section('.gopclntab') ?? elf.section('.data.rel.ro.gopclntab');
  if (section === undefined) return undefined;
  const bytes = elf.sectionBytes(section);
  const reader = elfReader(bytes, `${elf.name} ${section.name}`);
  const magic = reader.u32();
  reader.skip(3); // two zeros, and the smallest instruction's size, which is 1 here (runtime/symtab.go, pcHeader)
  if (reader.u8() !== POINTER_BYTES) return undefined;
  const file = { elf, section, bytes, count: reader.size() };
  if (magic === MAGIC.first) {
    return absoluteTable({ ...file, table: reader.offset, records: 0, names: bytes });
  }
  if (magic !== MAGIC.split && magic !== MAGIC.relative && magic !== MAGIC.newest) return undefined;
  reader.skip(POINTER_BYTES);
  const start = magic === MAGIC.split ? 0 : textStart(elf, section, reader);
  if (start === undefined) return undefined;
  const names = bytes.subarray(reader.size());
  reader.skip(3 * POINTER_BYTES);
  const table = reader.size();
  const layout = { ...file, table, records: table, names };
  return magic === MAGIC.split ? absoluteTable(layout) : relativeTable(layout, start);
}

interface Layout {
  readonly elf: ElfFile;
  readonly section: Section;
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Where the pairs of starts and record offsets begin, in the section. */
  readonly table: number;
  /** What record offsets count from, in the section. */
  readonly records: number;
  readonly names: Uint8Array;
}

/** Up to 1.17: pairs of words, starts as addresses. A function's record begins with its address. */
function absoluteTable(layout: Layout): GoFunctionTable {
  const { elf, section, count, table, records, names } = layout;
  const pairs = pairsOf(layout, POINTER_BYTES);
  const nameAt = nameReader(layout);
  // In a PIE the file may hold zeros where the loader writes addresses.
  const relocated = relativeRelocations(elf, section.address + table, pairs.byteLength);
  return {
    count,
    names,
    startOf: (index) =>
      relocated.get(section.address + table + index * 16) ??
      Number(pairs.getBigUint64(index * 16, true)),
    nameOf: (index) =>
      nameAt(records + Number(pairs.getBigUint64(index * 16 + 8, true)) + POINTER_BYTES),
  };
}

/** Since 1.18: pairs of 32-bit offsets, from the start of the text and of the table. */
function relativeTable(layout: Layout, start: number): GoFunctionTable {
  const { count, records, names } = layout;
  const pairs = pairsOf(layout, 4);
  const nameAt = nameReader(layout);
  return {
    count,
    names,
    startOf: (index) => start + pairs.getUint32(index * 8, true),
    nameOf: (index) => nameAt(records + pairs.getUint32(index * 8 + 4, true) + 4),
  };
}

/** The pairs, and the end of the text behind them. */
function pairsOf({ elf, section, bytes, count, table }: Layout, width: number): DataView {
  const size = (2 * count + 1) * width;
  const part = sliceOf(bytes, table, size, `${elf.name} ${section.name}`);
  return new DataView(part.buffer, part.byteOffset, part.byteLength);
}

/** Reads a record's name offset at a place of the section. */
function nameReader({ elf, section, bytes }: Layout): (at: number) => number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return (at) => {
    if (at + 4 <= bytes.byteLength) return view.getUint32(at, true);
    throw badElf(`${elf.name} ${section.name}`, `a function's record lies outside, at ${at}`);
  };
}

/** By the header, or, where newer linkers write 0 there, by the module data that point to the table. */
function textStart(elf: ElfFile, section: Section, reader: ByteReader): number | undefined {
  const place = section.address + reader.offset;
  const written = reader.size();
  const start = relativeRelocations(elf, place, POINTER_BYTES).get(place) ?? written;
  return start === 0 ? textOfModule(elf, section.address) : start;
}

function textOfModule(elf: ElfFile, table: number): number | undefined {
  for (const header of elf.programHeaders) {
    if (header.type !== PT.load || header.fileSize < MODULE_BYTES) continue;
    const bytes = elf.segmentBytes(header, 'segment');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // In a PIE the file may hold zeros where the loader writes addresses.
    const relocated = relativeRelocations(elf, header.address, header.fileSize);
    const wordAt = (at: number): number =>
      relocated.get(header.address + at) ?? Number(view.getBigUint64(at, true));
    for (const at of placesOf(table, bytes, relocated, header.address)) {
      if (at + MODULE_BYTES > bytes.byteLength) continue;
      const text = wordAt(at + MODULE_TEXT);
      // The first function begins the text: what says otherwise is something else.
      if (wordAt(at + MODULE_FIRST) !== text) continue;
      if (elf.loads.segmentOf(text)?.executable === true) return text;
    }
  }
  return undefined;
}

/** The offsets of all aligned words that hold, or will hold, an address. */
function* placesOf(
  address: number,
  bytes: Uint8Array,
  relocated: ReadonlyMap<number, number>,
  base: number,
): Generator<number> {
  for (const [place, target] of relocated) if (target === address) yield place - base;
  const wanted = new Uint8Array(new BigUint64Array([BigInt(address)]).buffer);
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = all.indexOf(wanted); at >= 0; at = all.indexOf(wanted, at + 1)) {
    if (at % POINTER_BYTES === 0) yield at;
  }
}

/**
 * Go's functions as rows of a symbol table; undefined when there is no function table.
 * @throws TraplineError `bad-elf`.
 */
export function goSymbols(elf: ElfFile): SymbolRows | undefined {
  const table = goFunctionTable(elf);
  if (table === undefined) return undefined;
  const rows = new ByteWriter(table.count * 24 + 1);
  // One for all: sizes are known, so nobody asks which section it really is.
  const section = Math.max(1, sectionOf(elf, table.startOf(0)));
  for (let index = 0; index < table.count; index++) {
    const address = table.startOf(index);
    const size = sizeWithoutFiller(elf, address, table.startOf(index + 1));
    if (size <= 0) continue;
    writeRow(rows, { name: table.nameOf(index), section, address, size });
  }
  return new SymbolRows('pclntab', rows.finish(), table.names, elf);
}

function sectionOf(elf: ElfFile, address: number): number {
  return elf.sections.findIndex(
    (section) => address >= section.address && address - section.address < section.size,
  );
}

/** The table has starts only: what the linker put before the next one does not belong to the function. */
function sizeWithoutFiller(elf: ElfFile, start: number, end: number): number {
  const segment = elf.loads.segmentOf(start);
  if (segment === undefined || !(end > start) || end - segment.address > segment.fileSize) return 0;
  const offset = segment.offset - segment.address;
  let last = end;
  const least = Math.max(start + 1, end - MAX_FILLER);
  while (last > least && elf.bytes[offset + last - 1] === FILLER) last--;
  return last - start;
}
