/** Between file offsets and the file's own virtual addresses, by its PT_LOAD headers. */

import { badElf } from './malformed.ts';
import { PF_X, PT, type ProgramHeader } from './elf-header.ts';

/**
 * One PT_LOAD. User space ends at 2^47 (or 2^56 with five-level tables); an address above 2^53 is
 * refused when the headers are read, so plain numbers are exact here and ten times faster.
 */
export interface LoadSegment {
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly executable: boolean;
}

/** Conversions in plain numbers, -1 for "not in the file": the form that inner loops use. */
export class LoadMap {
  readonly segments: readonly LoadSegment[];

  /** @throws TraplineError `bad-elf` when a segment ends past 2^53. */
  constructor(headers: readonly ProgramHeader[], name: string) {
    const segments: LoadSegment[] = [];
    for (const header of headers) {
      if (header.type !== PT.load) continue;
      const { offset, address, fileSize, memorySize, flags } = header;
      if (!Number.isSafeInteger(address + Math.max(memorySize, fileSize) + offset)) {
        throw badElf(`${name} program headers`, 'a segment ends past every possible address');
      }
      segments.push({ offset, address, fileSize, memorySize, executable: (flags & PF_X) !== 0 });
    }
    // Text first: nearly every question is about it.
    this.segments = segments.sort((a, b) => Number(b.executable) - Number(a.executable));
  }

  /** The segment whose bytes in the file hold `address`. */
  segmentOf(address: number): LoadSegment | undefined {
    for (const segment of this.segments) {
      if (address >= segment.address && address - segment.address < segment.fileSize) {
        return segment;
      }
    }
    return undefined;
  }

  /** The file offset that is mapped at `address`, or -1. */
  offsetOf(address: number): number {
    const segment = this.segmentOf(address);
    return segment === undefined ? -1 : segment.offset + (address - segment.address);
  }

  /** The segment that maps the file's byte at `offset`; executable ones first. */
  segmentAtOffset(offset: number): LoadSegment | undefined {
    for (const segment of this.segments) {
      if (offset >= segment.offset && offset - segment.offset < segment.fileSize) return segment;
    }
    return undefined;
  }

  /** The address at which the file's byte at `offset` is mapped, or -1. */
  addressOf(offset: number): number {
    const segment = this.segmentAtOffset(offset);
    return segment === undefined ? -1 : segment.address + (offset - segment.offset);
  }
}
