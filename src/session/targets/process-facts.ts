/** What task filters ask of a process, read from /proc. */

import { readFileSync, readlinkSync } from 'node:fs';

import type { Pid } from '../../base/brand.ts';
import type { ProcessFacts } from '../../probe/task-filter.ts';
import { readTaskStatus, visibleTask } from '../../process/tasks.ts';

/** More ancestors than any process has: a chain that changes while it is read could be a circle. */
const MOST_ANCESTORS = 4096;

/** @returns undefined when the process is gone. */
export function readProcessFacts(pid: Pid): ProcessFacts | undefined {
  const status = readTaskStatus(pid);
  if (status === undefined) return undefined;
  return {
    pid,
    comm: status.comm,
    uid: status.realUid,
    executable: executableOf(pid),
    ancestors: ancestorsOf(pid),
    cgroup: parseCgroup(textOf(`/proc/${pid}/cgroup`)),
  };
}

/** The path of a process's program, also of one that is not there any more; empty where we may not know. */
export function executableOf(pid: Pid): string {
  try {
    return readlinkSync(`/proc/${visibleTask(pid)}/exe`).replace(/ \(deleted\)$/, '');
  } catch {
    return ''; // gone, or not ours to look at: nothing depends on it
  }
}

/** A process's ancestors, its parent first. */
export function ancestorsOf(pid: number): number[] {
  const chain: number[] = [];
  for (let at = parentOf(pid); at > 0 && chain.length < MOST_ANCESTORS; at = parentOf(at)) {
    chain.push(at);
  }
  return chain;
}

/** The path in the unified hierarchy (cgroups(7): number 0), else in the first that there is. */
export function parseCgroup(text: string): string {
  const lines = text.split('\n').filter((line) => line !== '');
  const line = lines.find((one) => one.startsWith('0::')) ?? lines[0] ?? '';
  return line.split(':').slice(2).join(':');
}

/** 0 for a process without one, or that is gone. */
function parentOf(pid: number): number {
  const text = textOf(`/proc/${pid}/stat`);
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1] ?? 0);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // gone
  }
}
