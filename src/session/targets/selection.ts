/** From what a person named to the processes that are meant. */

import { pid as brandPid, tid as brandTid, type Pid, type Tid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { readProcessMaps } from '../../engines/jump/spaces.ts';
import { parseDefinition } from '../../probe/definition.ts';
import type { ProbeLocation } from '../../probe/location.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { explainRefusal } from '../../process/permission.ts';
import { innerPid, isLive, listTasks, readTaskStatus } from '../../process/tasks.ts';
import { ownPid } from '../../sys/signals.ts';
import { fileMatcher } from '../files/file-names.ts';
import { ancestorsOf, executableOf } from './process-facts.ts';
import type { ProbeRequest, TargetInfo, TargetSelection } from '../types.ts';

/** A process that was selected, with the tasks that were, if only some are. */
export interface SelectedProcess {
  readonly pid: Pid;
  /** As the process's own pid namespace numbers them. */
  readonly tids: readonly number[] | undefined;
  /** The same tasks by our own numbers. */
  readonly tasks: readonly Tid[] | undefined;
}

interface ChosenTask {
  readonly tid: number;
  readonly own: Tid;
}

/**
 * The selected processes, each once.
 * @throws TraplineError `usage` when nothing is named, `no-process`, `refused` for ourselves.
 */
export function selectProcesses(
  selection: TargetSelection,
  probes: readonly ProbeRequest[],
): SelectedProcess[] {
  const selected = new Map<Pid, ChosenTask[] | undefined>();
  for (const number of selection.pids ?? []) selected.set(existing(number), undefined);
  for (const number of selection.tids ?? []) {
    const status = statusOf(number);
    ensureReadable(status.pid);
    const known = selected.get(status.pid);
    if (selected.has(status.pid) && known === undefined) continue;
    selected.set(status.pid, [...(known ?? []), { tid: status.namespaceTid, own: status.tid }]);
  }
  // A place that is named by its process names that process.
  for (const { definition } of probes) {
    const { location } = parseDefinition(definition);
    if (location.kind === 'address' && !selected.has(brandPid(location.pid))) {
      selected.set(existing(location.pid), undefined);
    }
  }
  if (selected.size === 0) {
    throw new TraplineError({
      code: 'usage',
      message: 'no target was named',
      hint: 'Name a process (-p PID), a command (-- COMMAND), or every process (--all).',
    });
  }
  if (selected.has(ownPid())) {
    throw new TraplineError({
      code: 'refused',
      message: `process ${process.pid} is Trapline itself`,
      hint: 'A tracer that stops itself would never go on. Name another process.',
    });
  }
  return [...selected].map(([pid, tasks]) => ({
    pid,
    tids: tasks?.map(({ tid }) => tid),
    tasks: tasks?.map(({ own }) => own),
  }));
}

/** What people are shown of a target. */
export function describeTarget(pid: Pid): TargetInfo {
  const status = readTaskStatus(pid);
  return { pid, ...innerPid(status), comm: status?.comm ?? '', executable: executableOf(pid) };
}

function existing(number: number): Pid {
  const status = statusOf(number);
  if (status.pid !== brandPid(number)) {
    throw new TraplineError({
      code: 'no-process',
      message: `${number} is a task of process ${status.pid}, not a process`,
      hint: `Use -p ${status.pid} for all its tasks, or --tid ${number} for this one.`,
    });
  }
  // Its other tasks may go on when the first has ended.
  if (!listTasks(status.pid).some((tid) => isLive(tid))) {
    throw new TraplineError({
      code: 'no-process',
      message: `process ${number} (${status.comm}) has ended already`,
    });
  }
  ensureReadable(status.pid);
  return status.pid;
}

/** @throws TraplineError `not-permitted` that says what would allow it; `no-process` when it has ended meanwhile. */
function ensureReadable(pid: Pid): void {
  try {
    readProcessMaps(pid);
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'not-permitted') throw error;
    // The first task of a process has the process's id.
    throw explainRefusal(pid, pid as unknown as Tid, error) ?? error;
  }
}

function statusOf(number: number): NonNullable<ReturnType<typeof readTaskStatus>> {
  const isNumber = Number.isInteger(number) && number > 0 && number <= 1 << 22;
  const status = isNumber ? readTaskStatus(brandTid(number)) : undefined;
  if (status !== undefined) return status;
  throw new TraplineError({ code: 'no-process', message: `there is no process or task ${number}` });
}

/** Whether a mapping is of the file that a location names. An address is of no other process than its own. */
export function mappingMatcher(location: ProbeLocation): (mapping: MemoryMapping) => boolean {
  if (location.kind === 'address') return () => false;
  if (location.kind !== 'inode') return fileMatcher(location.file);
  return ({ device, inode }) => device === location.device && inode === location.inode;
}

/** Rule 14: those that `all` never means. */
export function sparedProcesses(): ReadonlySet<Pid> {
  return new Set<Pid>([1, ownPid(), ...ancestorsOf(ownPid())].map((pid) => brandPid(pid)));
}
