/** Reading what is there, without waiting and without an exception where nothing is. */

import { constants } from 'node:os';

import { bind, lastErrno, systemError, type Long } from './call.ts';

const { EAGAIN, EINTR } = constants.errno;

const read: (fd: number, into: Uint8Array, length: number) => Long = bind(
  'int64_t read(int fd, void *into, uint64_t length)',
  () => false,
);

/**
 * Reads from a descriptor that was opened with O_NONBLOCK; fs.readSync makes an error object, with a stack,
 * of each time that nothing is there.
 * @returns how many bytes were read; 0 where there are none now, or none any more.
 * @throws TraplineError `system`, naming `what` was to be read.
 */
export function readAvailable(fd: number, into: Uint8Array, what: string): number {
  const count = Number(read(fd, into, into.byteLength));
  if (count >= 0) return count;
  const errno = lastErrno();
  if (errno === EAGAIN || errno === EINTR) return 0;
  throw systemError(`read ${what}`, errno);
}
