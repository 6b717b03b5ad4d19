/**
 * The unwind tables (LSB, "Exception Frames"): which function covers an address, where it ends, and
 * where its exception table is. Found by PT_GNU_EH_FRAME as the unwinder does, so that files
 * without section headers work; by the section .eh_frame where there is no such segment.
 */

import type { ByteReader } from '../base/bytes.ts';
import type { ElfFile } from './elf.ts';
import { PT } from './elf-header.ts';
import { badElf, elfReader } from './malformed.ts';
import { OMIT, encodedSize, readLength, readPointer } from './pointer-encoding.ts';

/** One frame description: a function, or one part of it. Addresses in the file's own numbering. */
export interface FrameDescription {
  readonly start: number;
  readonly end: number;
  /** Address of its language-specific data (exception table); undefined when it has none. */
  readonly languageData: number | undefined;
  /** Whether `languageData` could not be told: an indirect pointer. */
  readonly languageDataUnknown: boolean;
}

interface CommonInformation {
  readonly pointerEncoding: number;
  readonly languageEncoding: number;
  readonly hasSizes: boolean;
}

interface SearchTable {
  readonly bytes: Uint8Array;
  readonly address: number;
  readonly encoding: number;
  readonly offset: number;
  readonly count: number;
  readonly width: number;
}

/** The unwind tables of one file. Make it once per file with {@link unwindTables}. */
export class UnwindTables {
  readonly #elf: ElfFile;
  /** All bytes from the first frame to the end of its segment or section. */
  readonly #frames: { readonly bytes: Uint8Array; readonly address: number } | undefined;
  readonly #search: SearchTable | undefined;
  /** Where the frames of the search table begin, as far as somebody asked; NaN for the others. */
  #starts: Float64Array | undefined;
  readonly #found = new Map<number, FrameDescription | undefined>();
  readonly #common = new Map<number, CommonInformation>();
  #all: readonly FrameDescription[] | undefined;
  /** Whether it is certain that all unwind tables were found (or that there are none). */
  readonly isComplete: boolean;

  /** @throws TraplineError `bad-elf` when the header of the tables can't be read. */
  constructor(elf: ElfFile) {
    this.#elf = elf;
    const header = elf.programHeaders.find(({ type }) => type === PT.ehFrame);
    const index = header === undefined ? undefined : readSearchHeader(elf, header.address);
    this.#search = index?.search;
    this.#frames =
      index?.search === undefined ? (framesBySection(elf) ?? index?.frames) : index.frames;
    this.isComplete = this.#frames !== undefined || elf.sections.length > 0;
  }

  /** The frame description that covers `address`. @throws TraplineError `bad-elf`. */
  find(address: number): FrameDescription | undefined {
    const search = this.#search;
    if (search === undefined) {
      return this.all().find(({ start, end }) => address >= start && address < end);
    }
    let low = 0;
    let high = search.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#startOf(search, middle) <= address) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    const found = this.#frameOf(search, low - 1);
    return found !== undefined && address >= found.start && address < found.end ? found : undefined;
  }

  /** Every frame description that an unwinder can find. @throws TraplineError `bad-elf`. */
  all(): readonly FrameDescription[] {
    this.#all ??= this.#search === undefined ? this.#walk() : this.#listed(this.#search);
    return this.#all;
  }

  /** By the search table: .eh_frame itself may have no end mark (linked without crtend.o). */
  #listed(search: SearchTable): FrameDescription[] {
    const found: FrameDescription[] = [];
    for (let index = 0; index < search.count; index++) {
      const frame = this.#frameOf(search, index);
      if (frame !== undefined) found.push(frame);
    }
    return found;
  }

  #walk(): FrameDescription[] {
    const frames = this.#frames;
    if (frames === undefined) return [];
    const found: FrameDescription[] = [];
    let at = 0;
    while (at + 4 <= frames.bytes.byteLength) {
      const entry = this.#entry(at);
      if (entry === undefined) break;
      if (entry.commonAt !== undefined) found.push(this.#readFrame(entry.reader, entry.commonAt));
      at = entry.end;
    }
    return found;
  }

  #startOf(search: SearchTable, index: number): number {
    this.#starts ??= new Float64Array(search.count).fill(NaN);
    const known = this.#starts[index] ?? NaN;
    if (!Number.isNaN(known)) return known;
    const { start } = this.#searchEntry(search, index);
    this.#starts[index] = start;
    return start;
  }

  #frameOf(search: SearchTable, index: number): FrameDescription | undefined {
    const known = this.#found.get(index);
    if (known !== undefined || this.#found.has(index)) return known;
    const frame = this.#frameAt(this.#searchEntry(search, index).frame);
    this.#found.set(index, frame);
    return frame;
  }

  #searchEntry(search: SearchTable, index: number): { start: number; frame: number } {
    const at = search.offset + index * 2 * search.width;
    const reader = elfReader(search.bytes, `${this.#elf.name} .eh_frame_hdr`, at);
    const bases = { start: search.address, data: search.address, function: undefined };
    const start = readPointer(reader, search.encoding, bases).value;
    return { start, frame: readPointer(reader, search.encoding, bases).value };
  }

  #frameAt(address: number): FrameDescription | undefined {
    const frames = this.#frames;
    if (frames === undefined) return undefined;
    const at = address - frames.address;
    if (at < 0 || at >= frames.bytes.byteLength) {
      throw badElf(`${this.#elf.name} .eh_frame_hdr`, 'an entry leads outside .eh_frame');
    }
    const entry = this.#entry(at);
    if (entry?.commonAt === undefined) return undefined;
    return this.#readFrame(entry.reader, entry.commonAt);
  }

  /** The entry at an offset; its reader stands behind the CIE pointer and ends with the entry. */
  #entry(
    at: number,
  ): { reader: ByteReader; end: number; commonAt: number | undefined } | undefined {
    const bytes = this.#frames?.bytes ?? new Uint8Array();
    const source = `${this.#elf.name} .eh_frame`;
    const reader = elfReader(bytes, source, at);
    const short = reader.u32();
    if (short === 0) return undefined;
    const length = short === 0xffffffff ? reader.size() : short;
    const start = reader.offset;
    reader.skip(length);
    const bounded = elfReader(bytes.subarray(0, reader.offset), source, start);
    const back = bounded.u32();
    return { reader: bounded, end: reader.offset, commonAt: back === 0 ? undefined : start - back };
  }

  #readFrame(reader: ByteReader, commonAt: number): FrameDescription {
    const common = this.#commonAt(commonAt);
    const bases = { start: this.#frames?.address ?? 0, data: undefined, function: undefined };
    const { value: start } = readPointer(reader, common.pointerEncoding, bases);
    const end = start + readLength(reader, common.pointerEncoding);
    let languageData: number | undefined;
    let languageDataUnknown = false;
    if (common.hasSizes) {
      reader.uleb();
      if (common.languageEncoding !== OMIT) {
        const pointer = readPointer(reader, common.languageEncoding, { ...bases, function: start });
        languageDataUnknown = pointer.indirect;
        if (pointer.value !== 0 && !pointer.indirect) languageData = pointer.value;
      }
    }
    return { start, end, languageData, languageDataUnknown };
  }

  #commonAt(at: number): CommonInformation {
    let common = this.#common.get(at);
    if (common === undefined) {
      const entry = at < 0 ? undefined : this.#entry(at);
      if (entry === undefined || entry.commonAt !== undefined) {
        throw badElf(`${this.#elf.name} .eh_frame`, 'a frame has no common information entry');
      }
      common = readCommon(entry.reader, this.#frames?.address ?? 0);
      this.#common.set(at, common);
    }
    return common;
  }
}

const tables = new WeakMap<ElfFile, UnwindTables>();

/** The unwind tables of a file, made at the first call and kept as long as the file. */
export function unwindTables(elf: ElfFile): UnwindTables {
  let found = tables.get(elf);
  if (found === undefined) {
    found = new UnwindTables(elf);
    tables.set(elf, found);
  }
  return found;
}

/** From the augmentation string on (LSB, "The Common Information Entry Format"). */
function readCommon(reader: ByteReader, address: number): CommonInformation {
  const version = reader.u8();
  if (version !== 1 && version !== 3 && version !== 4) {
    throw badElf(reader.source, `unknown version ${version} of a common information entry`);
  }
  const augmentation = reader.cstring();
  if (version === 4) reader.skip(2);
  reader.uleb();
  reader.sleb();
  if (version === 1) reader.u8();
  else reader.uleb();
  let pointerEncoding = 0;
  let languageEncoding = OMIT;
  if (augmentation.startsWith('z')) {
    reader.uleb();
    for (const letter of augmentation.slice(1)) {
      if (letter === 'R') pointerEncoding = reader.u8();
      else if (letter === 'L') languageEncoding = reader.u8();
      else if (letter === 'P') {
        const encoding = reader.u8();
        readPointer(reader, encoding, { start: address, data: 0, function: 0 });
      } else if (letter !== 'S' && letter !== 'B') {
        throw badElf(reader.source, `unknown augmentation "${augmentation.slice(0, 16)}"`);
      }
    }
  } else if (augmentation !== '') {
    throw badElf(reader.source, `unknown augmentation "${augmentation.slice(0, 16)}"`);
  }
  return { pointerEncoding, languageEncoding, hasSizes: augmentation.startsWith('z') };
}

/** .eh_frame_hdr: version, three encodings, pointer to .eh_frame, count, sorted table. */
function readSearchHeader(
  elf: ElfFile,
  address: number,
): { frames: { bytes: Uint8Array; address: number }; search: SearchTable | undefined } {
  const source = `${elf.name} .eh_frame_hdr`;
  const bytes = bytesFrom(elf, address, source);
  const reader = elfReader(bytes, source);
  const version = reader.u8();
  if (version !== 1) throw badElf(source, `unknown version ${version}`);
  const frameEncoding = reader.u8();
  const countEncoding = reader.u8();
  const encoding = reader.u8();
  const bases = { start: address, data: address, function: undefined };
  const frameAddress = readPointer(reader, frameEncoding, bases).value;
  const frames = { bytes: bytesFrom(elf, frameAddress, source), address: frameAddress };
  const width = encodedSize(encoding);
  if (countEncoding === OMIT || encoding === OMIT || width === 0) {
    return { frames, search: undefined };
  }
  const count = readPointer(reader, countEncoding, bases).value;
  const offset = reader.offset;
  if (count * 2 * width > bytes.byteLength - offset) {
    throw badElf(source, `a table of ${count} entries leaves its segment`);
  }
  return { frames, search: { bytes, address, encoding, offset, count, width } };
}

function bytesFrom(elf: ElfFile, address: number, source: string): Uint8Array {
  const segment = elf.loads.segmentOf(address);
  if (segment === undefined) {
    throw badElf(source, `address 0x${address.toString(16)} is not in the file`);
  }
  const start = segment.offset + (address - segment.address);
  return elf.bytes.subarray(start, segment.offset + segment.fileSize);
}

function framesBySection(elf: ElfFile): { bytes: Uint8Array; address: number } | undefined {
  const section = elf.section('.eh_frame');
  if (section === undefined) return undefined;
  return { bytes: elf.sectionBytes(section), address: section.address };
}
