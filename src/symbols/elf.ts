/**
 * An ELF file: a program or a shared library, as bytes that somebody else read or mapped. Nothing
 * is copied and nothing is parsed before it is asked for, so a mapping of a 100 MB file is cheap.
 * Section headers are used where they are there; everything that a running program needs works
 * without them.
 */

import { fileOffset, type FileOffset } from '../base/brand.ts';
import { PAGE_BYTES } from '../base/page.ts';
import { readDynamic, type Dynamic } from './dynamic.ts';
import {
  PT,
  SHT,
  readHeader,
  readProgramHeaders,
  readSections,
  type ElfHeader,
  type ProgramHeader,
  type Section,
  type SectionedFile,
} from './elf-header.ts';
import { LoadMap } from './load-map.ts';
import { elfReader, sliceOf, type Slice } from './malformed.ts';
import { buildIdOf, readNotes, type Note } from './notes.ts';

/** An executable part of the file. */
export interface ExecutableSegment {
  readonly fileOffset: FileOffset;
  /** Address of its first byte, in the file's own numbering (p_vaddr). */
  readonly address: bigint;
  /** Bytes that come from the file. */
  readonly fileSize: number;
}

/** Bytes that are mapped executable behind a segment because pages are whole. */
export interface SegmentTail {
  readonly fileOffset: FileOffset;
  readonly address: bigint;
  readonly length: number;
}

/** One ELF file. Immutable; answers are cached. */
export class ElfFile implements SectionedFile {
  /** The file's bytes; owned by the caller, who must not change or unmap them. */
  readonly bytes: Uint8Array;
  /** Names the file in errors. */
  readonly name: string;
  readonly header: ElfHeader & { readonly type: 'fixed' | 'shared' };
  readonly programHeaders: readonly ProgramHeader[];
  readonly loads: LoadMap;
  readonly #slice: Slice;
  #sections: readonly Section[] | undefined;
  #dynamic: Dynamic | null | undefined;
  #notes: readonly Note[] | undefined;

  private constructor(bytes: Uint8Array, name: string) {
    this.bytes = bytes;
    this.name = name;
    this.#slice = (offset, size, source) => sliceOf(bytes, offset, size, source);
    this.header = readHeader(this.#slice, bytes.byteLength, name, ['fixed', 'shared']);
    this.programHeaders = readProgramHeaders(this.#slice, this.header, name);
    this.loads = new LoadMap(this.programHeaders, name);
  }

  /**
   * Opens the file whose bytes are `bytes`; reads the headers only.
   * @throws TraplineError `bad-elf` or `unsupported` (32-bit, other machines, object files).
   */
  static open(bytes: Uint8Array, name: string): ElfFile {
    return new ElfFile(bytes, name);
  }

  /** `fixed` (ET_EXEC) or `shared` (ET_DYN: libraries and PIE programs). */
  get type(): 'fixed' | 'shared' {
    return this.header.type;
  }

  /** The program's first instruction, in the file's own numbering. */
  get entry(): bigint {
    return this.header.entry;
  }

  /** All sections, empty when the file has no section headers. @throws TraplineError `bad-elf`. */
  get sections(): readonly Section[] {
    this.#sections ??= readSections(this.#slice, this.header, this.name);
    return this.#sections;
  }

  /** The first section called `name`. @throws TraplineError `bad-elf`. */
  section(name: string): Section | undefined {
    return this.sections.find((section) => section.name === name);
  }

  /** A view of a section's bytes, empty for SHT_NOBITS. @throws TraplineError `bad-elf`. */
  sectionBytes(section: Section): Uint8Array {
    const size = section.type === SHT.nobits ? 0 : section.size;
    const label = section.name === '' ? `section ${section.index}` : section.name;
    return sliceOf(this.bytes, size === 0 ? 0 : section.offset, size, `${this.name} ${label}`);
  }

  /** A view of a segment's bytes in the file. @throws TraplineError `bad-elf`. */
  segmentBytes(header: ProgramHeader, what: string): Uint8Array {
    return sliceOf(this.bytes, header.offset, header.fileSize, `${this.name} ${what}`);
  }

  /** The dynamic section, by PT_DYNAMIC; undefined in a static file. @throws `bad-elf`. */
  get dynamic(): Dynamic | undefined {
    if (this.#dynamic === undefined) this.#dynamic = readDynamic(this) ?? null;
    return this.#dynamic ?? undefined;
  }

  /** DT_NEEDED names, in order. */
  get needed(): readonly string[] {
    return this.dynamic?.needed ?? [];
  }

  /** DT_SONAME. */
  get soname(): string | undefined {
    return this.dynamic?.soname;
  }

  /** DT_RUNPATH, as written. */
  get runpath(): string | undefined {
    return this.dynamic?.runpath;
  }

  /**
   * Whether it lies where libraries do, of files that may lie anywhere: what has an interpreter lies apart from
   * them, but libraries that can be run have one, too (fs/binfmt_elf.c, load_elf_binary).
   */
  get liesAmongLibraries(): boolean {
    return this.soname !== undefined || this.interpreter === undefined;
  }

  /** The program interpreter (ld.so) that the file asks for. @throws TraplineError `bad-elf`. */
  get interpreter(): string | undefined {
    const header = this.programHeaders.find(({ type }) => type === PT.interpreter);
    if (header === undefined) return undefined;
    const bytes = this.segmentBytes(header, 'interpreter');
    return elfReader(bytes, `${this.name} interpreter`).cstring();
  }

  /** All notes: those of PT_NOTE segments, or of note sections if there is no such segment. */
  get notes(): readonly Note[] {
    this.#notes ??= this.#readNotes();
    return this.#notes;
  }

  /** The build id in lower-case hexadecimal. */
  get buildId(): string | undefined {
    return buildIdOf(this.notes);
  }

  /** Where the byte that is mapped at `address` (the file's own numbering) lies in the file. */
  fileOffsetOf(address: bigint): FileOffset | undefined {
    const offset = this.loads.offsetOf(Number(address));
    return offset < 0 ? undefined : fileOffset(offset);
  }

  /** The address (the file's own numbering) at which the file's byte at `offset` is mapped. */
  addressOf(offset: FileOffset): bigint | undefined {
    const address = this.loads.addressOf(offset);
    return address < 0 ? undefined : BigInt(address);
  }

  /** The executable PT_LOADs, by file offset. */
  executableSegments(): ExecutableSegment[] {
    return this.loads.segments
      .filter(({ executable }) => executable)
      .map((segment) => ({
        fileOffset: fileOffset(segment.offset),
        address: BigInt(segment.address),
        fileSize: segment.fileSize,
      }))
      .sort((a, b) => a.fileOffset - b.fileOffset);
  }

  /**
   * For each executable PT_LOAD that ends inside a page: the rest of that page. The kernel maps
   * whole pages (fs/binfmt_elf.c, elf_map), so these bytes are mapped executable, hold whatever
   * the file has there, and belong to no function.
   */
  segmentTails(): SegmentTail[] {
    const tails: SegmentTail[] = [];
    for (const segment of this.loads.segments) {
      const end = segment.address + segment.fileSize;
      const length = (PAGE_BYTES - (end % PAGE_BYTES)) % PAGE_BYTES;
      // With memorySize above fileSize the tail is the segment's own zeroed data.
      if (!segment.executable || segment.memorySize > segment.fileSize || length === 0) continue;
      if (segment.fileSize === 0) continue;
      tails.push({
        fileOffset: fileOffset(segment.offset + segment.fileSize),
        address: BigInt(end),
        length,
      });
    }
    return tails;
  }

  #readNotes(): Note[] {
    const segments = this.programHeaders.filter(({ type }) => type === PT.note);
    if (segments.length > 0) {
      return segments.flatMap((header) =>
        readNotes(this.segmentBytes(header, 'notes'), header.alignment, `${this.name} notes`),
      );
    }
    return this.sections
      .filter(({ type }) => type === SHT.note)
      .flatMap((section) =>
        readNotes(this.sectionBytes(section), 4, `${this.name} ${section.name}`),
      );
  }
}
