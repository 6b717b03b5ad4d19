/** The ELF header and the two tables it points to (System V gABI, chapters 4 and 5). */

import { TraplineError } from '../base/errors.ts';
import { badElf, elfReader, type Slice } from './malformed.ts';

/** What the ELF header says, for x86-64 files only. */
export interface ElfHeader {
  /**
   * `fixed`: ET_EXEC, linked for one address. `shared`: ET_DYN, a library or a PIE program. `object`: ET_REL, which is what
   * `dwz` makes its common files.
   */
  readonly type: 'fixed' | 'shared' | 'object';
  /** The address in the file's own numbering where the program starts; 0 if it has no start. */
  readonly entry: bigint;
  readonly programHeaderOffset: number;
  readonly programHeaderCount: number;
  /** 0 when the file has no section headers. */
  readonly sectionHeaderOffset: number;
  readonly sectionHeaderCount: number;
  readonly sectionNamesIndex: number;
}

/** One program header. Addresses and sizes in bytes, all below 2^53 (checked). */
export interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly alignment: number;
}

/** One section header. Addresses and sizes in bytes, all below 2^53 (checked). */
export interface Section {
  readonly index: number;
  readonly name: string;
  readonly type: number;
  /** The low 32 bits of sh_flags; the gABI defines none above. */
  readonly flags: number;
  readonly address: number;
  readonly offset: number;
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly entrySize: number;
}

/** A file that has sections, wherever its bytes are. */
export interface SectionedFile {
  /** Names the file in errors. */
  readonly name: string;
  readonly sections: readonly Section[];
  /** A section's bytes as the file has them, empty for SHT_NOBITS. @throws TraplineError `bad-elf`. */
  sectionBytes(section: Section): Uint8Array;
}

/** p_type values (gABI, figure 5-2; GNU extensions in the psABI of Linux). */
export const PT = { load: 1, dynamic: 2, interpreter: 3, note: 4, ehFrame: 0x6474e550 } as const;
/** p_flags: the segment is executable, or writable. */
export const PF_X = 1;
export const PF_W = 2;
/** sh_type values used here (gABI, figure 4-9). */
export const SHT = { symtab: 2, rela: 4, note: 7, nobits: 8, dynsym: 11 } as const;
/** sh_flags: the section holds instructions. */
export const SHF_EXECINSTR = 4;
/** sh_flags: the section begins with a compression header (gABI, "Section Compression"). */
export const SHF_COMPRESSED = 0x800;
/** st_shndx of a symbol that is not defined here. */
export const SHN_UNDEF = 0;
/** st_shndx from here on does not name a section (gABI, figure 4-7). */
export const SHN_LORESERVE = 0xff00;

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const SECTION_HEADER_BYTES = 64;
/** ElfHeader.type by e_type (gABI, figure 4-3): ET_REL, ET_EXEC, ET_DYN. */
const TYPES = [undefined, 'object', 'fixed', 'shared'] as const;
const EM_X86_64 = 62;
const PN_XNUM = 0xffff;
const SHN_XINDEX = 0xffff;
/** Linked files have tens; one that claims millions wants our memory. */
const MAX_SECTIONS = 1 << 18;

/**
 * Reads the ELF header.
 * @param types what the caller can read
 * @throws TraplineError `bad-elf` when it is not ELF or contradicts itself, `unsupported` for other
 * machines, 32-bit files, other types and core dumps.
 */
export function readHeader<T extends ElfHeader['type']>(
  slice: Slice,
  fileSize: number,
  name: string,
  types: readonly T[],
): ElfHeader & { readonly type: T } {
  const bytes = slice(0, Math.min(fileSize, HEADER_BYTES), name);
  checkIdentity(bytes, name);
  const reader = elfReader(bytes, `${name} ELF header`, 16);
  const number = reader.u16();
  const type = types.find((one) => one === TYPES[number]);
  const machine = reader.u16();
  if (machine !== EM_X86_64) throw unsupported(name, `is for machine ${machine}, not x86-64`);
  if (type === undefined) {
    throw unsupported(name, `is neither a program nor a shared library (ELF type ${number})`);
  }
  reader.skip(4); // e_version: that of the identification was looked at
  const entry = reader.u64();
  const programHeaderOffset = reader.size();
  const sectionHeaderOffset = reader.size();
  reader.skip(6); // e_flags, of which x86-64 has none, and e_ehsize, which the class decides
  const programHeaderSize = reader.u16();
  const programHeaders = reader.u16();
  const sectionHeaderSize = reader.u16();
  const sectionHeaders = reader.u16();
  const sectionNames = reader.u16();
  if (programHeaders > 0 && programHeaderSize !== PROGRAM_HEADER_BYTES) {
    throw badElf(`${name} ELF header`, `a program header has ${programHeaderSize} bytes, not 56`);
  }
  if (sectionHeaderOffset > 0 && sectionHeaderSize !== SECTION_HEADER_BYTES) {
    throw badElf(`${name} ELF header`, `a section header has ${sectionHeaderSize} bytes, not 64`);
  }
  const first = firstSection(slice, name, sectionHeaderOffset, {
    needed:
      programHeaders === PN_XNUM ||
      sectionNames === SHN_XINDEX ||
      (sectionHeaders === 0 && sectionHeaderOffset > 0),
  });
  return {
    type,
    entry,
    programHeaderOffset,
    programHeaderCount: programHeaders === PN_XNUM ? first.info : programHeaders,
    sectionHeaderOffset,
    sectionHeaderCount: sectionHeaders === 0 ? first.size : sectionHeaders,
    sectionNamesIndex: sectionNames === SHN_XINDEX ? first.link : sectionNames,
  };
}

function checkIdentity(bytes: Uint8Array, name: string): void {
  const isElf = bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46; // 0x7f ELF
  if (!isElf) {
    throw new TraplineError({
      code: 'bad-elf',
      message: `${name}: not an ELF file`,
      hint: 'name the program or library itself; a script is run by its interpreter',
    });
  }
  if (bytes.byteLength < HEADER_BYTES) throw badElf(name, 'the ELF header is cut off');
  if (bytes[4] === 1) throw unsupported(name, 'is a 32-bit file');
  if (bytes[4] !== 2) throw badElf(`${name} ELF header`, `the class is ${bytes[4]}, not 1 or 2`);
  if (bytes[5] !== 1) throw unsupported(name, 'is not little-endian');
}

function unsupported(name: string, what: string): TraplineError {
  return new TraplineError({
    code: 'unsupported',
    message: `${name} ${what}`,
    hint: 'only 64-bit x86-64 programs and shared libraries can be probed',
  });
}

/** Section 0 holds the counts that don't fit the header (gABI, "extended numbering"). */
function firstSection(
  slice: Slice,
  name: string,
  offset: number,
  { needed }: { needed: boolean },
): { size: number; link: number; info: number } {
  if (!needed) return { size: 0, link: 0, info: 0 };
  if (offset === 0) throw badElf(`${name} ELF header`, 'extended counts without section headers');
  const source = `${name} section header 0`;
  const reader = elfReader(slice(offset, SECTION_HEADER_BYTES, source), source, 32);
  return { size: reader.size(), link: reader.u32(), info: reader.u32() };
}

/** Reads all program headers. @throws TraplineError `bad-elf` when they don't fit the file. */
export function readProgramHeaders(slice: Slice, header: ElfHeader, name: string): ProgramHeader[] {
  const source = `${name} program headers`;
  const size = header.programHeaderCount * PROGRAM_HEADER_BYTES;
  const reader = elfReader(slice(header.programHeaderOffset, size, source), source);
  const headers: ProgramHeader[] = [];
  while (reader.remaining > 0) {
    const type = reader.u32();
    const flags = reader.u32();
    const offset = reader.size();
    const address = reader.size();
    reader.skip(8); // p_paddr means nothing here
    const fileSize = reader.size();
    const memorySize = reader.size();
    headers.push({
      type,
      flags,
      offset,
      address,
      fileSize,
      memorySize,
      alignment: reader.size(),
    });
  }
  return headers;
}

/**
 * Reads all section headers; none is a valid answer (they are not needed to run a file).
 * @throws TraplineError `bad-elf` when they don't fit the file, `limit` when there are absurdly many.
 */
export function readSections(slice: Slice, header: ElfHeader, name: string): Section[] {
  if (header.sectionHeaderOffset === 0) return [];
  const source = `${name} section headers`;
  if (header.sectionHeaderCount > MAX_SECTIONS) {
    throw new TraplineError({
      code: 'limit',
      message: `${source}: ${header.sectionHeaderCount} of them; ${MAX_SECTIONS} are the limit`,
    });
  }
  const size = header.sectionHeaderCount * SECTION_HEADER_BYTES;
  const reader = elfReader(slice(header.sectionHeaderOffset, size, source), source);
  const sections: (Section & { nameOffset: number })[] = [];
  while (reader.remaining > 0) {
    const nameOffset = reader.u32();
    const type = reader.u32();
    const flags = Number(BigInt.asUintN(32, reader.u64()));
    const address = reader.size();
    const offset = reader.size();
    const sectionSize = reader.size();
    const link = reader.u32();
    const info = reader.u32();
    reader.skip(8); // sh_addralign: a section is where its header says
    const entrySize = reader.size();
    const index = sections.length;
    sections.push({
      index,
      name: '',
      nameOffset,
      type,
      flags,
      address,
      offset,
      size: sectionSize,
      link,
      info,
      entrySize,
    });
  }
  const names = sections[header.sectionNamesIndex];
  if (names === undefined || names.type === SHT.nobits) return sections;
  const strings = slice(names.offset, names.size, `${name} section names`);
  return sections.map((section) => ({
    ...section,
    name: elfReader(strings, `${name} section names`, section.nameOffset).cstring(),
  }));
}
