/**
 * Decides, from a file alone, whether a place can be probed by a jump, and which instructions its
 * stub has to execute. Rules 3 and 4 of the design live here, the latter in its cautious form: what is
 * not proved is refused, with the reason.
 */

import { address, fileOffset, hex, type Address, type FileOffset } from '../../base/brand.ts';
import type { ElfFile, ExecutableSegment } from '../../symbols/elf.ts';
import { functionBounds, type FunctionBounds } from '../../symbols/function-bounds.ts';
import { goText } from '../../symbols/go.ts';
import { landingPads } from '../../symbols/landing-pads.ts';
import { restartableSequences } from '../../symbols/restartable.ts';
import { decodeAt } from '../../x64/decode.ts';
import { findJumpTargets } from '../../x64/jump-tables.ts';
import { findLandings, type Bounds } from '../../x64/landings.ts';
import { relocate } from '../../x64/relocate.ts';
import type { WordSummaries } from '../../x64/table-entries.ts';
import { MAX_DISPLACED_BYTES } from '../../process/control.ts';
import { RED_ZONE_BYTES } from './frame.ts';

/** Bytes of `jmp rel32`. */
export const JUMP_BYTES = 5;
const PAGE_BYTES = 4096;

/** A place that can be probed. Addresses are the file's own (p_vaddr). */
export interface SitePlan {
  readonly kind: 'plan';
  readonly offset: FileOffset;
  readonly address: Address;
  /** The whole instructions that the jump displaces; its first five bytes are overwritten. */
  readonly displaced: Uint8Array;
  /** Offsets of the instructions behind the first, as far as the jump covers them. */
  readonly innerBoundaries: readonly number[];
  /** Bytes below the stack pointer that may not be touched. */
  readonly redZone: number;
}

/** A place that cannot, and why, for the person who asked. */
export interface SiteRefusal {
  readonly kind: 'refused';
  readonly offset: FileOffset;
  readonly reason: string;
}

/** Plans the sites of one file. Holds what was read of the file; plans are not kept. */
export class Planner {
  readonly #elf: ElfFile;
  readonly #segments: readonly ExecutableSegment[];
  readonly #summaries: WordSummaries = new Map();
  #go: ReturnType<typeof goText> | null = null;

  constructor(elf: ElfFile) {
    this.#elf = elf;
    this.#segments = elf.executableSegments();
  }

  /** Plans many places at once: the file's text is searched once for branches into any of them. */
  plan(offsets: readonly FileOffset[]): (SitePlan | SiteRefusal)[] {
    const candidates = offsets.map((offset) => this.#candidate(offset));
    const landings = this.#landings(candidates);
    return candidates.map((candidate, index) => {
      if (candidate.kind === 'refused') return candidate;
      const reason = landings[index] ?? this.#refuseByFunction(candidate);
      if (reason !== undefined) return { kind: 'refused', offset: candidate.offset, reason };
      const { offset, address: at, displaced, innerBoundaries, redZone } = candidate;
      return { kind: 'plan', offset, address: at, displaced, innerBoundaries, redZone };
    });
  }

  /** Rule 3 alone: why a place is not the start of an instruction; undefined where that is proved. */
  boundary(offset: FileOffset): string | undefined {
    const place = this.#place(offset);
    return typeof place === 'string' ? place : undefined;
  }

  /** The function that a place is in, if an instruction of it begins there; else why not. */
  #place(
    offset: FileOffset,
  ): { readonly segment: ExecutableSegment; readonly bounds: FunctionBounds } | string {
    const segment = this.#segments.find(
      ({ fileOffset: start, fileSize }) => offset >= start && offset < start + fileSize,
    );
    if (segment === undefined) return 'it is not in an executable part of the file';
    const bounds = functionBounds(this.#elf, offset);
    if (bounds === undefined) {
      return 'the bounds of its function are not known: neither symbols nor unwind tables have it';
    }
    return this.#proveBoundary(bounds, segment, offset) ?? { segment, bounds };
  }

  /** Everything that the bytes around the place tell. */
  #candidate(offset: FileOffset): Candidate | SiteRefusal {
    const refuse = (reason: string): SiteRefusal => ({ kind: 'refused', offset, reason });
    const place = this.#place(offset);
    if (typeof place === 'string') return refuse(place);
    const { segment, bounds } = place;
    const at = address(segment.address + BigInt(offset - segment.fileOffset));
    const window = this.#window(segment, bounds, offset);
    if ('reason' in window) return refuse(window.reason);
    if ((offset % PAGE_BYTES) + JUMP_BYTES > PAGE_BYTES) {
      return refuse(
        'the five bytes of the jump would cross a page: they could not be written at once',
      );
    }
    // Near, but not at home: what can be moved a little can be moved to any place in reach.
    const moved = relocate(window.displaced, at, address(at + 0x10_0000n));
    if (moved.kind === 'refused') return refuse(moved.reason);
    const redZone = this.#isGo(offset) ? 0 : RED_ZONE_BYTES;
    return { kind: 'candidate', offset, address: at, segment, bounds, redZone, ...window };
  }

  /** Rule 3: the instructions from the function's start on must meet the place. */
  #proveBoundary(
    bounds: FunctionBounds,
    segment: ExecutableSegment,
    offset: FileOffset,
  ): string | undefined {
    let previous: number = bounds.start;
    for (let at: number = bounds.start; at < offset;) {
      const { flow, length } = this.#decode(segment, at);
      if (flow === 'invalid') {
        return `the bytes between its function's start and it are not all instructions (${hex(at)})`;
      }
      previous = at;
      at += length;
      if (at > offset) {
        return `it is not the start of an instruction; the nearest are ${hex(previous)} and ${hex(at)} (file offsets)`;
      }
    }
    return undefined;
  }

  /** The whole instructions that five bytes from `offset` on touch. */
  #window(
    segment: ExecutableSegment,
    bounds: FunctionBounds,
    offset: FileOffset,
  ): { displaced: Uint8Array; innerBoundaries: number[] } | { reason: string } {
    const innerBoundaries: number[] = [];
    const segmentEnd = segment.fileOffset + segment.fileSize;
    let length = 0;
    let flowEnded = false;
    while (length < JUMP_BYTES) {
      const at = offset + length;
      if (at >= segmentEnd) return { reason: 'there is no room for a jump of five bytes' };
      const instruction = this.#decode(segment, at);
      if (instruction.flow === 'invalid') {
        return {
          reason: `the bytes at file offset ${hex(at)} are not an instruction that is known`,
        };
      }
      const isPadding = at >= bounds.end || flowEnded;
      if (isPadding && !isFiller(this.#elf.bytes, at, instruction.length)) {
        return {
          reason: `its function has only ${length} bytes there, and other code follows: a jump needs ${JUMP_BYTES}`,
        };
      }
      if (length > 0) innerBoundaries.push(length);
      length += instruction.length;
      flowEnded ||= ['jump', 'return', 'indirect-jump'].includes(instruction.flow);
    }
    if (length > MAX_DISPLACED_BYTES) return { reason: 'the instructions there are too long' };
    return { displaced: this.#elf.bytes.slice(offset, offset + length), innerBoundaries };
  }

  /** Rule 4, direct branches: of the whole file, not only of the function. */
  #landings(candidates: readonly (Candidate | SiteRefusal)[]): (string | undefined)[] {
    const reasons: (string | undefined)[] = candidates.map(() => undefined);
    for (const segment of this.#segments) {
      const start = address(segment.address);
      const inside = candidates
        .map((candidate, index) => ({ candidate, index }))
        .filter((entry): entry is { candidate: Candidate; index: number } => {
          return entry.candidate.kind === 'candidate' && entry.candidate.segment === segment;
        });
      if (inside.length === 0) continue;
      const text = this.#elf.bytes.subarray(
        segment.fileOffset,
        segment.fileOffset + segment.fileSize,
      );
      const windows = inside.map(({ candidate }) => ({
        start: candidate.address,
        end: address(candidate.address + BigInt(JUMP_BYTES)),
      }));
      const found = findLandings(text, start, windows, (at) => this.#boundsAt(segment, at));
      inside.forEach(({ index }, nth) => {
        const landing = found[nth]?.[0];
        if (landing === undefined) return;
        const from = hex(Number(landing.from - start) + segment.fileOffset);
        reasons[index] = landing.certain
          ? `the branch at file offset ${from} jumps into the bytes that a jump would replace`
          : `what looks like a branch at file offset ${from} would jump into the bytes that a jump would replace`;
      });
    }
    return reasons;
  }

  #boundsAt(segment: ExecutableSegment, at: Address): Bounds | undefined {
    const toAddress = (offset: number): Address =>
      address(segment.address + BigInt(offset - segment.fileOffset));
    const offset = fileOffset(Number(at - segment.address) + segment.fileOffset);
    const bounds = functionBounds(this.#elf, offset);
    return bounds === undefined
      ? undefined
      : { start: toAddress(bounds.start), end: toAddress(bounds.end) };
  }

  /** Rule 4, everything else that can enter the middle of a window: only where it has a middle. */
  #refuseByFunction(candidate: Candidate): string | undefined {
    const { bounds, segment, offset, innerBoundaries } = candidate;
    const restartable = restartableSequences(this.#elf);
    const end = offset + candidate.displaced.byteLength;
    for (const sequence of restartable ?? []) {
      // The four bytes before the abort handler are the signature that the kernel compares.
      const overlaps = offset < sequence.end && end > sequence.start;
      const nearAbort = offset < sequence.abort + 1 && end > sequence.abort - 4;
      if (overlaps || nearAbort) return 'it lies in a restartable sequence (rseq)';
    }
    if (innerBoundaries.length === 0) return undefined;
    const isInner = (place: number): boolean => innerBoundaries.includes(place - offset);
    const pads = landingPads(this.#elf, bounds.start);
    if (pads.kind === 'unknown') return `its exception table can't be read: ${pads.reason}`;
    if (pads.pads.some(isInner)) {
      return 'an exception landing pad lies in the bytes that a jump would replace';
    }
    const tables = findJumpTargets(
      this.#elf.bytes.subarray(bounds.start, bounds.end),
      segment.address + BigInt(bounds.start - segment.fileOffset),
      {
        read: (from, length) => this.#image(from, length),
        summaries: this.#summaries,
        text: {
          start: address(segment.address),
          end: address(segment.address + BigInt(segment.fileSize)),
        },
        wanted: {
          start: candidate.address,
          end: address(candidate.address + BigInt(candidate.displaced.byteLength)),
        },
      },
    );
    if (tables.kind === 'unknown') {
      const where = hex(Number(tables.at - segment.address) + segment.fileOffset);
      return `a jump table of its function can't be read (at file offset ${where}: ${tables.reason})`;
    }
    const toOffset = (target: bigint): number =>
      Number(target - segment.address) + segment.fileOffset;
    if (tables.targets.some((target) => isInner(toOffset(target)))) {
      return 'a jump table leads into the bytes that a jump would replace';
    }
    return undefined;
  }

  /** Bytes of the file as they will lie in memory, for tables of addresses. */
  #image(from: bigint, length: number): Uint8Array | undefined {
    const offset = this.#elf.fileOffsetOf(from);
    if (offset === undefined || offset + length > this.#elf.bytes.byteLength) return undefined;
    return this.#elf.bytes.subarray(offset, offset + length);
  }

  #decode(segment: ExecutableSegment, offset: number): ReturnType<typeof decodeAt> {
    const at = address(segment.address + BigInt(offset - segment.fileOffset));
    const end = segment.fileOffset + segment.fileSize;
    return decodeAt(this.#elf.bytes.subarray(0, end), offset, at);
  }

  #isGo(offset: number): boolean {
    if (this.#go === null) this.#go = goText(this.#elf);
    return this.#go !== undefined && offset >= this.#go.start && offset < this.#go.end;
  }
}

interface Candidate {
  readonly kind: 'candidate';
  readonly offset: FileOffset;
  readonly address: Address;
  readonly segment: ExecutableSegment;
  readonly bounds: FunctionBounds;
  readonly displaced: Uint8Array;
  readonly innerBoundaries: readonly number[];
  readonly redZone: number;
}

/** Whether an instruction is one that assemblers fill gaps with: a nop of any length, or int3. */
function isFiller(bytes: Uint8Array, at: number, length: number): boolean {
  let first = at;
  while (first < at + length && (bytes[first] === 0x66 || bytes[first] === 0x2e)) first++;
  const opcode = bytes[first];
  if (opcode === 0x90 || opcode === 0xcc) return true;
  // 0f 1f /0: the long nop (Intel SDM volume 2, table 4-12).
  return opcode === 0x0f && bytes[first + 1] === 0x1f;
}
