/**
 * The name that all that a session has in the kernel carries: its tracing instances (all but the one with its
 * events have a word behind it), its group of events, each event. It says whose it is, so that what a killed
 * session left is known for what it is.
 */

import { readFileSync } from 'node:fs';

const FORM = /^(trapline_(\d+)_(\d+)_(\d+))(?:_[a-z]+)?$/;

/** Whose a name is. */
export interface SessionOwner {
  /** The session's name: what the names of all that it has begin with. */
  readonly session: string;
  readonly pid: number;
  /** When the process began, in clock ticks after boot: numbers of processes are used again. */
  readonly started: string;
  /** The tracer's thread in that process. */
  readonly thread: number;
}

/** The name for a session of this process. @param thread tells the sessions of one process apart */
export function ownName(thread: number): string {
  return `trapline_${process.pid}_${startOf(process.pid) ?? 0}_${thread}`;
}

/** Takes a name apart; undefined where it is none of ours. */
export function parseName(name: string): SessionOwner | undefined {
  const [, session, pid, started, thread] = FORM.exec(name) ?? [];
  if (session === undefined || pid === undefined || started === undefined) return undefined;
  return { session, pid: Number(pid), started, thread: Number(thread) };
}

/** Whether the process that made a name still lives. */
export function isOwnerAlive({ pid, started }: SessionOwner): boolean {
  return startOf(pid) === started;
}

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)); the name in field 2 may hold spaces. */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    // A zombie has its number still, and does nothing any more.
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined; // gone
  }
}
