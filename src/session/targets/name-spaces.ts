/**
 * Tasks of a target in another pid namespace (a container): a stub records the ids that the task itself
 * sees, people look for those that they see (pid_namespaces(7)).
 */

import { readdirSync, readlinkSync } from 'node:fs';

import { pid as brandPid, type Pid } from '../../base/brand.ts';
import { mapNamespaceTasks, readTaskStatus } from '../../process/tasks.ts';

/** Between two searches for a process that was not found, in milliseconds. */
const SEARCH_INTERVAL = 50;

/** A task by our own ids. */
export interface OwnIds {
  readonly pid: number;
  readonly tid: number;
}

/** Finds tasks of one target and of its children by the ids of their pid namespace. */
export class NamespaceTasks {
  readonly #namespace: string | undefined;
  /** Ours by theirs. */
  #processes = new Map<number, Pid>();
  #searched = Number.NEGATIVE_INFINITY;

  /** @param target by our own id */
  constructor(target: number) {
    this.#namespace = namespaceOf(target);
    const own = brandPid(target);
    const { namespacePid } = readTaskStatus(own) ?? {};
    if (namespacePid !== undefined) this.#processes.set(namespacePid, own);
  }

  /** Our ids of a task that lives; undefined when it is gone, or in yet another namespace. */
  find(pid: number, tid: number): OwnIds | undefined {
    const own = this.#process(pid);
    if (own === undefined) return undefined;
    if (tid === pid) return { pid: own, tid: own };
    const task = mapNamespaceTasks(own).get(tid);
    return task === undefined ? undefined : { pid: own, tid: task };
  }

  #process(pid: number): Pid | undefined {
    const known = this.#processes.get(pid);
    if (known !== undefined && readTaskStatus(known)?.namespacePid === pid) return known;
    const now = performance.now();
    if (this.#namespace === undefined || now - this.#searched < SEARCH_INTERVAL) return undefined;
    this.#searched = now;
    this.#processes = processesIn(this.#namespace);
    return this.#processes.get(pid);
  }
}

function processesIn(namespace: string): Map<number, Pid> {
  const found = new Map<number, Pid>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || namespaceOf(Number(name)) !== namespace) continue;
    const own = brandPid(Number(name));
    const { namespacePid } = readTaskStatus(own) ?? {};
    if (namespacePid !== undefined) found.set(namespacePid, own);
  }
  return found;
}

function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined; // gone, or not ours to look at
  }
}
