/** Signals: sending them, and their names. And who we are. */

import { constants } from 'node:os';

import { pid as brandPid, type Pid } from '../base/brand.ts';
import { addressOf, bind, check, systemCall } from './call.ts';

const SYS_PRCTL = 157;
const SYS_GETTID = 186;
const PR_SET_NAME = 15;

const killProcess: (pid: number, signal: number) => number = bind('int kill(int pid, int signal)');

/** The numbers of the signals that the code names (x86-64's). */
export const Signal = {
  trap: 5,
  kill: 9,
  child: 17,
  continue: 18,
  stop: 19,
  urgent: 23,
  window: 28,
  /** A system call that a filter forbids. */
  systemCall: 31,
} as const;

const names = new Map<number, string>(
  Object.entries(constants.signals).map(([name, number]) => [number, name]),
);

/** "SIGUSR1"; "signal 40" where it has no name. */
export function signalName(signal: number): string {
  return names.get(signal) ?? `signal ${signal}`;
}

/** Sends a signal to a process. @throws TraplineError `no-process`, `not-permitted`. */
export function sendSignal(pid: Pid, signal: number): void {
  check(killProcess(pid, signal), `send ${signalName(signal)} to process ${pid}`);
}

/** Our own process, whichever thread asks, as our pid namespace and our /proc number it. */
export function ownPid(): Pid {
  return brandPid(process.pid);
}

/** Names the calling thread (`comm`): others see it in /proc. At most 15 bytes. */
export function nameThread(name: string): void {
  const text = Buffer.from(`${name}\0`);
  systemCall(SYS_PRCTL, PR_SET_NAME, addressOf(text), 0, 0, 0, 0);
}

/** The calling thread's id in its own pid namespace. */
export function ownTaskId(): number {
  return Number(systemCall(SYS_GETTID, 0, 0, 0, 0, 0, 0));
}
