/**
 * The one place where iced-x86 is loaded, and where its objects are made and freed.
 *
 * It is loaded at the first use, by `require`: an `import` of this CommonJS file of 700 kB costs 49
 * ms, most of it in the search for export names, and `require` 20 ms. Its compiler is lazy as it is.
 * Its objects live in WebAssembly memory that no garbage collector sees: whoever makes one frees it.
 */

import { createRequire } from 'node:module';
import type * as Iced from 'iced-x86';

export type { Iced };

let loaded: typeof Iced | undefined;

/** The decoder library, loaded when first asked for (20 ms). */
export function iced(): typeof Iced {
  // require() has no type of its own: the package's declarations describe what it returns.
  loaded ??= createRequire(import.meta.url)('iced-x86') as typeof Iced;
  return loaded;
}

/** Longest instruction of the architecture in bytes (Intel SDM volume 2, 2.3.11). */
export const MAX_INSTRUCTION = 15;

/**
 * Decodes bytes linearly and shows `visit` each instruction, until the end, until an invalid one has
 * been shown, or until `visit` returns false. The instruction and the decoder are lent: both are
 * freed on return, and the instruction is overwritten by the next one.
 */
export function visitInstructions(
  bytes: Uint8Array,
  address: bigint,
  visit: (instruction: Iced.Instruction, decoder: Iced.Decoder, offset: number) => boolean | void,
): void {
  const { Decoder, DecoderOptions, Instruction } = iced();
  const decoder = new Decoder(64, bytes, DecoderOptions.None);
  const instruction = new Instruction();
  try {
    decoder.ip = address;
    while (decoder.canDecode) {
      const offset = decoder.position;
      decoder.decodeOut(instruction);
      if (visit(instruction, decoder, offset) === false || instruction.isInvalid) return;
    }
  } finally {
    instruction.free();
    decoder.free();
  }
}
