/** Code of which no instructions are known, and of which no place can be probed: it is counted in bytes. */

import { address, fileOffset } from '../src/base/brand.ts';
import { isFiller } from '../src/engines/jump/filler.ts';
import type { Planner } from '../src/engines/jump/planner.ts';
import { SHF_EXECINSTR, type Section } from '../src/symbols/elf-header.ts';
import type { ElfFile } from '../src/symbols/elf.ts';
import { functionBounds } from '../src/symbols/function-bounds.ts';
import { linkageSections } from '../src/symbols/linkage-table.ts';
import { decodeAt } from '../src/x64/decode.ts';

/** In bytes. */
export interface UnknownCode {
  /** All executable sections but the procedure linkage tables. */
  readonly all: number;
  /** What lies outside all functions that are known, and is no filler. */
  readonly outside: number;
  /** What of functions lies behind the first bytes that are no instruction. */
  readonly undecoded: number;
}

/** Walks through the executable sections of a file. */
export function unknownCode(elf: ElfFile, planner: Planner): UnknownCode {
  const linkage = new Set(linkageSections(elf).map(({ index }) => index));
  const sum = { all: 0, outside: 0, undecoded: 0 };
  for (const section of elf.sections) {
    if ((section.flags & SHF_EXECINSTR) === 0 || linkage.has(section.index)) continue;
    const { outside, undecoded } = walk(elf, planner, section);
    sum.all += section.size;
    sum.outside += outside;
    sum.undecoded += undecoded;
  }
  return sum;
}

function walk(elf: ElfFile, planner: Planner, section: Section): Omit<UnknownCode, 'all'> {
  const end = section.offset + section.size;
  let outside = 0;
  let undecoded = 0;
  for (let at = section.offset; at < end;) {
    const bounds = functionBounds(elf, fileOffset(at));
    if (bounds === undefined) {
      const length = Math.max(1, lengthAt(elf, section, at));
      if (!isFiller(elf.bytes, at, length)) outside += length;
      at += length;
      continue;
    }
    const last = planner.boundaries(bounds.start).at(-1);
    const decodedEnd = last === undefined ? bounds.start : last + lengthAt(elf, section, last);
    undecoded += Math.max(0, bounds.end - decodedEnd);
    at = bounds.end;
  }
  return { outside, undecoded };
}

function lengthAt(elf: ElfFile, section: Section, at: number): number {
  const where = address(BigInt(section.address + at - section.offset));
  return decodeAt(elf.bytes, at, where).length;
}
