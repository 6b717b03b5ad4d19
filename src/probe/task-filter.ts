/**
 * Task filters: in which processes a consumer is active. Asked when a process is about to get the site, never
 * at a hit: a process that no consumer of a probe wants is not touched.
 */

import { TraplineError } from '../base/errors.ts';
import { compileGlob } from '../base/glob.ts';

/** What a task filter can ask of a process, as our own namespaces show it. */
export interface ProcessFacts {
  readonly pid: number;
  /** Its parent, the parent of that, and so on. */
  readonly ancestors: readonly number[];
  /** The name of its first task, at most 15 bytes. */
  readonly comm: string;
  /** The path of its program; empty where we may not know. */
  readonly executable: string;
  /** Its real user id. */
  readonly uid: number;
  /** The path of its control group (of the unified hierarchy, if there is one); empty where there is none. */
  readonly cgroup: string;
}

/** Which processes a consumer is active in: those for which all that is given holds. Globs are the shell's. */
export interface TaskFilter {
  readonly pids?: readonly number[];
  /** Processes, with all that descend from them. */
  readonly trees?: readonly number[];
  readonly uids?: readonly number[];
  readonly comm?: string;
  /** With a slash a glob for the path of the program, else for its last part. */
  readonly executable?: string;
  /** A control group, with those in it: `/system.slice/*`. */
  readonly cgroup?: string;
  /**
   * Asked last, in the thread of whoever made the session. What it throws is thrown by what asked for the probe; of a
   * process that was found later, it ends the search, and the summary says so (`kept`).
   */
  readonly accepts?: (process: ProcessFacts) => boolean;
}

/**
 * A filter as a function.
 * @throws TraplineError `usage` for one that nothing can pass, by a mistake.
 */
export function compileTaskFilter(filter: TaskFilter): (process: ProcessFacts) => boolean {
  for (const name of ['pids', 'trees', 'uids'] as const) {
    const wrong = filter[name]?.find((number) => !Number.isSafeInteger(number) || number < 0);
    if (wrong !== undefined) throw nothing(name, `${wrong} is no such number`);
    if (filter[name]?.length === 0) throw nothing(name, 'the list is empty');
  }
  for (const name of ['comm', 'executable', 'cgroup'] as const) {
    if (filter[name] === '') throw nothing(name, 'the glob is empty');
  }
  const { pids, trees, uids, comm, executable, cgroup, accepts } = filter;
  const tests: ((process: ProcessFacts) => boolean)[] = [];
  if (pids !== undefined) tests.push(({ pid }) => pids.includes(pid));
  if (trees !== undefined)
    tests.push((process) => familyOf(process).some((pid) => trees.includes(pid)));
  if (uids !== undefined) tests.push(({ uid }) => uids.includes(uid));
  if (comm !== undefined) tests.push(on(comm, (process) => process.comm));
  if (executable !== undefined) {
    const isPath = executable.includes('/');
    tests.push(
      on(executable, (process) => (isPath ? process.executable : lastOf(process.executable))),
    );
  }
  if (cgroup !== undefined) tests.push(inGroup(cgroup));
  if (accepts !== undefined) tests.push(accepts);
  return (process) => tests.every((holds) => holds(process));
}

function familyOf({ pid, ancestors }: ProcessFacts): readonly number[] {
  return [pid, ...ancestors];
}

function on(
  glob: string,
  value: (process: ProcessFacts) => string,
): (process: ProcessFacts) => boolean {
  const matches = compileGlob(glob);
  return (process) => matches(value(process));
}

/** A group itself, or what is below it, whichever part of the path the glob is for. */
function inGroup(glob: string): (process: ProcessFacts) => boolean {
  const plain = glob.replace(/\/+$/, '');
  const [itself, below] = [plain, `${plain}/*`].map((one) => compileGlob(one));
  return ({ cgroup }) => itself?.(cgroup) === true || below?.(cgroup) === true;
}

function lastOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function nothing(name: string, why: string): TraplineError {
  return new TraplineError({
    code: 'usage',
    message: `no process passes the task filter: ${name}: ${why}`,
    hint: `Leave ${name} out for every process.`,
  });
}
