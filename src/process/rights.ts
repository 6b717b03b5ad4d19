/** Rights that a program gets from its file when it is executed, and that the kernel withholds from one that is traced. */

import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readSync,
  statSync,
  type Stats,
} from 'node:fs';

import type { Pid, Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import {
  Capability,
  hasCapability,
  hasFileCapabilities,
  isMountedWithoutRights,
  ownCredentials,
} from '../sys/credentials.ts';
import { readLink, readTaskStatus } from './tasks.ts';

/** Of a script's first line no more is read (BINPRM_BUF_SIZE). */
const SCRIPT_BYTES = 256;
/** So many interpreters of interpreters (fs/exec.c, exec_binprm). */
const INTERPRETERS = 5;

// <linux/stat.h>. Without the group's x a file's S_ISGID means something else (fs/exec.c).
const S_ISUID = 0o4000;
const SET_GROUP = 0o2010;

/**
 * Whether a program that is executed under us gets no rights from its file: the kernel gives a traced one none that its
 * tracer lacks (security/commoncap.c, cap_bprm_creds_from_file).
 */
export function withholdsRights(): boolean {
  return !hasCapability(ownCredentials(), Capability.sysPtrace);
}

/**
 * A program that we start is traced at its exec: it would run as another program than it is.
 * @param process held at its exec
 * @throws TraplineError `not-permitted` when its file would have given it rights.
 */
export function ensureRightsKept(process: Pid): void {
  const message = lostRight(process);
  if (message === undefined) return;
  throw new TraplineError({ code: 'not-permitted', message, hint: 'Start it as root.' });
}

/**
 * The same for a program that is begun by a process which we hold.
 * @returns which right it has lost, for people; undefined if none.
 */
export function lostRight(process: Pid): string | undefined {
  if (!withholdsRights()) return undefined;
  const program = `/proc/${process}/exe`;
  // The first task of a process has the process's id.
  const right = rightFrom(program, process as unknown as Tid);
  if (right === undefined) return undefined;
  return `${readLink(program) ?? program} is ${right}: started under a tracer it would run without these rights`;
}

/**
 * Which right a task would get if it executed a file now and nobody traced it.
 * @param path the file as we reach it; of a script its interpreter is what counts
 * @returns undefined if none, and where that can't be found out.
 */
export function rightToGain(path: string, task: Tid): string | undefined {
  let program = path;
  for (let left = INTERPRETERS; left > 0; left--) {
    if (!isExecutable(program)) return undefined;
    const interpreter = readInterpreter(program);
    if (interpreter === undefined) return rightFrom(program, task);
    program = pathFrom(task, `/proc/${task}/cwd`, interpreter);
  }
  return undefined;
}

/** How we reach a path of a task's. @param directory where it begins if it is relative, as we reach it */
export function pathFrom(task: Tid, directory: string, path: string): string {
  if (!path.startsWith('/')) return `${directory}/${path}`;
  // Whatever it calls its own is not ours.
  const own = path.replace(/^\/proc\/(?:thread-)?self\//, `/proc/${task}/`);
  return own === path ? `/proc/${task}/root${path}` : own;
}

function rightFrom(program: string, task: Tid): string | undefined {
  const stat = statOf(program);
  if (stat === undefined) return undefined; // killed, or not there
  const { mode, uid, gid } = stat;
  const own = ownCredentials();
  const right =
    (mode & S_ISUID) !== 0 && uid !== own.uid
      ? `set-user-ID ${uid}`
      : (mode & SET_GROUP) === SET_GROUP && gid !== own.gid
        ? `set-group-ID ${gid}`
        : hasFileCapabilities(program)
          ? 'given capabilities by its file'
          : undefined;
  if (right === undefined || readTaskStatus(task)?.noNewPrivileges === true) return undefined;
  return isMountedWithoutRights(program) ? undefined : right;
}

function isExecutable(program: string): boolean {
  try {
    accessSync(program, constants.X_OK);
    return statOf(program)?.isFile() === true;
  } catch {
    return false; // exec will say why
  }
}

function readInterpreter(program: string): string | undefined {
  const bytes = Buffer.alloc(SCRIPT_BYTES);
  try {
    const file = openSync(program, 'r');
    try {
      readSync(file, bytes, 0, SCRIPT_BYTES, 0);
    } finally {
      closeSync(file);
    }
  } catch {
    return undefined; // it may be executed, and not be read: no interpreter could read it
  }
  return /^#![ \t]*([^ \t\n\0]+)/.exec(bytes.toString('latin1'))?.[1];
}

function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined; // a folder that is none, or not for us
  }
}
