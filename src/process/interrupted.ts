/** System calls of held tasks that were interrupted, although the program would not have seen it. */

import type { Tid } from '../base/brand.ts';
import { getCallStop, getRegisters, interrupt, resume, setRegisters } from '../sys/ptrace.ts';
import { Signal } from '../sys/signals.ts';
import { isInterrupted, keepInterruptedCall, redoCall, type RegisterHolder } from './restart.ts';
import { ignoreGone, readTaskStatus } from './tasks.ts';

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

function holderOf(tid: Tid): RegisterHolder {
  return {
    registers: getRegisters(tid),
    setRegisters: (registers) => setRegisters(tid, registers),
  };
}

/**
 * Has a parked task that is at its entry into a system call make that again: no call of ours can be made inside of one. It is
 * about to come to a stop as one that was interrupted.
 * @returns whether it is
 */
export function beginCallAgain(tid: Tid): boolean {
  let isEntry = false;
  ignoreGone(() => {
    if (getCallStop(tid) !== 'entry') return;
    redoCall(holderOf(tid));
    interrupt(tid);
    resume(tid);
    isEntry = true;
  });
  return isEntry;
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
