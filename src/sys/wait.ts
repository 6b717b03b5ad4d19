/** waitid(2) for tracees and children of the calling thread. */

import { type Pid, type Tid } from '../base/brand.ts';
import { forgetCommand } from './commands.ts';
import { bind, counted, errnoName, lastErrno, systemError } from './call.ts';

const P_ALL = 0;
const P_PID = 1;
const WNOHANG = 1;
const WSTOPPED = 2;
const WEXITED = 4;
const WNOWAIT = 0x0100_0000;
const WNOTHREAD = 0x2000_0000;
const WALL = 0x4000_0000;
const CLD_EXITED = 1;
const CLD_KILLED = 2;
const CLD_DUMPED = 3;

/** How a task ended. */
export type EndStatus =
  | { readonly kind: 'exited'; readonly tid: number; readonly code: number }
  | { readonly kind: 'signaled'; readonly tid: number; readonly signal: number };

/** A stop: `signal` without its system call bit; `event` a TraceEvent or 0; `systemCall`: at its entry or exit. */
export interface StopStatus {
  readonly kind: 'stopped';
  readonly tid: number;
  readonly signal: number;
  readonly event: number;
  readonly systemCall: boolean;
}

/** What a wait told about a task. */
export type WaitStatus =
  | EndStatus
  | StopStatus
  /** Nothing to wait for: the task is gone and was waited for, or was never ours. */
  | { readonly kind: 'none' };

/** How {@link waitFor} waits. */
export interface WaitOptions {
  /** Return undefined at once when nothing happened. */
  readonly poll?: boolean;
  /** Leave an end to who calls {@link takeEnd}. */
  readonly keepsEnd?: boolean;
}

const waitid: (kind: number, id: number, info: Uint8Array, options: number) => number = bind(
  'int waitid(int kind, unsigned int id, void *info, int options)',
  () => false, // counted in `look`, which sees whether anything happened
);

// siginfo_t of SIGCHLD (include/uapi/asm-generic/siginfo.h): offsets of si_code, si_pid and si_status.
const INFO_SIZE = 128;
const INFO_CODE = 8;
const INFO_PID = 16;
const INFO_STATUS = 24;

const info = Buffer.alloc(INFO_SIZE);

/** @returns what waitid answered, -1 for an error; 1 when nothing happened. `info` tells the rest. */
const look: (kind: number, id: number, options: number) => number = counted(
  (kind: number, id: number, options: number) => {
    info.writeInt32LE(0, INFO_PID);
    const result = waitid(kind, id, info, options);
    return result === 0 && info.readInt32LE(INFO_PID) === 0 ? 1 : result;
  },
  (result) => result !== 1,
);

/**
 * Waits for one tracee or child. Only what belongs to the calling thread is seen (`__WNOTHREAD`), so that
 * libuv's children are left alone.
 *
 * A stop is only looked at (WNOWAIT) and stays there to be seen until the task is resumed or
 * detached. A wait that takes a stop away clears the signal that the task stopped with
 * (kernel/exit.c, wait_task_stopped): died the tracer then, before its PTRACE_CONT, the signal
 * would be lost. An end is taken away, as a rule: there is no other way to let go of it.
 * @returns undefined with `poll` when nothing happened.
 */
export function waitFor(id: Pid | Tid, options: WaitOptions = {}): WaitStatus | undefined {
  const status = wait(P_PID, id, options);
  // A task id is as good as a process id here.
  if (options.keepsEnd !== true && isEnd(status)) takeEnd(id as Tid);
  return status;
}

/**
 * As {@link waitFor}, for whichever tracee or child has something to tell, and nothing is taken away: who answers an
 * end calls {@link takeEnd}. A stop that nobody answers is told again and again, and hides others: see {@link takeStop}.
 */
export function waitForAny(options: WaitOptions = {}): WaitStatus | undefined {
  return wait(P_ALL, 0, options);
}

/**
 * Takes away a stop that was seen, so that {@link waitForAny} does not tell it again while the task stays in it.
 * Never a stop for a signal: see {@link waitFor}.
 */
export function takeStop(tid: Tid): void {
  look(P_PID, tid, WSTOPPED | WALL | WNOTHREAD | WNOHANG);
}

/** Takes away the end of a task that {@link waitForAny} told. */
export function takeEnd(tid: Tid): void {
  look(P_PID, tid, WEXITED | WALL | WNOTHREAD | WNOHANG);
  forgetCommand(tid);
}

/** Whether a wait told that the task has ended. */
export function isEnd(status: WaitStatus | undefined): status is EndStatus {
  return status?.kind === 'exited' || status?.kind === 'signaled';
}

function wait(kind: number, id: number, options: WaitOptions): WaitStatus | undefined {
  const flags = WNOWAIT | WEXITED | WALL | WNOTHREAD | (options.poll === true ? WNOHANG : 0);
  for (;;) {
    const result = look(kind, id, flags);
    if (result === 1) return undefined;
    if (result === 0) return decodeInfo(info);
    const name = errnoName(lastErrno());
    if (name === 'ECHILD') return { kind: 'none' };
    if (name !== 'EINTR')
      throw systemError(kind === P_ALL ? 'wait for tasks' : `wait for task ${id}`);
  }
}

/** Takes what waitid tells apart (include/uapi/asm-generic/siginfo.h; kernel/exit.c; ptrace(2)). */
export function decodeInfo(bytes: Buffer): WaitStatus {
  const tid = bytes.readInt32LE(INFO_PID);
  const status = bytes.readInt32LE(INFO_STATUS);
  switch (bytes.readInt32LE(INFO_CODE)) {
    case CLD_EXITED:
      return { kind: 'exited', tid, code: status };
    case CLD_KILLED:
    case CLD_DUMPED:
      return { kind: 'signaled', tid, signal: status };
    default:
      return {
        kind: 'stopped',
        tid,
        signal: status & 0x7f,
        event: (status >> 8) & 0xff,
        systemCall: (status & 0x80) !== 0,
      };
  }
}

const usleep: (microseconds: number) => number = bind(
  'int usleep(unsigned int microseconds)',
  () => false,
);

/** Sleeps the calling thread, its event loop too; for waits between polls. At most a second. */
export function sleepMicroseconds(microseconds: number): void {
  usleep(Math.min(Math.max(0, Math.round(microseconds)), 999_999));
}
