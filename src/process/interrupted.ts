/** System calls of held tasks that were interrupted, although the program would not have seen it. */

import type { Tid } from '../base/brand.ts';
import { getCallStop, getRegisters, interrupt, resume, setRegisters } from '../sys/ptrace.ts';
import { Signal } from '../sys/signals.ts';
import { isInterrupted, keepInterruptedCall, redoCall, type RegisterHolder } from './restart.ts';
import { readTaskStatus } from './tasks.ts';

/** What nobody is told of unless there is a handler: signal(7), "Ign". */
const IGNORED_BY_DEFAULT: ReadonlySet<number> = new Set([
  Signal.child,
  Signal.continue,
  Signal.urgent,
  Signal.window,
]);

/** See {@link keepInterruptedCall}. */
export function keepTaskCall(tid: Tid): void {
  keepInterruptedCall(holderOf(tid));
}

/**
 * Brings a task out of the system call at whose entry it is: no call of ours can be made inside of one. It makes its own again
 * behind our stop. Under a seccomp filter it makes it now: the filter would be asked about the number -1, and may kill for that.
 * @returns whether it is at an entry; it is about to come to a stop then, as one that was interrupted
 */
export function leaveCall(tid: Tid): boolean {
  if (getCallStop(tid) !== 'entry') return false;
  if (readTaskStatus(tid)?.seccomp === 0) redoCall(holderOf(tid));
  interrupt(tid);
  resume(tid);
  return true;
}

function holderOf(tid: Tid): RegisterHolder {
  return {
    registers: getRegisters(tid),
    setRegisters: (registers) => setRegisters(tid, registers),
  };
}

/**
 * A signal that a program ignores is dropped when it is sent (kernel/signal.c, sig_ignored), but not where there is a
 * tracer: the task's system call is interrupted for it. Most are made again by the kernel; those that would answer
 * EINTR are made again by this.
 * @param tid a task that has stopped for the signal
 */
export function keepIgnoredCall(tid: Tid, signal: number): void {
  const registers = getRegisters(tid);
  if (!isInterrupted(registers) || !isIgnored(tid, signal)) return;
  keepInterruptedCall({ registers, setRegisters: (changed) => setRegisters(tid, changed) });
}

function isIgnored(tid: Tid, signal: number): boolean {
  const status = readTaskStatus(tid);
  if (status === undefined) return false; // killed: nobody asks what its call answers
  const bit = 1n << BigInt(signal - 1);
  if ((status.ignoredSignals & bit) !== 0n) return true;
  return IGNORED_BY_DEFAULT.has(signal) && (status.caughtSignals & bit) === 0n;
}
