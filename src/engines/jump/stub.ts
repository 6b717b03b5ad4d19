/** A site's stub: prologue, jump through the list pointer, epilogue, displaced instructions, way back. */

import { address, type Address } from '../../base/brand.ts';
import { Assembler } from '../../x64/assembler.ts';
import { mem } from '../../x64/operands.ts';
import { emitEpilogue, emitPrologue } from './frame.ts';

/** Displaced instructions, already made to work at their new address. */
export interface DisplacedCode {
  readonly bytes: Uint8Array;
  /** Each instruction's offset in the original and in `bytes`. */
  readonly map: readonly { readonly from: number; readonly to: number }[];
}

/** What a stub is made from. */
export interface StubParts {
  readonly origin: Address;
  readonly redZone: number;
  /** Relocates the displaced instructions to the given address. */
  readonly displace: (to: Address) => DisplacedCode;
  /** Where execution goes on after the displaced instructions. */
  readonly back: Address;
}

/** A stub, ready to be written at its origin. Its list is empty: it points at the epilogue. */
export interface StubCode {
  readonly bytes: Uint8Array;
  readonly list: Address;
  readonly epilogue: Address;
  readonly displaced: Address;
  /** Each displaced instruction's offset at the site and in the stub's copy. */
  readonly map: DisplacedCode['map'];
}

/** Assembles a stub. */
export function assembleStub(parts: StubParts): StubCode {
  const code = new Assembler(parts.origin);
  const list = code.label('list');
  emitPrologue(code, parts.redZone);
  code.jmp(mem({ target: list }));
  code.align(8);
  const epilogue = address(code.here() + 8n);
  code.bind(list).u64(epilogue);
  emitEpilogue(code, parts.redZone);
  const displaced = code.here();
  const { bytes, map } = parts.displace(displaced);
  code.raw(bytes).jmp(parts.back, 'near');
  return {
    bytes: code.finish(),
    list: code.addressOf(list),
    epilogue,
    displaced,
    map,
  };
}
