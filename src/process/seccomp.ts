/**
 * Whether tasks may make our calls at all: seccomp(2). Two kinds have to pass: those that are
 * injected to prepare a target, and those that its stubs make long after we let go. So a filter is
 * never made to sleep for the first kind: it would still be there for the second.
 */

import { readlinkSync } from 'node:fs';

import { pid as brandPid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { rehearseCall } from '../sys/call.ts';
import { eventClock } from '../sys/clock.ts';
import { getSeccompFilter } from '../sys/ptrace.ts';
import { passes, type FilteredCall } from './seccomp-filter.ts';
import type { StoppedTask } from './stopped-task.ts';
import { readTaskStatus, type TaskStatus } from './tasks.ts';

/** Every call of a blob or a stub, with the arguments that a filter could look at (syscall_64.tbl). */
const CALLS: Readonly<Record<string, FilteredCall>> = {
  mmap: { number: 9, arguments: [0n, 4096n, 1n, 0x10_0002n, 3n, 0n] },
  munmap: { number: 11, arguments: [0n, 4096n] },
  rt_sigprocmask: { number: 14, arguments: [2n, 0n, 0n, 8n] },
  madvise: { number: 28, arguments: [0n, 4096n, 18n] },
  close: { number: 3, arguments: [3n] },
  getpid: { number: 39, arguments: [] },
  prctl: { number: 157, arguments: [16n] },
  gettid: { number: 186, arguments: [] },
  ppoll: { number: 271, arguments: [0n, 0n, 0n, 0n, 8n] },
  process_vm_readv: { number: 310, arguments: [1n, 0n, 1n, 0n, 1n, 0n] },
  memfd_create: { number: 319, arguments: [0n, 3n] },
  ...(eventClock() === 'system' && { clock_gettime: { number: 228, arguments: [1n, 0n] } }),
};

/** What an announcement calls beyond those. */
const ANNOUNCING_CALLS: Readonly<Record<string, FilteredCall>> = {
  futex: { number: 202, arguments: [0n, 0n, 0n, 0n] },
  clock_gettime: { number: 228, arguments: [1n] },
};

/** Calls that can be made with arguments that do nothing, to see whether we live. */
const REHEARSED = ['getpid', 'gettid', 'process_vm_readv', 'memfd_create'];

/** What calls are for: those of any probe, or those of announcements. */
export type CallPurpose = 'probes' | 'announcements';

interface CallSet {
  readonly calls: Readonly<Record<string, FilteredCall>>;
  readonly rehearsed: readonly string[];
}

const PURPOSES: Readonly<Record<CallPurpose, CallSet>> = {
  probes: { calls: CALLS, rehearsed: REHEARSED },
  announcements: { calls: ANNOUNCING_CALLS, rehearsed: Object.keys(ANNOUNCING_CALLS) },
};

/**
 * Makes sure that the filters of stopped tasks let all calls of ours through. As root, the filters
 * themselves are read and asked. Otherwise they are taken for harmless only when they are the ones that we
 * live under ourselves, as in a container, and the calls do us no harm.
 * @param purpose which calls are meant
 * @throws TraplineError `not-permitted` naming the call that would not pass.
 */
export function ensureCallsPass(
  tasks: readonly StoppedTask[],
  purpose: CallPurpose = 'probes',
): void {
  const { calls } = PURPOSES[purpose];
  const known = new Set<string>();
  for (const task of tasks) {
    const { status } = task;
    if (status === undefined || status.seccomp === 0) continue;
    const filters = status.seccomp === 2 ? readFilters(task) : undefined;
    if (filters === undefined) {
      const own = readTaskStatus(brandPid(process.pid));
      if (own === undefined || !sameFilters(status, own)) throw unknownFilters(task, status);
      if (!known.has('own')) rehearse(purpose);
      known.add('own');
      continue;
    }
    for (const filter of filters) {
      const key = Buffer.from(filter).toString('latin1');
      if (known.has(key)) continue;
      known.add(key);
      for (const [name, call] of Object.entries(calls)) {
        if (!passes(filter, call)) throw refusedCall(task, status, name, purpose);
      }
    }
  }
}

/** All filters of a task; undefined when we may not read them. */
function readFilters(task: StoppedTask): Uint8Array[] | undefined {
  const filters: Uint8Array[] = [];
  for (;;) {
    const filter = getSeccompFilter(task.tid, filters.length);
    if (filter === 'not-permitted') return undefined;
    if (filter === undefined) return filters;
    filters.push(filter);
  }
}

/** If a call is answered by our death, it is ours and not the target's. */
function rehearse(purpose: CallPurpose): void {
  const { calls, rehearsed } = PURPOSES[purpose];
  for (const name of rehearsed) {
    const call = calls[name];
    if (call !== undefined) rehearseCall(call.number);
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

function unknownFilters(task: StoppedTask, { comm }: TaskStatus): TraplineError {
  return new TraplineError({
    code: 'not-permitted',
    message: `process ${task.pid} (${comm}) restricts its system calls by seccomp`,
    hint:
      'The calls of a probe could be answered by its death. As root (CAP_SYS_ADMIN) its filters can be\n' +
      'read, and the process probed if they let those calls through.',
  });
}

function refusedCall(
  task: StoppedTask,
  { comm }: TaskStatus,
  name: string,
  purpose: CallPurpose,
): TraplineError {
  const names = Object.keys(PURPOSES[purpose].calls).join(', ');
  const who = purpose === 'probes' ? 'Probes' : 'Announcements';
  return new TraplineError({
    code: 'not-permitted',
    message: `the seccomp filter of process ${task.pid} (${comm}) does not let ${name} through`,
    hint: `${who} need ${names}. Start the process without that filter, or allow them in it.`,
  });
}
