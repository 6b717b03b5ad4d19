/**
 * How a file names another: a stripped one the file that has its symbols, a debug file the one that has what several
 * debug files share (gdb's manual, "Separate Debug Files"; dwz(1), "-m").
 */

import { Buffer } from 'node:buffer';

import type { ElfFile } from './elf.ts';
import type { SectionedFile } from './elf-header.ts';
import { elfReader } from './malformed.ts';

/** What `.gnu_debuglink` says. */
export interface DebugLink {
  /** A file name, without a folder. */
  readonly file: string;
  /** CRC-32 of the whole debug file. */
  readonly checksum: number;
}

/**
 * The debug link of a file; undefined without one.
 * @throws TraplineError `bad-elf`.
 */
export function debugLink(elf: ElfFile): DebugLink | undefined {
  const section = elf.section('.gnu_debuglink');
  if (section === undefined) return undefined;
  const reader = elfReader(elf.sectionBytes(section), `${elf.name} .gnu_debuglink`);
  const file = reader.cstring();
  reader.skip((4 - (reader.offset % 4)) % 4); // the checksum is aligned to four bytes
  const checksum = reader.u32();
  // A name with folders would lead anywhere: who made the file must not choose what we read.
  return file === '' || file.includes('/') ? undefined : { file, checksum };
}

/** What `.gnu_debugaltlink` says. */
export interface CommonLink {
  /** Absolute, or as seen from the folder of the file that says so. */
  readonly path: string;
  /** In lower-case hexadecimal. */
  readonly buildId: string;
}

/**
 * The common file of a debug file, or of a file with debug information of its own; undefined without one.
 * @throws TraplineError `bad-elf`.
 */
export function commonLink(file: SectionedFile): CommonLink | undefined {
  const section = file.sections.find(({ name }) => name === '.gnu_debugaltlink');
  if (section === undefined) return undefined;
  const reader = elfReader(file.sectionBytes(section), `${file.name} .gnu_debugaltlink`);
  const path = reader.cstring();
  const buildId = Buffer.from(reader.take(reader.remaining)).toString('hex');
  return path === '' || buildId === '' ? undefined : { path, buildId };
}
