/**
 * Snapshots of what a session may not leave behind, on our side and in the target, and their
 * comparison with readable differences. Everything is read from `/proc`, by none of the code under
 * test.
 */

import {
  closeSync,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  readlinkSync,
} from 'node:fs';

import { endIdle } from '../../src/index.ts';

/** What {@link snapshot} saw. Lines are made to be compared and read. */
export interface Snapshot {
  readonly pid: number;
  /** Our own descriptors: `readlink` of each, sorted, without its number. */
  readonly ownDescriptors: readonly string[];
  /** Our own mappings of Trapline's memory. */
  readonly ownMappings: readonly string[];
  /** Processes whose tracer we are. */
  readonly tracees: readonly string[];
  /** The target's mappings, one line each, as in `/proc/PID/maps`. */
  readonly mappings: readonly string[];
  /** The target's descriptors: `NUMBER -> TARGET`. */
  readonly descriptors: readonly string[];
  /** Ranges of the target's file-backed code that differ from the file. */
  readonly changedCode: readonly string[];
  /** Per task: its tracer, and its blocked, ignored and caught signals. */
  readonly tasks: readonly string[];
}

/** What may differ. */
export interface CleanOptions {
  /**
   * The target ran between the snapshots: its private anonymous data mappings (heap, stacks), the
   * descriptors and the tasks that came or went are its own business. Default: it stood still (for
   * self-check: `paused`), and everything must be equal.
   */
  readonly ran?: boolean;
}

/**
 * Looks at ourselves and at one target, which should be quiet while it is looked at. Threads that we keep for the next
 * session are ended before: they have descriptors.
 */
export async function snapshot(pid: number): Promise<Snapshot> {
  await endIdle();
  return lookAt(pid);
}

/** As {@link snapshot}, for who looks at the target, our mappings or our tracees alone. */
export function lookAt(pid: number): Snapshot {
  const maps = lines(`/proc/${pid}/maps`);
  return {
    pid,
    ownDescriptors: links('/proc/self/fd')
      .map(([, to]) => to)
      .toSorted(),
    ownMappings: lines('/proc/self/maps').filter(isOurs),
    tracees: traceesOf(process.pid),
    mappings: maps,
    descriptors: links(`/proc/${pid}/fd`).map(([number, to]) => `${number} -> ${to}`),
    changedCode: maps.flatMap((line) => changedCode(pid, line)),
    tasks: readdirSync(`/proc/${pid}/task`).map((task) => taskLine(pid, task)),
  };
}

/** A snapshot in which no task stands in a signal's handler, if there is such a moment: it blocks its own signal. */
export async function calmSnapshot(pid: number): Promise<Snapshot> {
  let found = await snapshot(pid);
  for (let left = 200; left > 0 && found.tasks.some(hasBlocked); left--) found = lookAt(pid);
  return found;
}

function hasBlocked(task: string): boolean {
  return !/SigBlk 0+(?: |$)/.test(task);
}

/**
 * Compares two snapshots, made before a session began and after it ended.
 * @throws Error that lists what was left behind and what went missing.
 */
export function assertClean(before: Snapshot, after: Snapshot, options: CleanOptions = {}): void {
  const found = differences(before, after, options);
  if (found.length === 0) return;
  throw new Error(`process ${after.pid} or we are not as before:\n${found.join('\n')}`);
}

/** What {@link assertClean} would complain about, one line each. */
export function differences(
  before: Snapshot,
  after: Snapshot,
  options: CleanOptions = {},
): string[] {
  const ran = options.ran ?? false;
  const keepMapping = ran ? (line: string): boolean => !isOwnData(line) : (): boolean => true;
  const found = [
    ...compare('our descriptor', before.ownDescriptors, after.ownDescriptors),
    ...compare('our mapping', before.ownMappings, after.ownMappings),
    ...compare('our tracee', before.tracees, after.tracees),
    ...compare('mapping', before.mappings.filter(keepMapping), after.mappings.filter(keepMapping)),
    ...compare('code', before.changedCode, after.changedCode),
    ...(ran
      ? after.descriptors.filter(isOurs).map((line) => `descriptor left: ${line}`)
      : compare('descriptor', before.descriptors, after.descriptors)),
  ];
  const { old, now } = ran
    ? commonTasks(before.tasks, after.tasks)
    : { old: before.tasks, now: after.tasks };
  const traced = after.tasks.filter((line) => !line.includes('TracerPid 0 '));
  return [...found, ...compare('task', old, now), ...traced.map((line) => `still traced: ${line}`)];
}

function compare(what: string, before: readonly string[], after: readonly string[]): string[] {
  const left = [...after];
  const gone: string[] = [];
  for (const line of before) {
    const at = left.indexOf(line);
    if (at < 0) gone.push(line);
    else left.splice(at, 1);
  }
  return [
    ...left.map((line) => `${what} is new: ${line}`),
    ...gone.map((line) => `${what} is gone: ${line}`),
  ];
}

function taskName(line: string): string {
  return line.split(':', 1)[0] ?? '';
}

function commonTasks(
  before: readonly string[],
  after: readonly string[],
): { old: string[]; now: string[] } {
  const both = new Set(
    before.map(taskName).filter((one) => after.some((line) => taskName(line) === one)),
  );
  const keep = (line: string): boolean => both.has(taskName(line));
  return { old: before.filter(keep), now: after.filter(keep) };
}

/** The names that docs/architecture.md gives to our memory. */
function isOurs(line: string): boolean {
  return line.includes('/memfd:trapline-');
}

/** Private anonymous memory that can't be executed, the heap and stacks. */
function isOwnData(line: string): boolean {
  const [, permissions = '', , device, inode, path = ''] = line.split(/\s+/);
  const anonymous = device === '00:00' && inode === '0' && !path.startsWith('[v');
  return anonymous && !permissions.includes('x') && !isOurs(line);
}

/** Compares one executable file mapping with its file, as seen in the target's own root. */
function changedCode(pid: number, line: string): string[] {
  const fields = /^(\w+)-(\w+) (\S+) (\w+) (\S+) (\d+) +(\/.*)$/.exec(line);
  if (fields === null) return [];
  const [, start = '', end = '', permissions = '', offset = '', , , path = ''] = fields;
  if (!permissions.includes('x') || path.startsWith('/memfd:')) return [];
  if (path.endsWith(' (deleted)')) return [`${path} can't be compared: it was deleted`];
  const from = BigInt(`0x${start}`);
  const size = Number(BigInt(`0x${end}`) - from);
  const memory = readBytes(`/proc/${pid}/mem`, from, size);
  const file = readBytes(`/proc/${pid}/root${path}`, BigInt(`0x${offset}`), size);
  return ranges(memory, file).map(
    ([at, to]) =>
      `${path}+0x${(Number(`0x${offset}`) + at).toString(16)}: ` +
      `file ${hexOf(file, at, to)}, memory ${hexOf(memory, at, to)}`,
  );
}

/** Maximal differing ranges, at most 32 bytes each; bytes past the file's end read as zeros. */
function ranges(memory: Buffer, file: Buffer): [number, number][] {
  if (memory.equals(file)) return [];
  const found: [number, number][] = [];
  for (let at = 0; at < memory.length; at++) {
    if (memory[at] === file[at]) continue;
    let to = at + 1;
    while (to < memory.length && to - at < 32 && memory[to] !== file[to]) to++;
    found.push([at, to]);
    at = to;
  }
  return found;
}

function hexOf(bytes: Buffer, from: number, to: number): string {
  return bytes.subarray(from, to).toString('hex');
}

function readBytes(path: string, position: bigint, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  const descriptor = openSync(path, 'r');
  try {
    const atEnd = path.endsWith('/mem') ? size : fstatSync(descriptor).size - Number(position);
    const wanted = Math.min(size, Math.max(0, atEnd));
    for (let got = 0; got < wanted;) {
      const count = readSync(descriptor, bytes, got, wanted - got, position + BigInt(got));
      if (count === 0) throw new Error(`${path}: nothing to read at 0x${position.toString(16)}`);
      got += count;
    }
    return bytes;
  } finally {
    closeSync(descriptor);
  }
}

function taskLine(pid: number, task: string): string {
  const status = readFileSync(`/proc/${pid}/task/${task}/status`, 'utf8');
  const value = (name: string): string =>
    new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '?';
  const masks = ['SigBlk', 'SigIgn', 'SigCgt'].map((name) => `${name} ${value(name)}`);
  return `task ${task}: TracerPid ${value('TracerPid')} ${masks.join(' ')}`;
}

/** The numbers of the tasks of `pid` that somebody traces. */
export function tracedTasks(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).filter(
    (task) => !taskLine(pid, task).includes('TracerPid 0 '),
  );
}

/** Who traces a task, as its command line: for the person who looks for it. */
export function tracerOf(pid: number, task: string): string {
  const status = textOrGone(`/proc/${pid}/task/${task}/status`);
  const tracer = /^TracerPid:\s*(\d+)$/m.exec(status)?.[1] ?? '?';
  return `${tracer} (${textOrGone(`/proc/${tracer}/cmdline`).replaceAll('\0', ' ').trim()})`;
}

function traceesOf(tracer: number): string[] {
  const found: string[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const status = textOrGone(`/proc/${name}/status`);
    if (new RegExp(`^TracerPid:\\s*${tracer}$`, 'm').test(status)) found.push(`process ${name}`);
  }
  return found;
}

/** Processes end while `/proc` is read: then there is nothing to see. */
function textOrGone(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function links(folder: string): [string, string][] {
  return readdirSync(folder).flatMap((name): [string, string][] => {
    try {
      return [[name, readlinkSync(`${folder}/${name}`)]];
    } catch {
      return []; // the descriptor that read the folder
    }
  });
}

function lines(path: string): string[] {
  return readFileSync(path, 'utf8').trimEnd().split('\n');
}
