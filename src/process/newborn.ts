/** What is to be known of a task that another one has made. */

import { existsSync } from 'node:fs';

import type { Pid, Tid } from '../base/brand.ts';
import * as kcmp from '../sys/kcmp.ts';
import { TraceEvent } from '../sys/ptrace.ts';
import { ownTaskId } from '../sys/signals.ts';
import type { HeldProcess } from './held-process.ts';
import { readTaskStatus } from './tasks.ts';

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

/** Whether a child runs in its parent's memory. */
export function sharesMemory(child: Tid, { parent, event }: Birth): boolean {
  return event !== TraceEvent.fork && kcmp.sharesMemory(child, parent.pid) === true;
}

/** Whether this thread traces a task that has not ended. */
export function isOurs(tid: Tid): boolean {
  const status = readTaskStatus(tid);
  return status?.tracerTid === ownTaskId() && status.state !== 'Z' && status.state !== 'X';
}
