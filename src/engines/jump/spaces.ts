/** Finding the address spaces that hold a session's memory, and reading what is in one. */

import type { Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { LIVENESS_NAME, SEGMENT_NAME } from '../../process/control.ts';
import { readMaps, type MemoryMapping } from '../../process/maps.ts';
import { listProcesses, visibleTask } from '../../process/tasks.ts';
import { MemoryFile } from '../../sys/memory.ts';
import type { ReadMemory } from './block.ts';

/** As /proc/PID/maps starts the name of a session's segment, which has no name in a folder. */
export const SEGMENT_PATH: string = `/memfd:${SEGMENT_NAME}`;

/**
 * All processes whose mappings pass a test, tracers left out: they map what they share with their
 * targets, and are told by a liveness page that they can write. Those that may not be read can't have
 * anything of ours.
 */
export function findProcesses(test: (maps: readonly MemoryMapping[], pid: Pid) => boolean): Pid[] {
  return listProcesses().filter((pid) => {
    if (pid === process.pid) return false;
    const maps = mapsIfReadable(pid);
    return !isTracer(maps) && test(maps, pid);
  });
}

/** The inodes of all segments that are mapped by processes that may be read, tracers left out. */
export function findSegments(): ReadonlySet<bigint> {
  const found = new Set<bigint>();
  findProcesses((maps) => {
    for (const { path, inode } of maps) if (path === SEGMENT_PATH) found.add(inode);
    return false;
  });
  return found;
}

/** Whether mappings are a tracer's: it can write its liveness page, and maps what it shares with targets. */
export function isTracer(maps: readonly MemoryMapping[]): boolean {
  return maps.some(({ path, writable }) => writable && path === `/memfd:${LIVENESS_NAME}`);
}

/**
 * The mappings of a process, by a task of it that has not ended.
 * @throws TraplineError `no-process` or `not-permitted`.
 */
export function readProcessMaps(pid: Pid): MemoryMapping[] {
  return readMaps(visibleTask(pid));
}

/** The mappings of a process, none when it is gone or may not be looked at. */
export function mapsIfReadable(pid: Pid): readonly MemoryMapping[] {
  try {
    return readProcessMaps(pid);
  } catch (error) {
    if (error instanceof TraplineError && ['no-process', 'not-permitted'].includes(error.code)) {
      return [];
    }
    throw error;
  }
}

/** Reads a running process's memory. The caller owns what {@link ReadMemory} needs. */
export class MemoryReader implements Disposable {
  readonly #file: MemoryFile;
  readonly #pid: Pid;

  constructor(pid: Pid) {
    this.#pid = pid;
    this.#file = new MemoryFile(visibleTask(pid));
  }

  /** All of `length` bytes; @throws TraplineError `bad-input`. */
  readonly read: ReadMemory = (from, length) => {
    const bytes = new Uint8Array(length);
    if (this.#file.read(from, bytes) === length) return bytes;
    throw new TraplineError({
      code: 'bad-input',
      message: `process ${this.#pid} has no ${length} readable bytes at 0x${from.toString(16)}`,
    });
  };

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}
