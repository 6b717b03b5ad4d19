/** The mappings of a process: `/proc/PID/maps` (proc_pid_maps(5)), parsed. */

import { readFileSync } from 'node:fs';

import { address, type Address, type Pid, type Tid } from '../base/brand.ts';
import { messageOf, TraplineError } from '../base/errors.ts';
import { hasMemory } from '../sys/memory.ts';

/** One line of maps: a range of an address space. Its end is exclusive. */
export interface MemoryMapping {
  readonly start: Address;
  readonly end: Address;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
  readonly shared: boolean;
  /** Of its first byte in the file, in bytes. */
  readonly offset: bigint;
  /** "08:01": major and minor number in hexadecimal as maps prints them; "00:00" for no file. */
  readonly device: string;
  /** 0 for no file. */
  readonly inode: bigint;
  /** The file's path without " (deleted)", or the kernel's name ("[heap]"), or "". */
  readonly path: string;
  /** The file has no name any more. */
  readonly deleted: boolean;
}

const LINE =
  /^([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])([x-])([ps]) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+)(?: +(.*))?$/;

/** Parses the text of a maps file. @throws TraplineError `bad-input` for a line that is not one. */
export function parseMaps(text: string): MemoryMapping[] {
  const mappings: MemoryMapping[] = [];
  for (const line of text.split('\n')) if (line !== '') mappings.push(parseLine(line));
  return mappings;
}

const DELETED = ' (deleted)';

function parseLine(line: string): MemoryMapping {
  const fields = LINE.exec(line);
  if (fields === null) {
    throw new TraplineError({ code: 'bad-input', message: `not a line of maps: ${line}` });
  }
  const field = (index: number): string => fields[index] ?? '';
  const inode = BigInt(field(9));
  const name = field(10);
  const deleted = inode !== 0n && name.endsWith(DELETED);
  return {
    start: address(BigInt(`0x${field(1)}`)),
    end: address(BigInt(`0x${field(2)}`)),
    readable: field(3) === 'r',
    writable: field(4) === 'w',
    executable: field(5) === 'x',
    shared: field(6) === 's',
    offset: BigInt(`0x${field(7)}`),
    device: field(8),
    inode,
    path: unescape(deleted ? name.slice(0, -DELETED.length) : name),
    deleted,
  };
}

/** The kernel writes a newline in a path as `\012`, and nothing else (fs/proc/task_mmu.c). */
function unescape(path: string): string {
  if (!path.includes('\\012')) return path;
  return path.replaceAll('\\012', '\n');
}

/**
 * Reads the mappings of a task's address space. A process whose first task has ended shows none under
 * its own id: give a live task's.
 * @throws TraplineError `no-process` or `not-permitted`.
 */
export function readMaps(task: Pid | Tid): MemoryMapping[] {
  try {
    // The kernel's paths are bytes; those that are not UTF-8 are only shown, never opened.
    const mappings = parseMaps(readFileSync(`/proc/${task}/maps`, 'utf8'));
    if (mappings.length > 0) return mappings;
    throw new TraplineError({
      code: 'no-process',
      message: `process ${task} has no memory: it has ended, or is a thread of the kernel`,
    });
  } catch (error) {
    if (error instanceof TraplineError) throw error;
    const denied = /^E(ACCES|PERM)/.test(messageOf(error)) && hasMemory(task);
    throw new TraplineError({
      code: denied ? 'not-permitted' : 'no-process',
      message: denied
        ? `the mappings of process ${task} may not be read`
        : `there is no process ${task}`,
      cause: error,
    });
  }
}

/** The mapping that holds an address, in time logarithmic in their number. `maps` is in order. */
export function findMapping(
  maps: readonly MemoryMapping[],
  at: Address,
): MemoryMapping | undefined {
  let low = 0;
  let high = maps.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const mapping = maps[middle];
    if (mapping === undefined) return undefined;
    if (at < mapping.start) high = middle;
    else if (at >= mapping.end) low = middle + 1;
    else return mapping;
  }
  return undefined;
}

/** What is about to be mapped, as a mapping: it is not free, though the target does not show it yet. */
export function asMapping(start: Address, bytes: number): MemoryMapping {
  return {
    start,
    end: address(start + BigInt(bytes)),
    readable: true,
    writable: false,
    executable: false,
    shared: false,
    offset: 0n,
    device: '00:00',
    inode: 0n,
    path: '',
    deleted: false,
  };
}
