/** Changing code: compare, then one write. */

import { hex, type Address } from '../base/brand.ts';
import { ensure, TraplineError } from '../base/errors.ts';
import { leftInPage } from '../base/page.ts';
import { readMany } from './read-many.ts';
import { type StoppedProcess } from './stop.ts';

/** Code to be replaced. */
export interface CodePatch {
  readonly address: Address;
  /** What must be there now, as long as `bytes`. */
  readonly expected: Uint8Array;
  readonly bytes: Uint8Array;
}

/**
 * Replaces code in a stopped process, if what is expected is in every place. Each patch is one pwrite
 * within one page, which the kernel copies at once: no death of ours leaves half an instruction. The
 * caller has moved the tasks that stand inside.
 * @throws TraplineError `busy` when something else is there, `refused` across a page's end; nothing is
 * written then.
 */
export function writeCode(stopped: StoppedProcess, patches: readonly CodePatch[]): void {
  const found = readMany(
    stopped,
    patches.map(({ address, expected }) => ({ address, length: expected.byteLength })),
  );
  patches.forEach((patch, index) => ensureAsExpected(stopped, patch, found[index]));
  for (const { address, bytes } of patches) stopped.write(address, bytes);
}

function ensureAsExpected(
  stopped: StoppedProcess,
  { address: at, expected, bytes }: CodePatch,
  found: Uint8Array | undefined,
): void {
  ensure(expected.byteLength === bytes.byteLength, 'code is replaced by as many bytes');
  if (bytes.byteLength > leftInPage(at)) {
    throw new TraplineError({
      code: 'refused',
      message: `the ${bytes.byteLength} bytes at ${hex(at)} cross the end of a page`,
      hint: 'they could not be written at once; probe another instruction',
    });
  }
  if (found === undefined || Buffer.compare(found, expected) !== 0) {
    throw new TraplineError({
      code: 'busy',
      message:
        `the code at ${hex(at)} of process ${stopped.pid} is ${hexBytes(found ?? [])}, ` +
        `not ${hexBytes(expected)}`,
      hint: 'a debugger, a kernel uprobe or the program itself changed it',
    });
  }
}

function hexBytes(bytes: Iterable<number>): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}
