/** Pointers as unwind tables encode them (LSB, "DWARF Exception Header Encoding"). */

import type { ByteReader } from '../base/bytes.ts';
import { badElf } from './malformed.ts';

/** The encoding byte that says "no value". */
export const OMIT = 0xff;

const INDIRECT = 0x80;
const PCREL = 0x10;
const DATAREL = 0x30;
const FUNCREL = 0x40;
const ALIGNED = 0x50;

/** What relative pointers are relative to: addresses in the file's own numbering. */
export interface PointerBases {
  /** Address of the reader's first byte, for pc-relative values. */
  readonly start: number;
  /** Address of .eh_frame_hdr, for data-relative values. */
  readonly data: number | undefined;
  /** Address of the function, for function-relative values. */
  readonly function: number | undefined;
}

/** A pointer that was read. */
export interface EncodedPointer {
  /** An address in the file's own numbering; 0 for a null pointer. */
  readonly value: number;
  /** Whether `value` is the address of a word that holds the pointer. */
  readonly indirect: boolean;
}

/**
 * Reads one encoded pointer.
 * @throws TraplineError `bad-elf` for encodings that no x86-64 compiler writes, and past the end.
 */
export function readPointer(
  reader: ByteReader,
  encoding: number,
  bases: PointerBases,
): EncodedPointer {
  if ((encoding & 0x70) === ALIGNED) reader.skip((8 - ((bases.start + reader.offset) % 8)) % 8);
  const place = bases.start + reader.offset;
  const raw = Number(readValue(reader, encoding));
  const indirect = (encoding & INDIRECT) !== 0;
  // A null pointer is null before anything is added to it (gcc, unwind-pe.h).
  if (raw === 0) return { value: 0, indirect: false };
  const value = raw + baseOf(reader, encoding, bases, place);
  if (!Number.isSafeInteger(value) || value < 0) {
    throw badElf(reader.source, `a pointer at offset ${reader.offset} leads outside memory`);
  }
  return { value, indirect };
}

/** Reads a length in a pointer's encoding: the format alone counts. */
export function readLength(reader: ByteReader, encoding: number): number {
  const length = Number(readValue(reader, encoding & 0x0f));
  if (!Number.isSafeInteger(length) || length < 0) {
    throw badElf(reader.source, `a length at offset ${reader.offset} is not possible`);
  }
  return length;
}

/** Bytes that a value of this encoding takes, 0 when that varies. */
export function encodedSize(encoding: number): number {
  switch (encoding & 0x0f) {
    case 0x02:
    case 0x0a:
      return 2;
    case 0x03:
    case 0x0b:
      return 4;
    case 0x00:
    case 0x04:
    case 0x0c:
      return 8;
    default:
      return 0;
  }
}

function readValue(reader: ByteReader, encoding: number): bigint | number {
  switch (encoding & 0x0f) {
    case 0x00:
    case 0x04:
      return reader.u64();
    case 0x01:
      return reader.uleb();
    case 0x02:
      return reader.u16();
    case 0x03:
      return reader.u32();
    case 0x09:
      return reader.sleb();
    case 0x0a:
      return reader.i16();
    case 0x0b:
      return reader.i32();
    case 0x0c:
      return reader.i64();
    default:
      throw badElf(reader.source, `unknown pointer format 0x${encoding.toString(16)}`);
  }
}

function baseOf(reader: ByteReader, encoding: number, bases: PointerBases, place: number): number {
  let base: number | undefined;
  switch (encoding & 0x70) {
    case 0:
    case ALIGNED:
      base = 0;
      break;
    case PCREL:
      base = place;
      break;
    case DATAREL:
      base = bases.data;
      break;
    case FUNCREL:
      base = bases.function;
      break;
  }
  if (base !== undefined) return base;
  throw badElf(reader.source, `unknown pointer base 0x${encoding.toString(16)}`);
}
