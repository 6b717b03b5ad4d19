/** tracefs, the kernel's tracing as plain files (Documentation/trace/ftrace.rst). */

import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

import { messageOf, TraplineError } from '../../base/errors.ts';

/** Where tracefs is: its own mount point, and where debugfs mounts it by itself. */
const MOUNT_POINTS = ['/sys/kernel/tracing', '/sys/kernel/debug/tracing'] as const;
/** Inode of the first pid namespace (include/linux/proc_ns.h). */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

/** include/linux/errno.h: the kernel's own, for instructions that it can't execute elsewhere. */
const ENOTSUPP = 524;
/** The name of that errno. */
export const NOT_SUPPORTED = 'ENOTSUPP';

/** How to get tracefs, for people. */
export const MOUNT_HINT = 'Mount it: sudo mount -t tracefs tracefs /sys/kernel/tracing';

/** An entry of `error_log`: what the kernel said of a command, and where in it. */
export interface LoggedError {
  readonly message: string;
  /** Index in the command, from 0. */
  readonly column: number;
}

/** What we may do with a tracefs: define probes, see those that there are, or not even look into its folder. */
export type TracefsAccess = 'writable' | 'readable' | 'closed';

/** Where tracefs is. */
export interface FoundTracefs {
  readonly folder: string;
  readonly access: TracefsAccess;
}

/** Looks for tracefs; undefined where it isn't mounted, or has no uprobes. */
export function findTracefs(): FoundTracefs | undefined {
  const seen = MOUNT_POINTS.find((folder) => existsSync(join(folder, 'uprobe_events')));
  if (seen !== undefined) return { folder: seen, access: accessOf(join(seen, 'uprobe_events')) };
  // The kernel mounts it for root alone (mode 0700): the table of mounts tells others that it is there.
  const mounts = readText('/proc/self/mounts').split('\n');
  const folder = MOUNT_POINTS.find(
    (point) => mounts.some((line) => line.split(' ')[1] === point) && !may(point, constants.X_OK),
  );
  return folder === undefined ? undefined : { folder, access: 'closed' };
}

function accessOf(events: string): TracefsAccess {
  if (may(events, constants.W_OK)) return 'writable';
  return may(events, constants.R_OK) ? 'readable' : 'closed';
}

function may(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** Where tracefs is, if we may change it; undefined if not. */
export function usableTracefs(): string | undefined {
  const found = findTracefs();
  return found?.access === 'writable' ? found.folder : undefined;
}

/**
 * Where tracefs is, or why we can't use it.
 * @param pidNamespace what /proc/self/ns/pid leads to
 * @throws TraplineError `unsupported` where it isn't, `not-permitted` where it is not for us.
 */
export function requireTracefs(pidNamespace: string): string {
  const found = findTracefs();
  if (found === undefined) {
    throw new TraplineError({
      code: 'unsupported',
      message: 'the kernel engine needs tracefs with uprobes, and there is none',
      hint: `${MOUNT_HINT} (a kernel with CONFIG_UPROBE_EVENTS; in a container it must be passed in).`,
    });
  }
  const { folder, access } = found;
  if (access !== 'writable') {
    throw new TraplineError({
      code: 'not-permitted',
      message: `the kernel engine may not write ${folder}/uprobe_events: tracefs is there, and not for this user`,
      hint: 'It is for root: use sudo; or do without: --engine jump needs no privilege.',
    });
  }
  if (pidNamespace !== FIRST_PID_NAMESPACE) {
    throw new TraplineError({
      code: 'unsupported',
      message:
        'the kernel engine does not work inside a pid namespace: its process numbers are others',
      hint: 'Run Trapline outside of the container, or use --engine jump.',
    });
  }
  return folder;
}

/** A whole file as text. @throws TraplineError `system`. */
export function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw failure(`read ${path}`, error);
  }
}

/**
 * Writes to a file of tracefs in one call: a write is a command. Never truncates: for `uprobe_events` that
 * would be the command to remove everybody's probes.
 * @throws TraplineError `busy`, `not-permitted`, `system`, with the errno's name.
 */
export function writeCommand(path: string, text: string): void {
  let file: number | undefined;
  try {
    file = openSync(path, constants.O_WRONLY | constants.O_APPEND);
    writeSync(file, text);
  } catch (error) {
    throw failure(`write ${text.trim().slice(0, 60)} to ${path}`, error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** Does something with tracefs, its errors made ours. */
export function attempt<T>(what: string, action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw failure(what, error);
  }
}

/** What the kernel said last about a command; undefined where it keeps no log, or said nothing. */
export function lastError(tracefs: string, command: string): LoggedError | undefined {
  const path = join(tracefs, 'error_log');
  if (!existsSync(path)) return undefined;
  return findError(readText(path), command);
}

/**
 * The last entry of an error log about a command. An entry is
 *
 *     [  12.345678] trace_uprobe: error: Invalid register name
 *       Command: p:g/e /bin/true:0x10 a=%zz
 *                                       ^
 */
export function findError(log: string, command: string): LoggedError | undefined {
  const lines = log.split('\n');
  const prefix = '  Command: ';
  for (let at = lines.length - 1; at > 0; at--) {
    if (lines[at] !== `${prefix}${command}`) continue;
    const message = /: error: (.*)$/.exec(lines[at - 1] ?? '')?.[1];
    const caret = (lines[at + 1] ?? '').indexOf('^');
    if (message !== undefined) return { message, column: Math.max(0, caret - prefix.length) };
  }
  return undefined;
}

function failure(what: string, error: unknown): TraplineError {
  const errno = errnoOf(error);
  const code =
    errno === 'EBUSY'
      ? 'busy'
      : errno === 'EACCES' || errno === 'EPERM'
        ? 'not-permitted'
        : 'system';
  return new TraplineError({
    code,
    message: `cannot ${what}: ${errno ?? messageOf(error)}`,
    ...(errno === undefined ? {} : { errno }),
    cause: error,
  });
}

/** Node has no name for the kernel's own ENOTSUPP. */
function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  if ('errno' in error && error.errno === -ENOTSUPP) return NOT_SUPPORTED;
  return typeof error.code === 'string' ? error.code : undefined;
}
