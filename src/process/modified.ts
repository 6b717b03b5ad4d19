/** Which private file mappings have pages that are no longer the file's: `/proc/PID/smaps` (proc_pid_smaps(5)). */

import { readFileSync } from 'node:fs';

import type { Pid } from '../base/brand.ts';
import type { MemoryMapping } from './maps.ts';
import { listTasks } from './tasks.ts';

/** The mappings of which at least one page was written to, were it with the same bytes, or swapped out then. */
export function findModified(pid: Pid, maps: readonly MemoryMapping[]): MemoryMapping[] {
  const starts = new Set<bigint>();
  let start = 0n;
  for (const line of readSmaps(pid).split('\n')) {
    const range = /^([0-9a-f]+)-[0-9a-f]+ /.exec(line);
    if (range !== null) start = BigInt(`0x${range[1] ?? '0'}`);
    else if (/^(?:Anonymous|Swap): +[1-9]/.test(line)) starts.add(start);
  }
  return maps.filter((mapping) => !mapping.shared && starts.has(mapping.start));
}

/** Of any task that still has its memory: the first one may have ended. */
function readSmaps(pid: Pid): string {
  for (const tid of listTasks(pid)) {
    try {
      const text = readFileSync(`/proc/${tid}/smaps`, 'latin1');
      if (text !== '') return text;
    } catch {
      continue; // ended
    }
  }
  return '';
}
