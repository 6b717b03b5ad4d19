/**
 * Programs that start up under our eyes. Each is led from system call to system call through the
 * dynamic linker, so that each library is probed as soon as it is mapped and before any of its code
 * runs, its initialisers and IFUNC resolvers included. No breakpoint is used: if we die, it just goes on.
 */

import { basename } from 'node:path';

import { address, type Pid, type Tid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import { held } from '../../process/held.ts';
import { adopt, FOLLOW } from '../../process/hold.ts';
import type { HeldProcess } from '../../process/held-process.ts';
import { findMapping, readMaps, type MemoryMapping } from '../../process/maps.ts';
import { ensureRightsKept } from '../../process/rights.ts';
import {
  getCallStop,
  getRegisters,
  interrupt,
  resume,
  seize,
  TraceEvent,
  TraceOption,
  type CallStop,
} from '../../sys/ptrace.ts';
import type { Registers } from '../../sys/registers.ts';
import { sendSignal, Signal } from '../../sys/signals.ts';
import { spawnHeld, type HeldCommand } from '../../sys/spawn.ts';
import { waitFor, type WaitStatus } from '../../sys/wait.ts';

const log = debugLog('session');

const SYS_MMAP = 9n;
const SYS_SET_TID_ADDRESS = 218n;
const SYS_EXIT_GROUP = 231n;
const PROT_EXEC = 4n;
/** The `cs` of 64-bit user code (__USER_CS, arch/x86/include/asm/segment.h). */
const USER_CS = 0x33n;

/** What is done with a program while it starts up. */
export interface StartWork {
  /**
   * Puts in what can be now: the program is in place, or something executable was mapped.
   * @returns whether something is still missing.
   */
  probe(): boolean;
  /** Whether something was put in. */
  readonly isProbed: boolean;
  /** Its first thread has its id where stubs look for it. */
  settled(): void;
  /** It is a 32-bit program, in which nothing can be done. */
  foreign(): void;
}

/** A program that starts up: resumed at each stop at a system call; at its end its own code begins. */
export type ProgramStart = Generator<undefined, void, undefined>;

/**
 * Leads a program from its exec to the moment at which its own code begins, or nothing is missing any more. The process
 * is held, parked, whenever this has the word; each `yield` asks for its next entry into, or exit from, a system call.
 * @throws what `work` throws.
 */
export function* leadProgram({ pid }: HeldProcess, work: StartWork): ProgramStart {
  // The first task of a process has the process's id.
  const task = new StartingTask(pid, pid as unknown as Tid);
  // On its way out of execve the kernel still writes rax: only behind that are the registers ours.
  yield;
  if (task.registers.get('cs') !== USER_CS) {
    work.foreign();
    return;
  }
  const loader = task.findLoader();
  while (work.probe() && (yield* toNextMapping(task, loader)));
  if (!work.isProbed) return;
  // What is probed is there, but stubs have to know the task, too: else each hit asks the kernel.
  yield* settleThread(task, loader);
  work.settled();
}

/**
 * Goes on to the next point at which something executable was mapped.
 * @returns false when the dynamic linker is done: the program's own code, or a library's, is about to
 * make its first system call.
 */
function* toNextMapping(
  task: StartingTask,
  loader: MemoryMapping | undefined,
): Generator<undefined, boolean, undefined> {
  for (;;) {
    const registers = yield* enterFromLoader(task, loader);
    if (registers === undefined) return false;
    const isMap =
      registers.get('origRax') === SYS_MMAP && (registers.get('rdx') & PROT_EXEC) !== 0n;
    yield* toExit(task);
    if (isMap) return true;
  }
}

/**
 * Goes on until the first thread has its id where glibc's dynamic linker puts it (`__tls_init_tp`: what
 * set_tid_address returns), or until the linker is done or gives up.
 */
function* settleThread(task: StartingTask, loader: MemoryMapping | undefined): ProgramStart {
  for (let isSet = false; ;) {
    const call = (yield* enterFromLoader(task, loader))?.get('origRax');
    if (call === undefined || call === SYS_EXIT_GROUP || isSet) return;
    // It is stored behind the call: that has happened when the next one begins.
    isSet = call === SYS_SET_TID_ADDRESS;
    yield* toExit(task);
  }
}

/** To the next entry into a system call by the dynamic linker; undefined when it is done. */
function* enterFromLoader(
  task: StartingTask,
  loader: MemoryMapping | undefined,
): Generator<undefined, Registers | undefined, undefined> {
  if (loader === undefined) return undefined;
  do yield;
  while (task.callStop === 'exit');
  const { registers } = task;
  const rip = registers.get('rip');
  if (rip >= loader.start && rip < loader.end) return registers;
  log('program %d: first system call outside of the dynamic linker', task.pid);
  return undefined;
}

/** To its exit from the system call that it has entered: there it is already if a change of its probes came in between. */
function* toExit(task: StartingTask): ProgramStart {
  while (task.callStop === 'entry') yield;
}

/** The only task of a program that starts up. */
class StartingTask {
  readonly pid: Pid;
  readonly tid: Tid;

  constructor(pid: Pid, tid: Tid) {
    this.pid = pid;
    this.tid = tid;
  }

  get registers(): Registers {
    return getRegisters(this.tid);
  }

  get callStop(): CallStop {
    return getCallStop(this.tid);
  }

  /** The file in which the first instruction lies, unless that is the program itself. */
  findLoader(): MemoryMapping | undefined {
    const maps = readMaps(this.pid);
    const first = findMapping(maps, address(this.registers.get('rip')));
    const program = maps.find(({ path }) => path.startsWith('/'));
    if (first === undefined || first.inode !== program?.inode) return first;
    // A linker that was started by hand loads the program that it was told; all others are static.
    return /^ld[-.]/.test(basename(first.path)) ? first : undefined;
  }
}

/**
 * Starts a command, and holds it at its exec. It is a child of the calling thread.
 * @param isFollowed whether all that it makes is held, too
 * @throws TraplineError `no-file` or `not-permitted` when it can't be executed, or would lose rights.
 */
export function startCommand(
  command: readonly string[],
  where: { readonly cwd?: string; readonly env: Readonly<Record<string, string | undefined>> },
  isFollowed: boolean,
): HeldProcess {
  const shell = spawnHeld(command, {
    // Named, though they are the same: Node marks what it inherits to be closed by an exec.
    stdio: [0, 1, 2],
    environment: where.env,
    ...(where.cwd === undefined ? {} : { directory: where.cwd }),
  });
  try {
    leadToExec(command, shell, isFollowed);
    ensureRightsKept(shell.pid);
    return adopt(shell.pid);
  } catch (error) {
    end(shell.pid);
    throw error;
  } finally {
    shell.release();
  }
}

/** Ends a command that was not to be started after all: it has not run any code of its own. */
export function abandonCommand(process: HeldProcess): void {
  held.forget(process);
  end(process.pid);
}

/** From the shell that holds it to the command's exec. */
function leadToExec(command: readonly string[], shell: HeldCommand, isFollowed: boolean): void {
  const { pid } = shell;
  // The first task of a process has the process's id.
  const tid = pid as unknown as Tid;
  seize(tid, isFollowed ? FOLLOW : TraceOption.sysgood | TraceOption.exec);
  // The shell's own exec may still be on its way out of the kernel: what stops for us is past it.
  interrupt(tid);
  runUntil(command, pid, TraceEvent.stop, () => interrupt(tid));
  shell.release();
  resume(tid);
  runUntil(command, pid, TraceEvent.exec);
}

/** Passes signals on until an event stops a command. */
function runUntil(
  command: readonly string[],
  pid: Pid,
  event: number,
  beforeResume: () => void = () => {},
): void {
  for (;;) {
    const status = waitFor(pid);
    if (status?.kind !== 'stopped') throw notExecuted(command, status);
    if (status.event === event) return;
    // Any stop clears an interrupt that is pending (kernel/signal.c, ptrace_stop).
    beforeResume();
    const isSignal = status.event === 0 && status.signal !== Signal.trap;
    resume(pid as unknown as Tid, isSignal ? status.signal : 0); // its first task, see above
  }
}

/** Kills a child of ours and waits for its end, unless that was done. */
function end(pid: Pid): void {
  // Until it is waited for, its number is nobody else's.
  const status = waitFor(pid, { poll: true });
  if (status !== undefined && status.kind !== 'stopped') return;
  sendSignal(pid, Signal.kill);
  while (waitFor(pid)?.kind === 'stopped');
}

function notExecuted(command: readonly string[], status: WaitStatus | undefined): TraplineError {
  const code = status?.kind === 'exited' ? ` (status ${status.code})` : '';
  return new TraplineError({
    code: 'no-file',
    message: `the command ${command.join(' ')} could not be executed${code}`,
    hint: 'Is it a program, or a script whose interpreter is there?',
  });
}
