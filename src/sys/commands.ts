/**
 * The commands that this process has started to be traced, whichever of its threads did. Nobody but that thread waits
 * for them; for its other children Node does.
 */

import type { Pid } from '../base/brand.ts';

/** More at the same time are not known: they can't be attached to by a second session of this process. */
const SLOTS = 1024;

let commands = new Int32Array(new SharedArrayBuffer(SLOTS * Int32Array.BYTES_PER_ELEMENT));

/** The table of this thread, for another one. */
export function commandTable(): SharedArrayBuffer {
  return commands.buffer;
}

/** Uses the table of another thread. */
export function shareCommands(table: SharedArrayBuffer): void {
  commands = new Int32Array(table);
}

/** Notes a command that was started. */
export function addCommand(pid: Pid): void {
  commands.findIndex((_, slot) => Atomics.compareExchange(commands, slot, 0, pid) === 0);
}

/** Forgets a command whose end was waited for: its number may become another's. */
export function forgetCommand(pid: number): void {
  // Asked at the end of every task.
  const slot = commands.indexOf(pid);
  if (slot >= 0) Atomics.compareExchange(commands, slot, pid, 0);
}

/** Whether a process is a command that was started to be traced. */
export function isCommand(pid: Pid): boolean {
  return commands.includes(pid);
}
