/**
 * The rows of one symbol table (gABI, chapter 4, "Symbol Table"), read in place. No string and no
 * object is made before somebody wants one: a table of 150,000 rows is searched in milliseconds.
 */

import { Buffer } from 'node:buffer';

import type { ByteWriter } from '../base/bytes.ts';
import { sectionContents } from './compressed.ts';
import type { ElfFile } from './elf.ts';
import { SHT, type Section, type SectionedFile } from './elf-header.ts';
import { badElf } from './malformed.ts';

/** st_info types (gABI, figure 4-16; 10 is the GNU extension). */
export const STT = { notype: 0, object: 1, func: 2, gnuIfunc: 10 } as const;

const ROW_BYTES = 24;
const TWO_32 = 2 ** 32;
const AT_SIGN = 0x40;

/**
 * Where a symbol stands: in the file's own tables, in its mini symbol table (`.gnu_debugdata`), in its separate debug file,
 * in Go's function table; or it names an entry of the procedure linkage table.
 */
export type SymbolSource = 'symtab' | 'dynsym' | 'debugdata' | 'debug-file' | 'pclntab' | 'plt';

/** One symbol table. Row numbers run from 0 to `count` - 1 and are not checked again. */
export class SymbolRows {
  readonly table: SymbolSource;
  readonly count: number;
  /** The file that has the table, whose sections the rows' section numbers mean. */
  readonly file: SectionedFile;
  /** The string table: a view. */
  readonly strings: Buffer;
  readonly #rows: DataView;
  readonly #source: string;

  constructor(table: SymbolSource, rows: Uint8Array, strings: Uint8Array, file: SectionedFile) {
    this.table = table;
    this.file = file;
    this.count = Math.floor(rows.byteLength / ROW_BYTES);
    this.strings = Buffer.from(strings.buffer, strings.byteOffset, strings.byteLength);
    this.#rows = new DataView(rows.buffer, rows.byteOffset, rows.byteLength);
    this.#source = `${file.name} .${table}`;
  }

  /** Offset of the row's name in {@link strings}; may lie outside in a damaged file. */
  nameOffset(row: number): number {
    return this.#rows.getUint32(row * ROW_BYTES, true);
  }

  /** st_info & 15. */
  type(row: number): number {
    return this.#rows.getUint8(row * ROW_BYTES + 4) & 15;
  }

  /** st_info >> 4: 0 local, 1 global, 2 weak, 10 unique (GNU). */
  binding(row: number): number {
    return this.#rows.getUint8(row * ROW_BYTES + 4) >> 4;
  }

  /** st_shndx. */
  sectionIndex(row: number): number {
    return this.#rows.getUint16(row * ROW_BYTES + 6, true);
  }

  /** st_value, inexact above 2^53 (where nothing can be mapped). */
  address(row: number): number {
    const at = row * ROW_BYTES + 8;
    return this.#rows.getUint32(at, true) + this.#rows.getUint32(at + 4, true) * TWO_32;
  }

  /** st_size, inexact above 2^53. */
  size(row: number): number {
    const at = row * ROW_BYTES + 16;
    return this.#rows.getUint32(at, true) + this.#rows.getUint32(at + 4, true) * TWO_32;
  }

  /** The row's name as the table has it. @throws TraplineError `bad-elf` when it has no end. */
  name(row: number): string {
    const start = this.nameOffset(row);
    const end = start < this.strings.length ? this.strings.indexOf(0, start) : -1;
    if (end < 0) throw badElf(this.#source, `the name of symbol ${row} is outside its table`);
    return this.strings.toString('utf8', start, end);
  }

  /** The bytes of the row's name, a view; undefined when it has more than `limit`, or no end. */
  nameBytes(row: number, limit: number): Uint8Array | undefined {
    const start = this.nameOffset(row);
    const bytes = this.strings.subarray(start, start + limit + 1);
    const end = bytes.indexOf(0);
    return end < 0 ? undefined : bytes.subarray(0, end);
  }

  /**
   * Whether the row's name is `name`, or `name` followed by `@` (linkers write versions so in
   * .symtab). `name` is UTF-8 without a NUL.
   */
  isNamed(row: number, name: Uint8Array): boolean {
    const strings = this.strings;
    const start = this.nameOffset(row);
    const end = start + name.length;
    if (end >= strings.length) return false;
    const terminator = strings[end];
    if (terminator !== 0 && terminator !== AT_SIGN) return false;
    for (let at = 0; at < name.length; at++) {
      if (strings[start + at] !== name[at]) return false;
    }
    return true;
  }
}

/**
 * `.symtab`, by its section header; undefined in a stripped file.
 * @param source what to call it when it is not the file's own.
 * @throws TraplineError `bad-elf`.
 */
export function staticSymbols(
  file: SectionedFile,
  source: SymbolSource = 'symtab',
): SymbolRows | undefined {
  // A debug file has headers of the sections that it left behind, too: those hold nothing.
  const section = file.sections.find(({ type }) => type === SHT.symtab);
  if (section === undefined || section.size === 0) return undefined;
  if (section.entrySize !== ROW_BYTES) {
    throw badElf(`${file.name} .symtab`, `a symbol has ${section.entrySize} bytes, not 24`);
  }
  const strings = file.sections[section.link];
  if (strings === undefined) throw badElf(`${file.name} .symtab`, 'it has no string table');
  const contents = (one: Section): Uint8Array => sectionContents(file, one);
  return new SymbolRows(source, contents(section), contents(strings), file);
}

/** `.dynsym`, by PT_DYNAMIC; undefined in a static file. @throws TraplineError `bad-elf`. */
export function dynamicSymbols(elf: ElfFile): SymbolRows | undefined {
  const dynamic = elf.dynamic;
  if (dynamic === undefined || dynamic.symbols.byteLength === 0) return undefined;
  return new SymbolRows('dynsym', dynamic.symbols, dynamic.strings, elf);
}

const GLOBAL_FUNCTION = (1 << 4) | STT.func;

/** Writes the row of a global function, for tables that are made here. */
export function writeRow(
  rows: ByteWriter,
  row: {
    /** Offset in the strings. */
    readonly name: number;
    readonly section: number;
    readonly address: number;
    readonly size: number;
  },
): void {
  rows.u32(row.name).u8(GLOBAL_FUNCTION).u8(0).u16(row.section);
  rows.u64(BigInt(row.address)).u64(BigInt(row.size));
}
