/**
 * Names for the entries of the procedure linkage table: `free@plt`, as objdump and gdb write them. An entry is known by
 * its jump through a word of the global offset table, and that word by the relocation that fills it.
 */

import { Buffer } from 'node:buffer';

import { ByteWriter } from '../base/bytes.ts';
import type { Dynamic } from './dynamic.ts';
import type { ElfFile } from './elf.ts';
import type { Section } from './elf-header.ts';
import { fillsWithSymbol, forEachRelocation } from './relocations.ts';
import { SymbolRows, dynamicSymbols, writeRow } from './symbol-rows.ts';

/** What the name of such an entry ends with. */
export const LINKAGE_SUFFIX = '@plt';

/** Names are copied, so a hostile file must not have the same long one in every entry. */
const MAX_NAME_BYTES = 4096;
/** Sections of entries: the lazy table, its second half where branches are tracked (CET), bound ones. */
const SECTIONS = new Set(['.plt', '.plt.sec', '.plt.got', '.plt.bnd']);

/** The file offsets between which all such tables lie, and little else. @throws TraplineError `bad-elf`. */
export function linkageExtent(elf: ElfFile): { readonly start: number; readonly end: number } {
  const sections = linkageSections(elf);
  return {
    start: Math.min(...sections.map(({ offset }) => offset)),
    end: Math.max(...sections.map(({ offset, size }) => offset + size)),
  };
}

/**
 * The entries as rows of a symbol table; undefined when the file has none, or no section headers.
 * @throws TraplineError `bad-elf`.
 */
export function linkageSymbols(elf: ElfFile): SymbolRows | undefined {
  const sections = linkageSections(elf);
  const symbols = dynamicSymbols(elf);
  if (sections.length === 0 || symbols === undefined || elf.dynamic === undefined) return undefined;
  const slots = symbolsOfSlots(elf.dynamic);
  const rows = new ByteWriter();
  const strings = new ByteWriter().u8(0);
  for (const section of sections) {
    const bytes = elf.sectionBytes(section);
    const width = entryWidth(section, bytes);
    for (let at = 0; at + width <= bytes.length; at += width) {
      const slot = slotOf(bytes, at, width, section.address);
      const symbol = slot === undefined ? 0 : (slots.get(slot) ?? 0);
      if (symbol === 0 || symbol >= symbols.count) continue;
      const name = symbols.nameBytes(symbol, MAX_NAME_BYTES);
      if (name === undefined || name.length === 0) continue;
      const address = section.address + at;
      writeRow(rows, { name: strings.length, section: section.index, address, size: width });
      strings.raw(name).raw(Buffer.from(`${LINKAGE_SUFFIX}\0`));
    }
  }
  return new SymbolRows('plt', rows.finish(), strings.finish(), elf);
}

/** The sections that are procedure linkage tables. @throws TraplineError `bad-elf`. */
export function linkageSections(elf: ElfFile): readonly Section[] {
  return elf.sections.filter(({ name }) => SECTIONS.has(name));
}

/** The address of each word that a relocation fills with a symbol → the symbol's row. */
function symbolsOfSlots(dynamic: Dynamic): Map<number, number> {
  const found = new Map<number, number>();
  for (const table of [dynamic.linkageRelocations, dynamic.relocations]) {
    forEachRelocation(table, (kind, word, _, symbol) => {
      if (fillsWithSymbol(kind)) found.set(word, symbol);
    });
  }
  return found;
}

/** Older linkers leave the size of the short entries out, which no landing mark fits in. */
function entryWidth({ name, entrySize }: Section, bytes: Uint8Array): number {
  if (entrySize === 8 || entrySize === 16) return entrySize;
  return name === '.plt.got' && bytes[0] === 0xff ? 8 : 16;
}

const ENDBR64 = [0xf3, 0x0f, 0x1e, 0xfa];

/** The word that an entry jumps through: `endbr64`? `mov $N, %r11d`? `bnd`? `jmp *WORD(%rip)`. */
function slotOf(bytes: Uint8Array, at: number, width: number, address: number): number | undefined {
  let place = at;
  if (ENDBR64.every((byte, index) => bytes[place + index] === byte)) place += 4;
  if (bytes[place] === 0x41 && bytes[place + 1] === 0xbb) place += 6; // mold's entries
  if (bytes[place] === 0xf2) place += 1;
  if (bytes[place] !== 0xff || bytes[place + 1] !== 0x25 || place + 6 > at + width)
    return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return address + place + 6 + view.getInt32(place + 2, true);
}
