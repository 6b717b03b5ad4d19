/**
 * The rows of one symbol table (gABI, chapter 4, "Symbol Table"), read in place. No string and no
 * object is made before somebody wants one: a table of 150,000 rows is searched in milliseconds.
 */

import { Buffer } from 'node:buffer';

import type { ElfFile } from './elf.ts';
import { SHT } from './elf-header.ts';
import { badElf } from './malformed.ts';

/** st_info types (gABI, figure 4-16; 10 is the GNU extension). */
export const STT = { notype: 0, object: 1, func: 2, gnuIfunc: 10 } as const;

const ROW_BYTES = 24;
const TWO_32 = 2 ** 32;
const AT_SIGN = 0x40;

/** One symbol table. Row numbers run from 0 to `count` - 1 and are not checked again. */
export class SymbolRows {
  readonly table: 'symtab' | 'dynsym';
  readonly count: number;
  /** The string table: a view. */
  readonly strings: Buffer;
  readonly #rows: DataView;
  readonly #source: string;

  constructor(table: 'symtab' | 'dynsym', rows: Uint8Array, strings: Uint8Array, fileName: string) {
    this.table = table;
    this.count = Math.floor(rows.byteLength / ROW_BYTES);
    this.strings = Buffer.from(strings.buffer, strings.byteOffset, strings.byteLength);
    this.#rows = new DataView(rows.buffer, rows.byteOffset, rows.byteLength);
    this.#source = `${fileName} .${table}`;
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
 * @throws TraplineError `bad-elf`.
 */
export function staticSymbols(elf: ElfFile): SymbolRows | undefined {
  const section = elf.sections.find(({ type }) => type === SHT.symtab);
  if (section === undefined || section.size === 0) return undefined;
  if (section.entrySize !== ROW_BYTES) {
    throw badElf(`${elf.name} .symtab`, `a symbol has ${section.entrySize} bytes, not 24`);
  }
  const strings = elf.sections[section.link];
  if (strings === undefined) throw badElf(`${elf.name} .symtab`, 'it has no string table');
  return new SymbolRows('symtab', elf.sectionBytes(section), elf.sectionBytes(strings), elf.name);
}

/** `.dynsym`, by PT_DYNAMIC; undefined in a static file. @throws TraplineError `bad-elf`. */
export function dynamicSymbols(elf: ElfFile): SymbolRows | undefined {
  const dynamic = elf.dynamic;
  if (dynamic === undefined || dynamic.symbols.byteLength === 0) return undefined;
  return new SymbolRows('dynsym', dynamic.symbols, dynamic.strings, elf.name);
}
