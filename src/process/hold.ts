/** Beginning to hold processes: see `held.ts`. */

import type { Pid, Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { TraceOption } from '../sys/ptrace.ts';
import { sleepMicroseconds } from '../sys/wait.ts';
import { held } from './held.ts';
import type { HeldProcess } from './held-process.ts';
import { seizeTask } from './seize.ts';
import { isLive, listTasks } from './tasks.ts';
import { Turns } from './turns.ts';

/** With these a task's exec, and all that it makes, are told and held. */
export const FOLLOW: number =
  TraceOption.sysgood | TraceOption.exec | TraceOption.fork | TraceOption.vfork | TraceOption.clone;

/** Between two attempts to seize what somebody else traces, in microseconds. */
const TURN_PAUSE = 2000;
/** Between two looks while somebody else is waited for, in microseconds. */
const LOOK_INTERVAL = 200;

/** Takes in a command of ours of which the only task is in a stop that was seen. */
export function adopt(pid: Pid): HeldProcess {
  // The first task of a process has the process's id.
  return held.add(pid, pid as unknown as Tid, 'parked');
}

/**
 * Seizes every task of a running process; none is stopped.
 * @throws TraplineError as seizing does: `busy`, `not-permitted`. What was seized then is held until it is released.
 */
export function holdProcess(pid: Pid): void {
  for (const turns = new Turns(); ;) {
    try {
      seizeAll(pid);
      return;
    } catch (error) {
      if (!(error instanceof TraplineError) || !turns.mayComeAgain(error)) throw error;
      pause(TURN_PAUSE);
    }
  }
}

/**
 * Lets a running process go: one of its tasks before this returns, if it can in time, the others as soon as they stop. A
 * task that waits in the kernel does on its way back: it makes no other system call before it is let go.
 */
export function letGoBefore(process: HeldProcess, task: Tid, milliseconds: number): void {
  held.letGo(process);
  const deadline = performance.now() + milliseconds;
  while (process.tasks.has(task) && performance.now() < deadline) pause(LOOK_INTERVAL);
}

/** A task of a seized one is seized at birth: two rounds are the rule, more are a race with clone. */
function seizeAll(pid: Pid): void {
  for (let isNew = true; isNew;) {
    isNew = false;
    for (const tid of listTasks(pid)) {
      if (held.stateOf(tid) !== undefined || !isLive(tid)) continue;
      if (!seizeTask(pid, tid, FOLLOW)) continue;
      held.add(pid, tid, 'running');
      isNew = true;
    }
  }
}

/** Sleeps; who is held is served meanwhile, as by {@link held}. */
export function pause(microseconds: number): void {
  if (held.isEmpty) {
    sleepMicroseconds(microseconds);
    return;
  }
  const end = performance.now() + microseconds / 1000;
  do {
    held.serve(false);
    sleepMicroseconds(Math.min(LOOK_INTERVAL, microseconds));
  } while (performance.now() < end);
}
