/** Whether a task may make our calls at all: seccomp(2). */

import { readlinkSync } from 'node:fs';

import { pid as brandPid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { Capability, hasCapability, ownCredentials } from '../sys/credentials.ts';
import { setOptions, TraceOption } from '../sys/ptrace.ts';
import { type StoppedTask } from './stopped-task.ts';
import { readTaskStatus, type TaskStatus } from './tasks.ts';

/**
 * Makes sure that a stopped task's seccomp filters let our calls through. With CAP_SYS_ADMIN they sleep
 * for as long as we trace it; a blob that outlives us is filtered again. Without, filters are taken for
 * harmless only when they are the ones that we live under ourselves, as in a container.
 * @returns what to do when the calls are made, or undefined for nothing.
 * @throws TraplineError `not-permitted` when the filters are the target's own.
 */
export function allowCalls(task: StoppedTask): (() => void) | undefined {
  const target = readTaskStatus(task.tid);
  if (target === undefined || target.seccomp === 0) return undefined;
  if (hasCapability(ownCredentials(), Capability.sysAdmin) && suspend(task)) {
    return () => wake(task);
  }
  const own = readTaskStatus(brandPid(process.pid));
  if (own !== undefined && sameFilters(target, own)) return undefined;
  throw new TraplineError({
    code: 'not-permitted',
    message: `process ${task.pid} (${target.comm}) restricts its system calls by seccomp`,
    hint:
      'the calls that prepare it for probes could be answered by its death; ' +
      'with CAP_SYS_ADMIN (as root) the filter can be made to sleep meanwhile',
  });
}

/** PTRACE_O_SUSPEND_SECCOMP is refused to a tracer that has filters itself, and by some kernels. */
function suspend(task: StoppedTask): boolean {
  try {
    setOptions(task.tid, TraceOption.sysgood | TraceOption.suspendSeccomp);
    return true;
  } catch (error) {
    if (error instanceof TraplineError && error.code !== 'no-process') return false;
    throw error;
  }
}

function wake(task: StoppedTask): void {
  try {
    setOptions(task.tid, TraceOption.sysgood);
  } catch (error) {
    // Gone, or not stopped: then the kernel wakes the filters when it detaches.
    if (!(error instanceof TraplineError) || error.code !== 'no-process') throw error;
  }
}

function sameFilters(target: TaskStatus, own: TaskStatus): boolean {
  return (
    target.seccomp === 2 &&
    own.seccomp === 2 &&
    target.seccompFilters === own.seccompFilters &&
    pidNamespace(target.pid) === pidNamespace(own.pid)
  );
}

function pidNamespace(process: number): string {
  return readlinkSync(`/proc/${process}/ns/pid`);
}
