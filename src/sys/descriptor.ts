/** What fcntl(2) says and changes of a descriptor, and closing one that Node does not know of. */

import { closeSync, constants, fstatSync, openSync } from 'node:fs';

import { bind, check } from './call.ts';

const F_GETFL = 3;
const F_SETFL = 4;
/** O_RDONLY, O_WRONLY and O_RDWR are numbers, not bits. */
const O_ACCMODE = 3;
const O_CLOEXEC = 0o2_000_000;

/** fcntl(2) with a number. */
export const fcntl: (fd: number, command: number, argument: number) => number = bind(
  'int fcntl(int fd, int command, int argument)',
);

/** close(2). Node keeps a list of what a thread opened through it, and warns when it closes anything else. */
export const close: (descriptor: number) => number = bind('int close(int descriptor)');

const pipe2: (descriptors: Uint8Array, flags: number) => number = bind(
  'int pipe2(void *descriptors, int flags)',
);

/** Makes a pipe that commands do not inherit. The caller owns both ends. @throws TraplineError `system`. */
export function makePipe(): { readonly reading: number; readonly writing: number } {
  const descriptors = Buffer.alloc(8);
  check(pipe2(descriptors, O_CLOEXEC), 'make a pipe');
  return { reading: descriptors.readInt32LE(0), writing: descriptors.readInt32LE(4) };
}

/** Has whoever writes to a descriptor, or reads from it, never wait. @throws TraplineError `system`. */
export function neverWait(descriptor: number): void {
  const flags = check(fcntl(descriptor, F_GETFL, 0), 'read the flags of a descriptor');
  check(fcntl(descriptor, F_SETFL, flags | constants.O_NONBLOCK), 'make a descriptor never wait');
}

/** A descriptor of ours that a command is to inherit. Disposing it closes what was opened for that. */
export interface Inherited extends Disposable {
  readonly descriptor: number;
}

/**
 * Prepares a descriptor for a command that knows nothing of us. Node writes to pipes and sockets without waiting,
 * and that is a property of the open file, which all share who have it (libuv, uv_pipe_open): a command that writes
 * faster than somebody reads would get EAGAIN, and lose what it wrote. A pipe is opened once more; a socket
 * can't be, and is made to wait for us as well.
 * @throws TraplineError `system`.
 */
export function inherit(descriptor: number): Inherited {
  const flags = check(fcntl(descriptor, F_GETFL, 0), 'read the flags of a descriptor');
  const status = fstatSync(descriptor);
  const again = status.isFIFO() ? reopen(descriptor, flags & O_ACCMODE) : undefined;
  const taken = again ?? descriptor;
  if (again !== undefined || (status.isSocket() && (flags & constants.O_NONBLOCK) !== 0)) {
    check(fcntl(taken, F_SETFL, flags & ~constants.O_NONBLOCK), 'make a descriptor wait');
  }
  return {
    descriptor: taken,
    [Symbol.dispose](): void {
      if (again !== undefined) closeSync(again);
    },
  };
}

/** A pipe, opened once more; undefined where it is another user's, or nobody is at its other end. */
function reopen(descriptor: number, access: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${descriptor}`, access | constants.O_NONBLOCK);
  } catch {
    return undefined; // as it is, then
  }
}
