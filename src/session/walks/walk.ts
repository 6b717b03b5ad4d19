/**
 * Walking the processes of the machine, again and again, for those that map a file: seed 1's open question.
 * One walk serves all probes of a session, and costs a small read for each process; mappings are read only of
 * those that are new, have another program, or whose memory has another size than at the last walk. So it grows
 * with the processes, and with those that change, but not with the probes.
 */

import { readFileSync } from 'node:fs';

import type { Pid } from '../../base/brand.ts';
import { mapsIfReadable, isTracer } from '../../engines/jump/spaces.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { listProcesses, readTaskStatus, visibleTask } from '../../process/tasks.ts';

/** A process that is new since the last walk, or whose memory has changed. */
export interface WalkedProcess {
  readonly pid: Pid;
  readonly maps: readonly MemoryMapping[];
}

/** What a walk saw. */
export interface Walked {
  /** Processes that are new or have changed since the last walk, tracers left out. */
  readonly changed: readonly WalkedProcess[];
  /** All that have memory; undefined where only some were looked at. */
  readonly living: ReadonlySet<Pid> | undefined;
}

/** Finds what has changed among the processes that may be looked at. */
export class ProcessWalk {
  readonly #spared: ReadonlySet<Pid>;
  readonly #isThorough: boolean;
  readonly #uid = process.geteuid?.() ?? 0;
  /** What tells a process, and the size of its memory, from another. */
  #known = new Map<Pid, string>();

  /**
   * @param spared those that are never looked at
   * @param isThorough whether all mappings are compared with those before, and not the size of the memory alone
   */
  constructor(spared: ReadonlySet<Pid>, isThorough = false) {
    this.#spared = spared;
    this.#isThorough = isThorough;
  }

  /** Looks at every process. */
  look(): Walked {
    const known = new Map<Pid, string>();
    const changed = listProcesses().flatMap((pid) => this.#lookAt(pid, known));
    this.#known = known;
    return { changed, living: new Set(known.keys()) };
  }

  /** Looks at some processes only, which are known to have begun something new. */
  lookAt(pids: Iterable<Pid>): Walked {
    const changed = Array.from(pids, (pid) => this.#lookAt(pid, this.#known)).flat();
    return { changed, living: undefined };
  }

  #lookAt(pid: Pid, known: Map<Pid, string>): WalkedProcess[] {
    const markOf = this.#isThorough ? textOfMaps : sizeOf;
    const mark = this.#spared.has(pid) ? undefined : markOf(pid);
    if (mark === undefined) return [];
    const before = this.#known.get(pid);
    known.set(pid, mark);
    if (before === mark) return [];
    const maps = mapsIfReadable(pid);
    return maps.length > 0 && !isTracer(maps) && this.#isOurs(pid) ? [{ pid, maps }] : [];
  }

  /** One of another user's that we may read all the same is not ours to stop. */
  #isOurs(pid: Pid): boolean {
    return this.#uid === 0 || readTaskStatus(pid)?.uid === this.#uid;
  }
}

/**
 * When a process began, the size of its memory, and where its code is (proc_pid_stat(5), fields 22, 23, 26, 27):
 * exec changes the last. Undefined for one that has no memory: a zombie, a thread of the kernel.
 */
function sizeOf(pid: Pid, task = pid): string | undefined {
  try {
    const fields = readStat(task);
    const [state, tasks, began, size, start, end] = [0, 17, 19, 20, 23, 24].map((at) => fields[at]);
    // Its first task has ended, and its others go on.
    if (state === 'Z' && tasks !== '1' && task === pid) {
      const other = visibleTask(pid);
      return other === pid ? undefined : sizeOf(pid, other);
    }
    return size === '0' ? undefined : `${began} ${size} ${start} ${end}`;
  } catch {
    return undefined; // gone
  }
}

/** The fields behind the name. */
function readStat(task: Pid): string[] {
  const text = readFileSync(`/proc/${task}/stat`, 'latin1');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** What maps says, as it says it. */
function textOfMaps(pid: Pid): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/maps`, 'latin1');
    return text === '' ? sizeOf(pid) : text; // its first task has ended
  } catch {
    return undefined; // gone, or not ours to look at
  }
}
