/** kcmp(2): whether two tasks share a kernel object. */

import { type Pid, type Tid } from '../base/brand.ts';
import { errnoName, lastErrno, systemQuestion } from './call.ts';

const SYS_KCMP = 312;
const KCMP_VM = 1;

/**
 * Whether two tasks have the same memory.
 * @returns undefined when the kernel won't say (no permission, not built in), or one is gone.
 */
export function sharesMemory(one: Pid | Tid, other: Pid | Tid): boolean | undefined {
  const order = Number(systemQuestion(SYS_KCMP, one, other, KCMP_VM, 0, 0, 0));
  return order < 0 ? undefined : order === 0;
}

/** Whether kcmp(2) works here at all, asked of ourselves. */
export function canCompare(): boolean {
  const own = process.pid;
  if (Number(systemQuestion(SYS_KCMP, own, own, KCMP_VM, 0, 0, 0)) === 0) return true;
  const name = errnoName(lastErrno());
  return name !== 'ENOSYS' && name !== 'EPERM';
}
