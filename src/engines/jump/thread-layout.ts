/** Whether a target's runtime keeps each task's id where a stub can read it. */

import { address } from '../../base/brand.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { StoppedTask } from '../../process/stopped-task.ts';

/** What stubs may rely on. */
export interface ThreadLayout {
  /** Of the thread id (u32), from the fs base. */
  readonly tidOffset: number;
}

/**
 * Checks candidate offsets against every stopped task: the fs base points at a word that holds the fs
 * base (psABI, TLS variant II), and the task's id, as its own pid namespace numbers it, is at the offset.
 * @returns undefined when one task disagrees: stubs then ask the kernel at every hit.
 */
export function readThreadLayout(
  stopped: StoppedProcess,
  candidates: readonly number[],
): ThreadLayout | undefined {
  const tidOffset = candidates.find((offset) =>
    stopped.tasks.every((task) => keepsIdAt(stopped, task, offset)),
  );
  return tidOffset === undefined ? undefined : { tidOffset };
}

function keepsIdAt(stopped: StoppedProcess, task: StoppedTask, offset: number): boolean {
  const fsBase = task.registers.get('fsBase');
  if (fsBase === 0n) return false;
  const self = new DataView(new ArrayBuffer(8));
  const id = new DataView(new ArrayBuffer(4));
  const read = (at: bigint, into: DataView): boolean =>
    stopped.readInto(address(at), new Uint8Array(into.buffer)) === into.byteLength;
  if (!read(fsBase, self) || !read(fsBase + BigInt(offset), id)) return false;
  if (self.getBigUint64(0, true) !== fsBase) return false;
  return id.getUint32(0, true) === task.status?.namespaceTid;
}
