/** What is known of processes of which this thread holds every task: see `held.ts`. */

import type { Pid, Tid } from '../base/brand.ts';
import { takeStop, type EndStatus } from '../sys/wait.ts';
import { leaveCall } from './interrupted.ts';
import { ignoreGone } from './tasks.ts';

/**
 * Where a held task is: `newborn` until its first stop, which comes by itself; `parked` in a stop that was taken away, until
 * `go`; `leaving` a system call at whose entry it was parked, and parked again then; `stopped` by SIGSTOP.
 */
export type TaskState = 'newborn' | 'running' | 'parked' | 'leaving' | 'stopped';

/** A process of which this thread holds every task. */
export class HeldProcess {
  readonly pid: Pid;
  /** Whether it goes from system call to system call, each told as an event. */
  isLed: boolean = false;
  /** Whether its tasks are let go as they stop. */
  isLeaving: boolean = false;
  /** Whether its first task has not stopped yet for the first time. */
  isNew: boolean;
  readonly tasks: Map<Tid, TaskState> = new Map();

  constructor(pid: Pid, isNew: boolean) {
    this.pid = pid;
    this.isNew = isNew;
  }
}

/** A task of a held process waits in the stop in which it is. */
export function park(process: HeldProcess, tid: Tid): void {
  takeStop(tid);
  process.tasks.set(tid, 'parked');
}

/**
 * Has a parked task leave the system call at whose entry it is, if it is at one; it is parked again at the end of the stop to
 * which it comes.
 */
export function leaveParkedCall(process: HeldProcess, tid: Tid): boolean {
  let isEntry = false;
  ignoreGone(() => {
    isEntry = leaveCall(tid);
    if (isEntry) process.tasks.set(tid, 'leaving');
  });
  return isEntry;
}

/** What has become of a held process. In all but the last kind its task may wait, parked. */
export type HeldEvent =
  | {
      readonly kind: 'born';
      readonly process: HeldProcess;
      /** Unknown where it was killed before it could tell. */
      readonly parent: HeldProcess | undefined;
      readonly sharesMemory: boolean;
    }
  /** It waits, parked, before its first instruction: `parksNewborn`. */
  | { readonly kind: 'waiting'; readonly process: HeldProcess }
  /** Its new program is in place, and has not begun. */
  | { readonly kind: 'executed'; readonly process: HeldProcess }
  /** One that is led has entered or left a system call. */
  | { readonly kind: 'stepped'; readonly process: HeldProcess }
  | {
      readonly kind: 'ended';
      readonly process: HeldProcess;
      readonly status: EndStatus;
      /** What `beforeEnd` answered. */
      readonly nanoseconds: number;
    };

/** Held processes, by their ids and by those of their tasks. */
export class HeldTable {
  readonly #processes = new Map<Pid, HeldProcess>();
  readonly #byTask = new Map<Tid, HeldProcess>();

  get isEmpty(): boolean {
    return this.#byTask.size === 0;
  }

  get tasks(): readonly (readonly [Tid, TaskState | undefined])[] {
    return Array.from(this.#byTask, ([tid, process]) => [tid, process.tasks.get(tid)] as const); // a pair
  }

  get(pid: Pid): HeldProcess | undefined {
    return this.#processes.get(pid);
  }

  processOf(tid: Tid): HeldProcess | undefined {
    return this.#byTask.get(tid);
  }

  add(pid: Pid, tid: Tid, state: TaskState, isNew = false): HeldProcess {
    const process = this.#processes.get(pid) ?? new HeldProcess(pid, isNew);
    this.#processes.set(pid, process);
    process.tasks.set(tid, state);
    this.#byTask.set(tid, process);
    return process;
  }

  /** A process has called exec: its first task, parked, is the only one. */
  renew(process: HeldProcess, tid: Tid): void {
    for (const old of process.tasks.keys()) this.#byTask.delete(old);
    process.tasks.clear();
    process.isLed = false;
    process.tasks.set(tid, 'parked');
    this.#byTask.set(tid, process);
  }

  /** A process goes with its last task. */
  forget(tid: Tid): void {
    const process = this.#byTask.get(tid);
    this.#byTask.delete(tid);
    process?.tasks.delete(tid);
    if (process?.tasks.size === 0) this.#processes.delete(process.pid);
  }
}
