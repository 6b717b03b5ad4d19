/**
 * A file that holds the symbols of another: a separate debug file, or the mini symbol table inside a
 * program. It can be very large, so of one on disk only the headers and the symbols are read.
 */

import { TraplineError } from '../base/errors.ts';
import { SHT, readHeader, readSections, type Section, type SectionedFile } from './elf-header.ts';
import { MAX_SECTION_BYTES } from './compressed.ts';
import { ensureInside, sliceOf, type Slice } from './malformed.ts';
import { buildIdOf, readNotes } from './notes.ts';

/** A file that is read piece by piece. */
export interface Pieces {
  /** In bytes. */
  readonly size: number;
  /** Exactly `size` bytes from `offset` on, which lie within the file. @throws TraplineError `no-file`. */
  read(offset: number, size: number): Uint8Array;
}

/** The symbols of another file. Each section is read when it is asked for, and not kept. */
export class DebugFile implements SectionedFile {
  /** Names the file in errors and in lists of sources. */
  readonly name: string;
  readonly sections: readonly Section[];
  readonly #slice: Slice;

  private constructor(slice: Slice, size: number, name: string) {
    this.name = name;
    this.#slice = slice;
    this.sections = readSections(
      slice,
      readHeader(slice, size, name, ['fixed', 'shared', 'object']),
      name,
    );
  }

  /**
   * Reads the headers of a file on disk.
   * @throws TraplineError `bad-elf`, `unsupported`, `limit`, and what the pieces throw.
   */
  static open(pieces: Pieces, name: string): DebugFile {
    const slice: Slice = (offset, size, source) => {
      if (size > MAX_SECTION_BYTES) {
        throw new TraplineError({
          code: 'limit',
          message: `${source} has ${size} bytes; ${MAX_SECTION_BYTES >> 20} MB are the limit`,
        });
      }
      // The same test as for a file in memory, whose bytes nobody has read yet.
      ensureInside(offset, size, pieces.size, source);
      return pieces.read(offset, size);
    };
    return new DebugFile(slice, pieces.size, name);
  }

  /** The same of a file in memory. @throws TraplineError `bad-elf`, `unsupported`. */
  static ofBytes(bytes: Uint8Array, name: string): DebugFile {
    const slice: Slice = (offset, size, source) => sliceOf(bytes, offset, size, source);
    return new DebugFile(slice, bytes.byteLength, name);
  }

  sectionBytes(section: Section): Uint8Array {
    const size = section.type === SHT.nobits ? 0 : section.size;
    return this.#slice(size === 0 ? 0 : section.offset, size, `${this.name} ${section.name}`);
  }

  /** The build id in lower-case hexadecimal. @throws TraplineError `bad-elf`. */
  get buildId(): string | undefined {
    for (const section of this.sections) {
      if (section.type !== SHT.note) continue;
      const source = `${this.name} ${section.name}`;
      const id = buildIdOf(readNotes(this.sectionBytes(section), 4, source));
      if (id !== undefined) return id;
    }
    return undefined;
  }
}
