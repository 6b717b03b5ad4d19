/** A library's memory without the library: its data at the right distances, and a breakpoint at every byte of its text. */

import { closeSync } from 'node:fs';
import type { Random } from '../../harness/random.ts';
import { address, type Address } from '../../../src/base/brand.ts';
import type { ElfFile } from '../../../src/symbols/elf.ts';
import { PF_X, PT } from '../../../src/symbols/elf-header.ts';
import { mapMemory, Mapping, Protection } from '../../../src/sys/mapping.ts';
import { createMemoryFile } from '../../../src/sys/memfd.ts';
import { mapData } from './executable.ts';
import { fillWords } from './processor.ts';

const PF_W = 2;
const INT3 = 0xcc;
const PAGE = 4096n;

/** See {@link mapLibrary}. */
export interface LibraryImage {
  /** Address of the file's address 0. */
  readonly base: bigint;
  /** The text, to be written here and executed at `textAddress`. The code itself can't write it. */
  readonly text: Uint8Array;
  readonly textAddress: Address;
  /** What the code can write: filled with random words. */
  readonly data: readonly Uint8Array[];
}

/** Maps the image of a library at `base`, which no one else uses, and keeps it. */
export function mapLibrary(elf: ElfFile, base: bigint, random: Random): LibraryImage {
  const data: Uint8Array[] = [];
  let text: Pick<LibraryImage, 'text' | 'textAddress'> | undefined;
  for (const header of elf.programHeaders.filter(({ type }) => type === PT.load)) {
    const start = base + (BigInt(header.address) & -PAGE);
    const end = base + BigInt(header.address + header.memorySize);
    const length = Number(((end - start + PAGE - 1n) / PAGE) * PAGE);
    // Taken first, so that nothing else can lie there, and nothing of it can be executed.
    const bytes = mapData(start, length);
    if ((header.flags & PF_X) !== 0) {
      text = mapText(address(start), length);
    } else if ((header.flags & PF_W) !== 0) {
      fillWords(bytes, random);
      data.push(bytes);
    } else {
      const offset = Number(base + BigInt(header.address) - start);
      bytes.set(elf.segmentBytes(header, 'data'), offset);
      new Mapping(address(start), length).protect(Protection.read);
    }
  }
  if (text === undefined) throw new Error('a library has text');
  return { base, ...text, data };
}

/** Mapped twice: what runs must not be able to write it. */
function mapText(at: Address, length: number): Pick<LibraryImage, 'text' | 'textAddress'> {
  const fd = createMemoryFile('text', length);
  const text = new Uint8Array(mapMemory(length, { fd }).view);
  mapMemory(length, { fd, at, protection: Protection.read | Protection.execute });
  closeSync(fd);
  return { text: text.fill(INT3), textAddress: at };
}
