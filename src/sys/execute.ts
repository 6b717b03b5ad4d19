/** Runs machine code in our own process: what a stub costs is measured on the stub itself. */

import koffi from 'koffi';

import type { Address } from '../base/brand.ts';
import { counted, type Pointer } from './call.ts';

const call: (code: Address, argument: Pointer) => void = counted(
  (code: Address, argument: Pointer): void => {
    koffi.call(code, prototype(), argument);
  },
);

let known: ReturnType<typeof koffi.proto> | undefined;

function prototype(): ReturnType<typeof koffi.proto> {
  return (known ??= koffi.proto('void', ['void *']));
}

/**
 * Calls code as a C function of one pointer.
 * @param code executable memory of this process: wrong code ends or corrupts it.
 */
export function runCode(code: Address, argument: Pointer): void {
  call(code, argument);
}
