/** Changing code: compare, then one write. */

import { hex, type Address } from '../base/brand.ts';
import { ensure, TraplineError } from '../base/errors.ts';
import { type StoppedProcess } from './stop.ts';

const PAGE = 4096n;

/**
 * Replaces code in a stopped process. `bytes` are written by one pwrite within one page, which the kernel
 * copies at once: no death of ours leaves half an instruction. The caller has moved the tasks that stand
 * inside.
 * @param expected what must be there now, as long as `bytes`
 * @throws TraplineError `busy` when something else is there, `refused` across a page's end.
 */
export function writeCode(
  stopped: StoppedProcess,
  at: Address,
  expected: Uint8Array,
  bytes: Uint8Array,
): void {
  ensure(expected.byteLength === bytes.byteLength, 'code is replaced by as many bytes');
  if (at / PAGE !== (at + BigInt(bytes.byteLength) - 1n) / PAGE) {
    throw new TraplineError({
      code: 'refused',
      message: `the ${bytes.byteLength} bytes at ${hex(at)} cross the end of a page`,
      hint: 'they could not be written at once; probe another instruction',
    });
  }
  const found = stopped.read(at, expected.byteLength);
  if (Buffer.compare(found, expected) !== 0) {
    throw new TraplineError({
      code: 'busy',
      message:
        `the code at ${hex(at)} of process ${stopped.pid} is ${hexBytes(found)}, ` +
        `not ${hexBytes(expected)}`,
      hint: 'a debugger, a kernel uprobe or the program itself changed it',
    });
  }
  stopped.write(at, bytes);
}

function hexBytes(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}
