/** What is to be known of a task that another one has made. */

import { existsSync } from 'node:fs';

import { pid as brandPid, type Pid, type Tid } from '../base/brand.ts';
import * as kcmp from '../sys/kcmp.ts';
import { TraceEvent } from '../sys/ptrace.ts';
import { ownTaskId } from '../sys/signals.ts';
import type { HeldEvent, HeldProcess, HeldTable } from './held-process.ts';
import { readParent, readTaskStatus } from './tasks.ts';

/** What a parent tells of a child. */
export interface Birth {
  readonly parent: HeldProcess;
  /** Of TraceEvent: fork, vfork or clone. */
  readonly event: number;
}

/** The process of a new task; undefined when it is gone. */
export function ownerOf(tid: Tid, birth: Birth | undefined): Pid | undefined {
  if (birth === undefined) return readTaskStatus(tid)?.pid;
  const isThread =
    birth.event === TraceEvent.clone && existsSync(`/proc/${birth.parent.pid}/task/${tid}`);
  // The first task of a process has the process's id.
  return isThread ? birth.parent.pid : (tid as unknown as Pid);
}

/** From whom a new process is. */
export type Origin = Pick<HeldEvent & { readonly kind: 'born' }, 'parent' | 'sharesMemory'>;

/** @param birth undefined where nobody has told, or not yet */
export function originOf(child: Tid, birth: Birth | undefined, table: HeldTable): Origin {
  if (birth !== undefined) {
    const { parent, event } = birth;
    return { parent, sharesMemory: event !== TraceEvent.fork && isShared(child, parent) };
  }
  // A parent that shares its memory has it still; any other may be another program by now.
  const number = readParent(child);
  const parent = number === undefined ? undefined : table.get(brandPid(number));
  if (parent === undefined || !isShared(child, parent)) {
    return { parent: undefined, sharesMemory: false };
  }
  return { parent, sharesMemory: true };
}

function isShared(child: Tid, parent: HeldProcess): boolean {
  return kcmp.sharesMemory(child, parent.pid) === true;
}

/** Whether this thread traces a task that has not ended. */
export function isOurs(tid: Tid): boolean {
  const status = readTaskStatus(tid);
  return status?.tracerTid === ownTaskId() && status.state !== 'Z' && status.state !== 'X';
}
