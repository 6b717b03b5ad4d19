/** How a stripped file names the file that has its symbols (gdb's manual, "Separate Debug Files"). */

import type { ElfFile } from './elf.ts';
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
  reader.skip((4 - (reader.offset % 4)) % 4);
  const checksum = reader.u32();
  // A name with folders would lead anywhere: who made the file must not choose what we read.
  return file === '' || file.includes('/') ? undefined : { file, checksum };
}
