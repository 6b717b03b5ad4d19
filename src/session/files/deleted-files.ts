/** Ways to a file that has no name any more, for somebody who may not use /proc/PID/map_files. */

import { readdirSync, statSync } from 'node:fs';

import type { Pid } from '../../base/brand.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { listProcesses, visibleTask } from '../../process/tasks.ts';

/**
 * Paths that lead to the file behind a mapping: descriptors of the process itself, then programs and descriptors of
 * others, as far as they may be looked at. Only numbers are compared: whether it is the same file is the caller's to ask.
 */
export function* waysToDeleted(pid: Pid, { inode }: MemoryMapping): Generator<string> {
  const others = listProcesses().filter((other) => other !== pid);
  for (const process of [pid, ...others]) {
    const folder = `/proc/${visibleTask(process)}`;
    const descriptors = namesIn(`${folder}/fd`).map((name) => `${folder}/fd/${name}`);
    for (const path of [`${folder}/exe`, ...descriptors]) if (isFile(path, inode)) yield path;
  }
}

// Processes come and go, and those of others are not ours to look at: then it is not there.

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isFile(path: string, inode: bigint): boolean {
  try {
    const found = statSync(path, { bigint: true });
    return found.isFile() && found.ino === inode;
  } catch {
    return false;
  }
}
