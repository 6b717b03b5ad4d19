/** How this folder says that a file contradicts itself. */

import { ByteReader } from '../base/bytes.ts';
import { TraplineError } from '../base/errors.ts';

/** An error `bad-elf` about `source` (a file, perhaps with the part of it). Returned, not thrown. */
export function badElf(source: string, what: string): TraplineError {
  return new TraplineError({
    code: 'bad-elf',
    message: `${source}: ${what}`,
    hint: 'the file is damaged or was cut short: compare it with the package that it came from',
  });
}

/** A reader of `bytes` whose errors are `bad-elf` and name `source`. */
export function elfReader(bytes: Uint8Array, source: string, offset = 0): ByteReader {
  return new ByteReader(bytes, source, offset, 'bad-elf');
}

/**
 * The part of `bytes` from `offset`, `size` bytes long: a view, not a copy.
 * @throws TraplineError `bad-elf` unless all of it is there.
 */
export function sliceOf(
  bytes: Uint8Array,
  offset: number,
  size: number,
  source: string,
): Uint8Array {
  ensureInside(offset, size, bytes.byteLength, source);
  return bytes.subarray(offset, offset + size);
}

/** @throws TraplineError `bad-elf` unless all `size` bytes from `offset` on lie in a file of `fileSize`. */
export function ensureInside(offset: number, size: number, fileSize: number, source: string): void {
  if (offset >= 0 && size >= 0 && offset <= fileSize && size <= fileSize - offset) return;
  throw badElf(
    source,
    `${size} bytes at offset ${offset} lie outside the file's ${fileSize} bytes`,
  );
}

/**
 * Gives the `size` bytes from `offset` on of one file, or throws `bad-elf` naming `source`: how headers are
 * read from a file in memory and from one that is read piece by piece.
 */
export type Slice = (offset: number, size: number, source: string) => Uint8Array;
