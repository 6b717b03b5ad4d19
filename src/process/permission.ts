/** Why a task could not be attached to, said to the person at the terminal. */

import { closeSync, openSync, readFileSync, statSync } from 'node:fs';

import { tid as brandTid, type Pid, type Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { Capability, hasCapability, ownCredentials, type Credentials } from '../sys/credentials.ts';
import { isCommand } from '../sys/commands.ts';
import { seize } from '../sys/ptrace.ts';
import { readLink, readParent, readCommandLine, readTaskStatus, type TaskStatus } from './tasks.ts';

/**
 * The error for a task that PTRACE_SEIZE refused with EPERM; undefined when the task has ended
 * meanwhile (a zombie is refused with EPERM too). The rules are those of ptrace(2), "Ptrace access
 * mode checking".
 */
export function explainRefusal(process: Pid, task: Tid, cause: unknown): TraplineError | undefined {
  const status = readTaskStatus(task);
  if (status === undefined || status.state === 'Z' || status.state === 'X') return undefined;
  if (status.tracerTid !== 0) return tracedBy(process, status.tracerTid);
  if (mayAttach(status.pid, task)) return tracedUnseen(process);
  return new TraplineError({
    code: 'not-permitted',
    message: `not allowed to attach to process ${process} (${status.comm})`,
    hint: reasons(process, status).join('\n'),
    errno: 'EPERM',
    cause,
  });
}

/**
 * Whoever waits for a child by its number is told the stops of its tracer, too, if that is of the same process
 * (kernel/exit.c, wait_consider_task). Node does so for each child that it has started, whenever a child of it changes,
 * and takes what it is told for the child's end.
 * @throws TraplineError `refused` for a child of our own process, other than the commands that we have started.
 */
export function refuseOwnChild(child: Pid): void {
  if (readParent(child) !== process.pid || isCommand(child)) return;
  throw new TraplineError({
    code: 'refused',
    message: `process ${child} is a child of this very process, which waits for it and would take a stop for its end`,
    hint:
      'Start it with spawn() of trapline instead of node:child_process, or by a shell that waits for it ' +
      `(sh -c '"$0" "$@"; exit $?' PROGRAM), or trace it from another process.`,
  });
}

/** The name of every tracer's thread, as others see who holds a process. */
export const TRACER_NAME = 'trapline-tracer';
/** The name of a thread that holds what it traces for the whole session; at most 15 bytes. */
export const HOLDER_NAME = 'trapline-follow';

/** The number of no task: they are all below PID_MAX_LIMIT (include/linux/threads.h). */
const NOBODY = brandTid(1 << 22);

/** That somebody else traces a process, and goes on to. */
export class HeldByAnother extends TraplineError {}

/** That another session traces a process, for a moment, or somebody who has gone already: it is its turn. */
export class AnotherTurn extends TraplineError {}

function tracedBy(process: Pid, tracer: number): TraplineError {
  const status = readTaskStatus(tracer as Tid); // the kernel's own number
  const name = status?.comm ?? 'unknown';
  if (status !== undefined && name === HOLDER_NAME) {
    return new HeldByAnother({
      code: 'busy',
      message: `process ${process} is held by process ${status.pid}, which follows it: ${readCommandLine(status.pid) ?? 'it has ended'}`,
      hint: 'A process has one tracer at a time: end that session, or start it with --no-follow.',
    });
  }
  const TracedError = name === TRACER_NAME ? AnotherTurn : TraplineError;
  return new TracedError({
    code: 'busy',
    message: `process ${process} is being traced by ${name} (${tracer})`,
    hint: `a process has one tracer at a time: try again when ${name} has let it go`,
  });
}

/**
 * Whether all that forbids attaching lets us, whoever traces the task now: the kernel asks the same to open its memory
 * (fs/proc/base.c, proc_mem_open: PTRACE_MODE_ATTACH; nobody may attach to a task of its own process, though).
 */
function mayAttach(owner: number, task: Tid): boolean {
  if (owner === process.pid || !mayTrace()) return false;
  try {
    closeSync(openSync(`/proc/${task}/mem`, 'r'));
    return true;
  } catch {
    return false; // the refusal is explained by its reasons
  }
}

/** Whether the call itself is let through: a container's seccomp filter may refuse it for everybody, with EPERM too. */
function mayTrace(): boolean {
  try {
    seize(NOBODY, 0);
    return true;
  } catch (error) {
    return error instanceof TraplineError && error.code === 'no-process';
  }
}

/** It had a tracer when we asked, and none that can be seen when we looked. */
function tracedUnseen(process: Pid): TraplineError {
  return new AnotherTurn({
    code: 'busy',
    message: `process ${process} is being traced by somebody who can't be seen`,
    hint: 'Sessions that come and go may take all turns, or its tracer is in another pid namespace: try again.',
  });
}

function reasons(target: Pid, status: TaskStatus): string[] {
  const own = ownCredentials();
  if (status.pid === process.pid) return ['a process cannot trace itself'];
  const privileged = hasCapability(own, Capability.sysPtrace);
  const found: string[] = [];
  if (!privileged && (status.uid !== own.uid || status.realUid !== own.uid)) {
    found.push(`it runs as uid ${status.uid}, you are uid ${own.uid}: run as that user or as root`);
  }
  const namespace = readLink(`/proc/${target}/ns/user`);
  if (namespace !== undefined && namespace !== own.userNamespace) {
    found.push('it is in another user namespace: enter it (nsenter), or attach from outside');
  }
  const yama = yamaReason(own);
  if (yama !== undefined) found.push(yama);
  if (!privileged && found.length === 0 && ownerOfProc(target) === 0 && own.uid !== 0) {
    found.push('it is not dumpable: it was setuid, gained capabilities, or asked for it by prctl');
  }
  if (found.length === 0) {
    found.push(
      'a tracer outside this pid namespace, a security module (SELinux, AppArmor) or a container',
      "may forbid it; in a container, start it with '--cap-add SYS_PTRACE'",
    );
  }
  return found;
}

/** Documentation/admin-guide/LSM/Yama.rst: who may attach by kernel.yama.ptrace_scope. */
function yamaReason(own: Credentials): string | undefined {
  const scope = readNumber('/proc/sys/kernel/yama/ptrace_scope');
  if (scope === undefined || scope === 0) return undefined;
  if (scope >= 3) return 'kernel.yama.ptrace_scope is 3: nobody may attach until a restart';
  if (hasCapability(own, Capability.sysPtrace)) return undefined;
  if (scope === 2) return 'kernel.yama.ptrace_scope is 2: only root may attach';
  return (
    'kernel.yama.ptrace_scope is 1: only a parent may attach; run as root, start the program ' +
    "with 'trapline trace PROBE -- COMMAND', or 'sysctl kernel.yama.ptrace_scope=0'"
  );
}

function readNumber(file: string): number | undefined {
  try {
    return Number(readFileSync(file, 'latin1'));
  } catch {
    return undefined; // the kernel has no such setting
  }
}

/** What is in /proc/PID belongs to root when the process is not dumpable; not the folder itself (proc(5)). */
function ownerOfProc(target: Pid): number | undefined {
  return statSync(`/proc/${target}/status`, { throwIfNoEntry: false })?.uid;
}
