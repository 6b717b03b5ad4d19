/**
 * Unpacks xz files (the format of tukaani.org, version 1.2.0) at once, within bounds: mini symbol tables
 * are small, and are wanted while nothing may be waited for. Only LZMA2 without further filters.
 */

import { createHash } from 'node:crypto';

import type { ByteReader } from '../base/bytes.ts';
import { TraplineError } from '../base/errors.ts';
import { zlib } from '../base/zlib.ts';
import { crc64 } from './crc64.ts';
import { LzmaDecoder } from './lzma.ts';
import { badElf, elfReader } from './malformed.ts';

/** The most that is unpacked: the largest mini symbol tables that distributions ship have 20 MB. */
export const MAX_XZ_BYTES: number = 64 << 20;

const MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00] as const;
const FIRST_BYTES = 64 << 10;
const LZMA2 = 0x21n;
/** Bytes of a check by its number (section 2.1.1.2). */
const CHECK_BYTES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64] as const;

/**
 * The contents of an xz file.
 * @throws TraplineError `bad-elf` when it is damaged, `limit` when more than {@link MAX_XZ_BYTES} would come
 * out, `unsupported` for filters other than LZMA2.
 */
export function unpackXz(bytes: Uint8Array, source: string): Uint8Array {
  const reader = elfReader(bytes, source);
  if (!MAGIC.every((byte) => reader.u8() === byte)) throw damaged(source, 'no xz header');
  const flags = reader.take(2);
  if (reader.u32() !== zlib().crc32(flags)) throw damaged(source, 'the check of its header');
  const check = flags[1] ?? 0;
  if (flags[0] !== 0 || check > 15) throw unsupported(source);
  const decoder = new LzmaDecoder(new Uint8Array(FIRST_BYTES), source);
  const sizes: number[] = [];
  // A header size of 0 begins the index.
  while (bytes[reader.offset] !== 0) {
    const start = decoder.position;
    readBlockHeader(reader, source);
    const dataStart = reader.offset;
    readChunks(reader, decoder, source);
    reader.skip((4 - ((reader.offset - dataStart) % 4)) % 4);
    verify(check, decoder.output.subarray(start, decoder.position), reader, source);
    sizes.push(decoder.position - start);
  }
  verifyIndex(reader, sizes, source);
  return decoder.output.slice(0, decoder.position);
}

/** Sizes in the header are not needed: the chunks say where they end. */
function readBlockHeader(reader: ByteReader, source: string): void {
  const start = reader.offset;
  const size = (reader.u8() + 1) * 4;
  const flags = reader.u8();
  reader.seek(start);
  const header = reader.take(size - 4);
  if (reader.u32() !== zlib().crc32(header)) throw damaged(source, 'the check of a block header');
  if ((flags & 0x3f) !== 0) throw unsupported(source);
  const fields = elfReader(header, source, 2);
  if ((flags & 0x40) !== 0) fields.uleb();
  if ((flags & 0x80) !== 0) fields.uleb();
  if (fields.uleb() !== LZMA2) throw unsupported(source);
}

/** LZMA2: a control byte and what it announces, until one that is 0. */
function readChunks(reader: ByteReader, decoder: LzmaDecoder, source: string): void {
  let wantsDictionary = true;
  let wantsProperties = true;
  for (let control = reader.u8(); control !== 0; control = reader.u8()) {
    const isPlain = control < 0x80;
    if (isPlain && control > 2) throw damaged(source, 'an unknown chunk');
    const reset = isPlain ? 0 : (control >> 5) & 3;
    if (control === 1 || reset === 3) {
      decoder.dictionaryStart = decoder.position;
      wantsDictionary = false;
      wantsProperties = true;
    } else if (wantsDictionary) throw damaged(source, 'a chunk without a dictionary');
    const low = bigEndian16(reader);
    const size = (isPlain ? low : ((control & 0x1f) << 16) | low) + 1;
    makeRoom(decoder, size, source);
    if (isPlain) {
      decoder.output.set(reader.take(size), decoder.position);
      decoder.position += size;
      continue;
    }
    const packed = bigEndian16(reader) + 1;
    if (reset >= 2) {
      decoder.setProperties(reader.u8());
      wantsProperties = false;
    } else if (wantsProperties) throw damaged(source, 'a chunk without properties');
    else if (reset === 1) decoder.resetState();
    decoder.decode(reader.take(packed), size);
  }
}

function bigEndian16(reader: ByteReader): number {
  return (reader.u8() << 8) | reader.u8();
}

function makeRoom(decoder: LzmaDecoder, size: number, source: string): void {
  const needed = decoder.position + size;
  if (needed > MAX_XZ_BYTES) {
    throw new TraplineError({
      code: 'limit',
      message: `${source}: it would unpack to more than ${MAX_XZ_BYTES >> 20} MB`,
    });
  }
  if (needed <= decoder.output.byteLength) return;
  const larger = new Uint8Array(Math.max(needed, decoder.output.byteLength * 2));
  larger.set(decoder.output.subarray(0, decoder.position));
  decoder.output = larger;
}

/** The index counts the blocks and what each holds: a block that was lost is noticed here alone. */
function verifyIndex(reader: ByteReader, sizes: readonly number[], source: string): void {
  const start = reader.offset;
  reader.skip(1);
  let isRight = reader.uleb() === BigInt(sizes.length);
  for (const size of sizes) {
    if (!isRight) break;
    reader.uleb();
    isRight = reader.uleb() === BigInt(size);
  }
  reader.skip((4 - ((reader.offset - start) % 4)) % 4);
  const index = reader.bytes.subarray(start, reader.offset);
  if (!isRight || reader.u32() !== zlib().crc32(index)) throw damaged(source, 'its index');
}

function verify(check: number, data: Uint8Array, reader: ByteReader, source: string): void {
  const written = reader.take(CHECK_BYTES[check] ?? 0);
  const view = new DataView(written.buffer, written.byteOffset, written.byteLength);
  const isRight =
    check === 1
      ? view.getUint32(0, true) === zlib().crc32(data)
      : check === 4
        ? view.getBigUint64(0, true) === crc64(data)
        : // Other numbers are reserved: such a check can't be verified, and the format allows to go on.
          check !== 10 || createHash('sha256').update(data).digest().equals(written);
  if (!isRight) throw damaged(source, 'the check of its contents');
}

function damaged(source: string, what: string): TraplineError {
  return badElf(source, `its xz data is damaged (${what})`);
}

function unsupported(source: string): TraplineError {
  return new TraplineError({
    code: 'unsupported',
    message: `${source}: its xz data has filters other than LZMA2`,
  });
}
