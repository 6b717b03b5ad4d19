/** Seizing tasks, and the reason where that is refused. */

import type { Pid, Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { seize } from '../sys/ptrace.ts';
import { explainRefusal } from './permission.ts';

/** @returns false when the task has ended. @throws TraplineError when it may not be seized. */
export function seizeTask(pid: Pid, tid: Tid, options: number): boolean {
  try {
    seize(tid, options);
    return true;
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    if (error.code === 'no-process') return false;
    if (error.code !== 'not-permitted') throw error;
    const refusal = explainRefusal(pid, tid, error);
    if (refusal === undefined) return false;
    throw refusal;
  }
}
