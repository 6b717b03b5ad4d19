/** waitpid(2) for tracees and children of the calling thread. */

import { type Pid, type Tid } from '../base/brand.ts';
import { bind, errnoName, lastErrno, systemError } from './call.ts';

const WNOHANG = 1;
const WNOTHREAD = 0x2000_0000;
const WALL = 0x4000_0000;

/** What a wait told about a task. */
export type WaitStatus =
  | { readonly kind: 'exited'; readonly tid: number; readonly code: number }
  | { readonly kind: 'signaled'; readonly tid: number; readonly signal: number }
  /** `signal` without its system call bit; `event` a TraceEvent or 0; `systemCall`: at its entry or exit. */
  | {
      readonly kind: 'stopped';
      readonly tid: number;
      readonly signal: number;
      readonly event: number;
      readonly systemCall: boolean;
    }
  /** Nothing to wait for: the task is gone and was waited for, or was never ours. */
  | { readonly kind: 'none' };

/** How {@link waitFor} waits. */
export interface WaitOptions {
  /** Return undefined at once when nothing happened. */
  readonly poll?: boolean;
}

const waitpid: (pid: number, status: Uint8Array, options: number) => number = bind(
  'int waitpid(int pid, void *status, int options)',
  (result) => result !== 0,
);

/**
 * Waits for one tracee or child, or for any with -1. Only what belongs to the calling thread is
 * seen (`__WNOTHREAD`), so that libuv's children are left alone.
 * @returns undefined with `poll` when nothing happened.
 */
export function waitFor(id: Pid | Tid | -1, options: WaitOptions = {}): WaitStatus | undefined {
  const flags = WALL | WNOTHREAD | (options.poll === true ? WNOHANG : 0);
  const status = Buffer.alloc(4);
  for (;;) {
    const tid = waitpid(id, status, flags);
    if (tid === 0) return undefined;
    if (tid > 0) return decodeStatus(tid, status.readUInt32LE());
    const name = errnoName(lastErrno());
    if (name === 'ECHILD') return { kind: 'none' };
    if (name !== 'EINTR') throw systemError(`wait for task ${id}`);
  }
}

/** Takes a wait status apart (include/uapi/linux/wait.h, ptrace(2)). */
export function decodeStatus(tid: number, status: number): WaitStatus {
  const low = status & 0x7f;
  if (low === 0) return { kind: 'exited', tid, code: (status >> 8) & 0xff };
  if (low !== 0x7f) return { kind: 'signaled', tid, signal: low };
  const signal = (status >> 8) & 0xff;
  return {
    kind: 'stopped',
    tid,
    signal: signal & 0x7f,
    event: (status >> 16) & 0xff,
    systemCall: (signal & 0x80) !== 0,
  };
}

const usleep: (microseconds: number) => number = bind(
  'int usleep(unsigned int microseconds)',
  () => false,
);

/** Sleeps the calling thread, its event loop too; for waits between polls. At most a second. */
export function sleepMicroseconds(microseconds: number): void {
  usleep(Math.min(Math.max(0, Math.round(microseconds)), 999_999));
}
