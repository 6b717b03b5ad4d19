/** What processes used of the processor. */

import { readFileSync } from 'node:fs';

import { pid as brandPid, type Pid } from '../../base/brand.ts';
import { processorNanoseconds } from '../../sys/clock.ts';
import type { ProcessorTime } from '../protocol.ts';

/** The processor time of a process and of the children that it waited for, in nanoseconds; 0 when gone. */
export function cpuNanoseconds(pid: number): number {
  const own = processorNanoseconds(brandPid(pid));
  return own === undefined ? 0 : Number(own) + childrenNanoseconds(pid);
}

/** Of children that were waited for, only clock ticks of 10 ms are known. */
function childrenNanoseconds(pid: number): number {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return 0; // gone
  }
  // Fields 16 and 17, cutime and cstime (proc_pid_stat(5)); the name in field 2 may hold spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields.slice(13, 15).reduce((sum, field) => sum + Number(field), 0) * 10_000_000;
}

/** The processor time of each of some processes. */
export function processorTimesOf(pids: readonly Pid[]): ProcessorTime[] {
  return pids.map((pid) => ({ pid, nanoseconds: cpuNanoseconds(pid) }));
}
