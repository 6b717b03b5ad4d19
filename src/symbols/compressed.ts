/** Sections that are packed: SHF_COMPRESSED (gABI, "Section Compression") and GNU's older `.zdebug_*`. */

import { createRequire } from 'node:module';

import type * as Fzstd from 'fzstd';

import { TraplineError } from '../base/errors.ts';
import { zlib } from '../base/zlib.ts';
import { SHF_COMPRESSED, type Section, type SectionedFile } from './elf-header.ts';
import { badElf, elfReader } from './malformed.ts';

const require = createRequire(import.meta.url);

/** The most that one section is unpacked to. */
export const MAX_SECTION_BYTES: number = 256 << 20;

const ELFCOMPRESS_ZLIB = 1;
const ELFCOMPRESS_ZSTD = 2;
/** Deflate makes at most 1032 bytes of one (RFC 1951: a match of 258 in two bits). */
const DEFLATE_RATIO = 1032;
/** A block of zstd is 128 KB, and takes four bytes at least (RFC 8878, 3.1.1.2). */
const ZSTD_RATIO = 32 << 10;

/**
 * A section's contents, unpacked where they are packed; a view of the file where they are not.
 * @throws TraplineError `bad-elf`, `limit` above {@link MAX_SECTION_BYTES}, `unsupported` for other packers.
 */
export function sectionContents(file: SectionedFile, section: Section): Uint8Array {
  const bytes = file.sectionBytes(section);
  const source = `${file.name} ${section.name}`;
  if ((section.flags & SHF_COMPRESSED) !== 0) return unpackMarked(bytes, source);
  if (section.name.startsWith('.zdebug_')) return unpackNamed(bytes, source);
  return bytes;
}

/** Behind an Elf64_Chdr: kind, four reserved bytes, size, alignment. */
function unpackMarked(bytes: Uint8Array, source: string): Uint8Array {
  const reader = elfReader(bytes, source);
  const kind = reader.u32();
  reader.skip(4); // ch_reserved, so that the size is aligned
  const size = reader.size();
  reader.skip(8); // ch_addralign: what is unpacked is ours, and lies where we put it
  const packed = reader.take(reader.remaining);
  if (kind === ELFCOMPRESS_ZLIB) return inflate(packed, size, source);
  if (kind === ELFCOMPRESS_ZSTD) return unpackZstd(packed, size, source);
  throw new TraplineError({
    code: 'unsupported',
    message: `${source} is compressed in a way that is not known (${kind})`,
    hint: 'objcopy --decompress-debug-sections FILE unpacks it, where it can',
  });
}

/** Behind `ZLIB` and the size, highest byte first. */
function unpackNamed(bytes: Uint8Array, source: string): Uint8Array {
  const reader = elfReader(bytes, source);
  const magic = String.fromCharCode(...reader.take(4));
  if (magic !== 'ZLIB') throw badElf(source, 'it does not begin with ZLIB');
  const high = reader.take(8);
  const size = new DataView(high.buffer, high.byteOffset, 8).getBigUint64(0);
  return inflate(reader.take(reader.remaining), Number(size), source);
}

function inflate(packed: Uint8Array, size: number, source: string): Uint8Array {
  ensurePossible(packed, size, DEFLATE_RATIO, source);
  return exactly(size, source, () =>
    zlib().inflateSync(packed, { maxOutputLength: Math.max(size, 1) }),
  );
}

function unpackZstd(packed: Uint8Array, size: number, source: string): Uint8Array {
  ensurePossible(packed, size, ZSTD_RATIO, source);
  return exactly(size, source, () => {
    // Loaded here, which takes 10 ms: hardly any file needs it. The types are the package's own.
    const { decompress } = require('fzstd') as typeof Fzstd;
    return decompress(packed, new Uint8Array(size));
  });
}

/** Before memory is taken: what a file claims to be is not always what it can be. */
function ensurePossible(packed: Uint8Array, size: number, ratio: number, source: string): void {
  if (size > MAX_SECTION_BYTES) {
    throw new TraplineError({
      code: 'limit',
      message: `${source} would unpack to ${size} bytes; ${MAX_SECTION_BYTES >> 20} MB are the limit`,
    });
  }
  if (size > packed.byteLength * ratio) throw badElf(source, `it can't hold ${size} bytes`);
}

function exactly(size: number, source: string, unpack: () => Uint8Array): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = unpack();
  } catch (error) {
    // Whatever the unpackers throw, the cause is in the data.
    throw badElf(source, `it can't be unpacked: ${error instanceof Error ? error.message : ''}`);
  }
  if (bytes.byteLength !== size) {
    throw badElf(source, `it unpacks to ${bytes.byteLength} bytes, not to ${size}`);
  }
  return bytes;
}
