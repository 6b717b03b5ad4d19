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
  if (offset < 0 || size < 0 || offset > bytes.byteLength || size > bytes.byteLength - offset) {
    throw badElf(
      source,
      `${size} bytes at offset ${offset} lie outside the file's ${bytes.byteLength} bytes`,
    );
  }
  return bytes.subarray(offset, offset + size);
}
