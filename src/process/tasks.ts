/** The tasks of a process, and the processes that share its memory. */

import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

import { pid as brandPid, tid as brandTid, type Pid, type Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { canCompare, sharesMemory } from '../sys/kcmp.ts';

/** What `/proc/PID/task/TID/status` says of a task. */
export interface TaskStatus {
  readonly tid: Tid;
  readonly pid: Pid;
  /** The task's name, at most 15 bytes. */
  readonly comm: string;
  /** The state's letter (proc_pid_status(5)): R, S, D, T, t, Z, X, I. */
  readonly state: string;
  /** The task that traces it, 0 for none or one outside our pid namespace. */
  readonly tracerTid: number;
  /** Effective user id. */
  readonly uid: number;
  /** Real user id. */
  readonly realUid: number;
  /** 0 none, 1 strict, 2 filters. */
  readonly seccomp: number;
  readonly seccompFilters: number;
  /** Whether no program that it executes gives it rights (PR_SET_NO_NEW_PRIVS). */
  readonly noNewPrivileges: boolean;
  /** Signals that are ignored, and that have a handler: signal n is bit n - 1. */
  readonly ignoredSignals: bigint;
  readonly caughtSignals: bigint;
  /** Whether the processor keeps a shadow stack for it (x86_Thread_features: shstk). */
  readonly shadowStack: boolean;
  /** Its task id in its own, innermost pid namespace. */
  readonly namespaceTid: number;
  /** Its process id in its own, innermost pid namespace. */
  readonly namespacePid: number;
  /** Whether that is another pid namespace than the one of /proc, in which we number it. */
  readonly isNamespaceInner: boolean;
}

/** The ids of the tasks of a process in ascending order; empty when it is gone. */
export function listTasks(pid: Pid): Tid[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map((name) => brandTid(Number(name)));
  } catch {
    return []; // gone: a process without tasks
  }
}

/** What the kernel says of a task; undefined when it is gone. */
export function readTaskStatus(tid: Tid | Pid): TaskStatus | undefined {
  try {
    return parseStatus(readFileSync(`/proc/${tid}/status`, 'utf8'));
  } catch {
    return undefined; // gone
  }
}

/** Where a link leads, in /proc as a rule; undefined when it is gone, or not for us to see. */
export function readLink(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

/** The words that a process was started by, with spaces between them; undefined when it is gone. */
export function readCommandLine(pid: Pid): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replace(/\0$/, '').replaceAll('\0', ' ');
  } catch {
    return undefined; // gone, or not ours to look at
  }
}

/** Parses a status file. */
export function parseStatus(text: string): TaskStatus {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  const words = (name: string): string[] => (fields.get(name) ?? '').split(/\s+/);
  const number = (name: string, index = 0): number => Number(words(name)[index] ?? 0);
  return {
    tid: brandTid(number('Pid')),
    pid: brandPid(number('Tgid')),
    comm: fields.get('Name') ?? '',
    state: (fields.get('State') ?? '').charAt(0),
    tracerTid: number('TracerPid'),
    realUid: number('Uid', 0),
    uid: number('Uid', 1),
    seccomp: number('Seccomp'),
    seccompFilters: number('Seccomp_filters'),
    noNewPrivileges: number('NoNewPrivs') === 1,
    ignoredSignals: BigInt(`0x${fields.get('SigIgn') ?? '0'}`),
    caughtSignals: BigInt(`0x${fields.get('SigCgt') ?? '0'}`),
    shadowStack: words('x86_Thread_features').includes('shstk'),
    namespaceTid: Number(words('NSpid').at(-1) ?? 0),
    namespacePid: Number(words('NStgid').at(-1) ?? 0),
    isNamespaceInner: words('NStgid').length > 1,
  };
}

/** The id that a process has in its own pid namespace, where that is another than ours: what people are shown beside ours. */
export function innerPid(status: TaskStatus | undefined): { readonly namespacePid?: number } {
  return status?.isNamespaceInner === true ? { namespacePid: status.namespacePid } : {};
}

/**
 * Our ids of a process's tasks by the ids that the process itself sees (in its own pid namespace): what
 * a stub writes to a record, and `gettid` returns in a target, are the latter.
 */
export function mapNamespaceTasks(pid: Pid): Map<number, Tid> {
  const map = new Map<number, Tid>();
  for (const tid of listTasks(pid)) {
    const status = readTaskStatus(tid);
    if (status !== undefined) map.set(status.namespaceTid, tid);
  }
  return map;
}

/**
 * Other processes that run in the same memory (CLONE_VM without CLONE_THREAD, vfork children).
 * Asks kcmp(2) about every process of the machine, under a microsecond each; where kcmp is not
 * allowed, processes whose maps read the same are taken for sharing, forked children too, which
 * costs them a stop and no more. Those of other users can't be asked: without privilege we could not stop
 * them either.
 * @param among the processes that are asked about; all when absent
 */
export function listStrangers(pid: Pid, among: readonly Pid[] = listProcesses()): Pid[] {
  const others = among.filter((other) => other !== pid && other !== process.pid);
  if (others.length === 0) return [];
  const live = listTasks(pid).find((tid) => isLive(tid));
  if (live === undefined) return [];
  const same = canCompare()
    ? others.filter((other) => sharesMemory(live, other) === true)
    : others.filter((other) => looksTheSame(live, other));
  // A task that is ending has no memory any more, and so the same as every kernel thread.
  return same.filter((other) => hasMemory(other));
}

/**
 * Of some processes, one for each memory: what is done in one of those that share it is done in all. Where kcmp is not
 * allowed, all of them: forked children look the same, and must not be left out.
 */
export function oneForEachMemory(pids: readonly Pid[]): Pid[] {
  if (pids.length < 2 || !canCompare()) return [...pids];
  const first: Pid[] = [];
  for (const pid of pids)
    if (!first.some((other) => sharesMemory(pid, other) === true)) first.push(pid);
  return first;
}

/** Finds the processes that share a process's memory, again and again: none comes to share it but a new one. */
export class MemorySharers {
  readonly #pid: Pid;
  readonly #asked = new Set<Pid>();
  readonly #found: Pid[] = [];

  constructor(pid: Pid) {
    this.#pid = pid;
  }

  /** As {@link listStrangers}, but only processes that were not asked before are asked. */
  list(): readonly Pid[] {
    const fresh = listProcesses().filter((pid) => !this.#asked.has(pid));
    this.#found.push(...listStrangers(this.#pid, fresh));
    for (const pid of fresh) this.#asked.add(pid);
    return this.#found;
  }
}

/** All processes of the machine that our pid namespace shows. */
export function listProcesses(): Pid[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => brandPid(Number(name)));
}

/** The first letters after the name in stat; cheaper to make than status. Undefined when it is gone. */
export function readTaskState(tid: Tid | Pid): string | undefined {
  try {
    const stat = readFileSync(`/proc/${tid}/stat`, 'latin1');
    return stat.charAt(stat.lastIndexOf(')') + 2);
  } catch {
    return undefined; // gone
  }
}

/** The process of which a task's is a child, 0 for one outside our pid namespace; undefined when it is gone. */
export function readParent(tid: Tid | Pid): number | undefined {
  try {
    const stat = readFileSync(`/proc/${tid}/stat`, 'latin1');
    // The fields behind the name: state, parent.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ', 2)[1]);
  } catch {
    return undefined; // gone
  }
}

/** Whether a task still has memory: not a zombie, not dead. */
export function isLive(tid: Tid | Pid): boolean {
  const state = readTaskState(tid);
  return state !== undefined && state !== 'Z' && state !== 'X';
}

/**
 * A task by which a process's memory, program, root and descriptors are seen in /proc: its first, unless that has ended
 * before the others. Its id is as good as a process's there.
 */
export function visibleTask(pid: Pid): Pid {
  if (hasMemory(pid)) return pid;
  const other = listTasks(pid).find((tid) => hasMemory(tid));
  return other === undefined ? pid : (other as unknown as Pid);
}

/**
 * Whether a process has not ended. One whose first task has is a zombie, while its other tasks go on: its number of
 * tasks tells (proc_pid_stat(5), field 20).
 */
export function isRunning(pid: Pid): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ', 18);
    return (fields[0] !== 'Z' && fields[0] !== 'X') || Number(fields[17]) > 1;
  } catch {
    return false; // gone
  }
}

/**
 * For what is not owed to a task that has ended: it may be killed between any two calls, and the next
 * wait for it tells.
 */
export function ignoreGone(action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'no-process') throw error;
  }
}

function hasMemory(other: Pid | Tid): boolean {
  try {
    return !readFileSync(`/proc/${other}/statm`, 'latin1').startsWith('0 ');
  } catch {
    return false; // gone
  }
}

function looksTheSame(one: Tid | Pid, other: Pid): boolean {
  try {
    const size = readFileSync(`/proc/${other}/statm`, 'latin1').split(' ')[0];
    if (size === '0' || size !== readFileSync(`/proc/${one}/statm`, 'latin1').split(' ')[0]) {
      return false;
    }
    const maps = readFileSync(`/proc/${other}/maps`, 'latin1');
    return maps !== '' && maps === readFileSync(`/proc/${one}/maps`, 'latin1');
  } catch {
    return false; // gone, or another user's
  }
}
