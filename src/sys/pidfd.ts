/** pidfd_open(2): a question about a whole process that no reuse of its id can fool while it is asked. */

import { type Pid } from '../base/brand.ts';
import { addressOf, errnoName, lastErrno, systemQuestion } from './call.ts';

const SYS_CLOSE = 3;
const SYS_POLL = 7;
const SYS_PIDFD_OPEN = 434;
const POLLIN = 1;

// struct pollfd: int fd, short events, short revents.
const question = Buffer.alloc(8);

/**
 * Whether no thread of a process runs any more: it is gone, or its parent has yet to wait for it. A first thread that
 * ended alone is no end of the process (kernel/fork.c or fs/pidfs.c, pidfd_poll).
 * @returns undefined where it can't be asked now, for lack of descriptors.
 */
export function hasEnded(pid: Pid): boolean | undefined {
  const fd = Number(systemQuestion(SYS_PIDFD_OPEN, pid, 0, 0, 0, 0, 0));
  if (fd < 0) {
    const name = errnoName(lastErrno());
    // The last two: the id is a thread's now; which of them it is depends on the kernel.
    return name === 'ESRCH' || name === 'EINVAL' || name === 'ENOENT' ? true : undefined;
  }
  question.writeInt32LE(fd, 0);
  question.writeInt16LE(POLLIN, 4);
  question.writeInt16LE(0, 6);
  const ready = Number(systemQuestion(SYS_POLL, addressOf(question), 1, 0, 0, 0, 0));
  systemQuestion(SYS_CLOSE, fd, 0, 0, 0, 0, 0);
  return ready < 0 ? undefined : ready === 1;
}
