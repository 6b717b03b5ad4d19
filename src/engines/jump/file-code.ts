/**
 * What a file's code proves: where its functions are and where their instructions begin (rule 3), what lies
 * between them, and which bytes nobody but us may move. Read once a file, kept as long as its planner.
 */

import { address, fileOffset, hex, type Address, type FileOffset } from '../../base/brand.ts';
import { lowerBound } from '../../base/sorted.ts';
import { SHT } from '../../symbols/elf-header.ts';
import type { ElfFile, ExecutableSegment } from '../../symbols/elf.ts';
import { functionBounds, overlapping, type FunctionBounds } from '../../symbols/function-bounds.ts';
import type { FunctionIndex } from '../../symbols/function-index.ts';
import { goText } from '../../symbols/go.ts';
import { restartableSequences, type RestartableSequence } from '../../symbols/restartable.ts';
import { symbolSources } from '../../symbols/symbol-sources.ts';
import {
  firstRelocated,
  textRelocations,
  type TextRelocations,
} from '../../symbols/text-relocations.ts';
import { decodeAt, type DecodedInstruction } from '../../x64/decode.ts';
import { Listing } from '../../x64/listing.ts';

/** A place at which an instruction begins, as the unbroken decoding of its function shows. */
export interface CodePlace {
  readonly offset: FileOffset;
  /** The file's own address (p_vaddr). */
  readonly address: Address;
  readonly segment: ExecutableSegment;
  readonly bounds: FunctionBounds;
}

/** Functions whose instructions are kept from one plan to the next. */
const MOST_KEPT = 256;

/** A file's code. */
export class FileCode {
  readonly elf: ElfFile;
  readonly segments: readonly ExecutableSegment[];
  readonly #bounds = new Map<number, FunctionBounds[]>();
  readonly #listings = new Map<FunctionBounds, Listing>();
  #text: { readonly start: Address; readonly end: Address } | undefined;
  #relocations: TextRelocations | undefined;
  #restartable: readonly RestartableSequence[] | undefined;
  #go: ReturnType<typeof goText> | null = null;

  constructor(elf: ElfFile) {
    this.elf = elf;
    this.segments = elf.executableSegments();
  }

  /** The executable segment that holds a byte of the file. */
  segmentAt(offset: number): ExecutableSegment | undefined {
    return this.segments.find(
      ({ fileOffset: start, fileSize }) => offset >= start && offset < start + fileSize,
    );
  }

  /** From the first executable byte of the file to the last, in its own addresses: all that a jump inside it can reach. */
  get text(): { readonly start: Address; readonly end: Address } {
    return (this.#text ??= extentOf(this.segments));
  }

  /** The function around a byte of the file; else why none is known. */
  functionAround(offset: FileOffset): Pick<CodePlace, 'bounds' | 'segment'> | string {
    const segment = this.segmentAt(offset);
    if (segment === undefined) return 'it is not in an executable part of the file';
    const bounds = this.boundsAt(offset);
    if (bounds === undefined) {
      return 'the bounds of its function are not known: neither symbols nor unwind tables have it';
    }
    return { bounds, segment };
  }

  /** The place in its function, if an instruction begins there; else why that is not so, or not proved. */
  place(offset: FileOffset): CodePlace | string {
    const known = this.functionAround(offset);
    if (typeof known === 'string') return known;
    const { bounds, segment } = known;
    const problem = this.#refuseBoundary(bounds, segment, offset);
    return problem ?? { offset, address: this.addressOf(segment, offset), segment, bounds };
  }

  /** The instruction at a file offset, wherever that is in the segment. */
  decode(segment: ExecutableSegment, offset: number): DecodedInstruction {
    const end = segment.fileOffset + segment.fileSize;
    return decodeAt(this.elf.bytes.subarray(0, end), offset, this.addressOf(segment, offset));
  }

  /**
   * The function around a byte of the file, if it is known: one object for each, so that what is known of it can be kept by
   * it. Its start alone does not name it: symbols that begin at one place may differ in size.
   */
  boundsAt(offset: number): FunctionBounds | undefined {
    const found = functionBounds(this.elf, fileOffset(offset));
    return found && this.#one(found);
  }

  /** Other functions that have bytes of one, too. */
  overlapping(bounds: FunctionBounds): FunctionBounds[] {
    return overlapping(this.elf, bounds).map((found) => this.#one(found));
  }

  #one(found: FunctionBounds): FunctionBounds {
    const there = this.#bounds.get(found.start);
    if (there === undefined) {
      this.#bounds.set(found.start, [found]);
      return found;
    }
    const known = there.find(({ end, source }) => end === found.end && source === found.source);
    if (known === undefined) there.push(found);
    return known ?? found;
  }

  /**
   * The name of a symbol of code that begins there, a function or an untyped one: whoever asks the dynamic linker for it may
   * come there, out of sight of this file. Of a debug file as far as a search for names opened it.
   */
  symbolAt(offset: number): string | undefined {
    const { own, opened } = symbolSources(this.elf);
    for (const index of [own, ...opened]) {
      const [name] = index.namesAt(offset);
      if (name !== undefined) return name;
    }
    return undefined;
  }

  /** The first byte from an offset on at which such a symbol begins. */
  symbolFrom(offset: number): number | undefined {
    const { own, opened } = symbolSources(this.elf);
    let first = firstFrom(own, offset);
    for (const index of opened) first = Math.min(first, firstFrom(index, offset));
    return first === Infinity ? undefined : first;
  }

  /** Forgets the instructions of many functions: those of the next few are soon decoded again. */
  trim(): void {
    if (this.#listings.size > MOST_KEPT) this.#listings.clear();
  }

  /** A function's instructions, as far as they lie in the segment. Kept while a plan asks for them again and again. */
  listing(bounds: FunctionBounds, segment: ExecutableSegment): Listing {
    const known = this.#listings.get(bounds);
    if (known !== undefined) return known;
    const { start, end } = bounds;
    const code = this.elf.bytes.subarray(
      start,
      Math.min(end, segment.fileOffset + segment.fileSize),
    );
    const listing = new Listing(code, this.addressOf(segment, start), end - start);
    this.#listings.set(bounds, listing);
    return listing;
  }

  /** The file offsets at which the instructions of a function begin, as far as it decodes. */
  boundaries({ bounds, segment }: Pick<CodePlace, 'bounds' | 'segment'>): number[] {
    return Array.from(this.listing(bounds, segment).starts, (start) => bounds.start + start);
  }

  /** Whether a place stands behind a jump or a return of its function: there data may stand as well as code. */
  isBehindEnd({ bounds, segment, offset }: CodePlace): boolean {
    return bounds.start < offset && bounds.start + this.listing(bounds, segment).firstEnd <= offset;
  }

  /** The file's own address of an offset. */
  addressOf(segment: ExecutableSegment, offset: number): Address {
    return address(segment.address + BigInt(offset - segment.fileOffset));
  }

  /** The file offset of an address within a segment. */
  offsetOf(segment: ExecutableSegment, at: bigint): number {
    return Number(at - segment.address) + segment.fileOffset;
  }

  /** Bytes of the file as they will lie in memory. */
  image(from: bigint, length: number): Uint8Array | undefined {
    const offset = this.elf.fileOffsetOf(from);
    if (offset === undefined || offset + length > this.elf.bytes.byteLength) return undefined;
    return this.elf.bytes.subarray(offset, offset + length);
  }

  /** The addresses of the section around one; undefined in a file that does not tell. */
  sectionAt(at: number): { readonly start: number; readonly end: number } | undefined {
    // Those without bytes of their own may lie over others: of thread-local variables.
    const found = this.elf.sections.find(
      ({ type, address: start, size }) =>
        type !== SHT.nobits && start !== 0 && at >= start && at < start + size,
    );
    return found && { start: found.address, end: found.address + found.size };
  }

  /** Why bytes of the file are not what they will be in memory; undefined where the dynamic linker leaves them alone. */
  rewritten(start: number, end: number): string | undefined {
    const relocations = (this.#relocations ??= textRelocations(this.elf));
    if (relocations.haveOthers) {
      return "the dynamic linker writes into the file's code when it loads it, and branches may lead elsewhere then";
    }
    const first = firstRelocated(relocations, start, end);
    return first === undefined
      ? undefined
      : `the dynamic linker writes there when it loads the file (at file offset ${hex(first)})`;
  }

  /** The first byte of some that the dynamic linker writes. */
  relocatedIn(start: number, end: number): number | undefined {
    return firstRelocated((this.#relocations ??= textRelocations(this.elf)), start, end);
  }

  /** Whether code of Go's compiler stands there: it keeps no red zone. */
  isGo(offset: number): boolean {
    if (this.#go === null) this.#go = goText(this.elf);
    return this.#go !== undefined && offset >= this.#go.start && offset < this.#go.end;
  }

  /** Whether bytes lie in a restartable sequence, or in what the kernel compares before its abort handler. */
  isRestartable(start: number, end: number): boolean {
    // The four bytes before the abort handler are the signature that the kernel compares.
    this.#restartable ??= restartableSequences(this.elf) ?? [];
    return this.#restartable.some(
      (sequence) =>
        (start < sequence.end && end > sequence.start) ||
        (start < sequence.abort + 1 && end > sequence.abort - 4),
    );
  }

  /** Rule 3: the instructions from the function's start on must meet the place. */
  #refuseBoundary(
    bounds: FunctionBounds,
    segment: ExecutableSegment,
    offset: FileOffset,
  ): string | undefined {
    if (offset === bounds.start) return undefined;
    const listing = this.listing(bounds, segment);
    const wanted = offset - bounds.start;
    const holder = listing.holderOf(wanted);
    if (listing.starts[holder] === wanted) return undefined;
    const before = bounds.start + (listing.starts.at(holder) ?? 0);
    const { flow, length } = this.decode(segment, before);
    if (flow === 'invalid' || (holder < 0 && before + length < offset)) {
      const where = hex(flow === 'invalid' ? before : before + length);
      return `the bytes between its function's start and it are not all instructions (${where})`;
    }
    return `it is not the start of an instruction; the nearest are ${hex(before)} and ${hex(before + length)} (file offsets)`;
  }
}

/** Where the first function from an offset on begins; Infinity if there is none. Asked of every instruction: nothing is made. */
function firstFrom({ order: { offsets } }: FunctionIndex, offset: number): number {
  return offsets[lowerBound(offsets, offset)] ?? Infinity;
}

function extentOf(segments: readonly ExecutableSegment[]): {
  readonly start: Address;
  readonly end: Address;
} {
  const starts = segments.map((segment) => segment.address);
  const ends = segments.map((segment) => segment.address + BigInt(segment.fileSize));
  const lowest = starts.reduce((one, other) => (one < other ? one : other), starts[0] ?? 0n);
  const highest = ends.reduce((one, other) => (one > other ? one : other), 0n);
  return { start: address(lowest), end: address(highest) };
}
