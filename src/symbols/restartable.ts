/** Restartable sequences (rseq(2)): code that the kernel may leave at any instruction. */

import { fileOffset, type FileOffset } from '../base/brand.ts';
import type { ElfFile } from './elf.ts';
import { badElf, elfReader } from './malformed.ts';
import { relativeRelocations } from './relocated-words.ts';

/** One sequence. The four bytes before `abort` are the signature that the kernel checks. */
export interface RestartableSequence {
  readonly start: FileOffset;
  /** The first byte behind it. */
  readonly end: FileOffset;
  readonly abort: FileOffset;
}

/** struct rseq_cs (linux/rseq.h): version, flags, start, length, abort handler. */
const DESCRIPTOR_BYTES = 32;

/**
 * The restartable sequences that the section `__rseq_cs` describes (a convention of the kernel's
 * selftests, librseq and tcmalloc).
 * @returns undefined when the file has no section headers, so that nobody can tell.
 * @throws TraplineError `bad-elf` when a descriptor makes no sense.
 */
export function restartableSequences(elf: ElfFile): readonly RestartableSequence[] | undefined {
  if (elf.sections.length === 0) return undefined;
  const section = elf.section('__rseq_cs');
  if (section === undefined) return [];
  const source = `${elf.name} __rseq_cs`;
  const reader = elfReader(elf.sectionBytes(section), source);
  const relocated = relativeRelocations(elf, section.address, section.size);
  const word = (): number => {
    const address = section.address + reader.offset;
    const value = Number(reader.u64());
    return relocated.get(address) ?? value;
  };
  const place = (address: number): FileOffset => {
    const offset = elf.loads.offsetOf(address);
    if (offset < 0) throw badElf(source, `0x${address.toString(16)} is not in the file`);
    return fileOffset(offset);
  };
  const sequences: RestartableSequence[] = [];
  while (reader.remaining >= DESCRIPTOR_BYTES) {
    reader.skip(8);
    const startAddress = word();
    const length = reader.size();
    const abort = place(word());
    const start = place(startAddress);
    if (length === 0) throw badElf(source, `the sequence at ${start} is empty`);
    place(startAddress + length - 1);
    sequences.push({ start, end: fileOffset(start + length), abort });
  }
  return sequences;
}
