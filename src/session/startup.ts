/**
 * A command that starts up under our eyes. It is led from system call to system call through the
 * dynamic linker, so that each library is probed as soon as it is mapped and before any of its code
 * runs, its initialisers and IFUNC resolvers included. No breakpoint is used: if we die, it just goes on.
 */

import { basename } from 'node:path';

import { address, type Pid, type Tid } from '../base/brand.ts';
import { debugLog } from '../base/debug.ts';
import { TraplineError } from '../base/errors.ts';
import { findMapping, readMaps, type MemoryMapping } from '../process/maps.ts';
import { ensureRightsKept } from '../process/permission.ts';
import { StoppedProcess } from '../process/stop.ts';
import { StoppedTask } from '../process/stopped-task.ts';
import {
  detach,
  getRegisters,
  interrupt,
  resume,
  resumeToSystemCall,
  seize,
  TraceEvent,
  TraceOption,
} from '../sys/ptrace.ts';
import type { Registers } from '../sys/registers.ts';
import { sendSignal, Signal } from '../sys/signals.ts';
import { spawnHeld, type HeldCommand } from '../sys/spawn.ts';
import { waitFor, type WaitStatus } from '../sys/wait.ts';

const log = debugLog('session');

const SYS_MMAP = 9n;
const SYS_SET_TID_ADDRESS = 218n;
const SYS_EXIT_GROUP = 231n;
const PROT_EXEC = 4n;

type Stopped = WaitStatus & { readonly kind: 'stopped' };

/** A command between its exec and the moment at which its own code begins. Disposing it lets it run. */
export class CommandStart implements Disposable {
  readonly pid: Pid;
  readonly #task: StoppedTask;
  /** The dynamic linker's mapping as exec left it; undefined for a static program. */
  readonly #loader: MemoryMapping | undefined;
  #held = true;

  private constructor(pid: Pid) {
    this.pid = pid;
    // The first task of a process has the process's id.
    this.#task = new StoppedTask(pid, pid as unknown as Tid, 'interrupt');
    this.#loader = this.#findLoader();
  }

  /**
   * Starts a command and holds it before its first instruction.
   * @throws TraplineError `no-file` or `not-permitted` when it can't be executed, or would lose rights.
   */
  static begin(
    command: readonly string[],
    where: { readonly cwd?: string; readonly env: Readonly<Record<string, string | undefined>> },
  ): CommandStart {
    const held = spawnHeld(command, {
      // Named, though they are the same: Node marks what it inherits to be closed by an exec.
      stdio: [0, 1, 2],
      environment: where.env,
      ...(where.cwd === undefined ? {} : { directory: where.cwd }),
    });
    try {
      leadToExec(command, held);
      ensureRightsKept(held.pid);
      return new CommandStart(held.pid);
    } catch (error) {
      end(held.pid);
      throw error;
    } finally {
      held.release();
    }
  }

  /** The process as if stopped; letting that go leaves it held. */
  borrow(): StoppedProcess {
    this.#task.forget();
    return StoppedProcess.borrow(this.pid, this.#task);
  }

  /**
   * Goes on to the next point at which something executable was mapped.
   * @returns false when the dynamic linker is done: the program's own code, or a library's, is about to
   * make its first system call; or when the process has ended.
   */
  advance(): boolean {
    for (;;) {
      const registers = this.#enterFromLoader();
      if (registers === undefined) return false;
      const isMap =
        registers.get('origRax') === SYS_MMAP && (registers.get('rdx') & PROT_EXEC) !== 0n;
      if (this.#step() === undefined) return false;
      if (isMap) return true;
    }
  }

  /**
   * Goes on until the first thread has its id where glibc's dynamic linker puts it (`__tls_init_tp`: what
   * set_tid_address returns), or until the linker is done or gives up.
   */
  settleThread(): void {
    for (let isSet = false; ;) {
      const call = this.#enterFromLoader()?.get('origRax');
      if (call === undefined || call === SYS_EXIT_GROUP || isSet) return;
      // It is stored behind the call: that has happened when the next one begins.
      isSet = call === SYS_SET_TID_ADDRESS;
      if (this.#step() === undefined) return;
    }
  }

  /** Ends a command that was not to be started after all: it has not run any code of its own. */
  abandon(): void {
    this.#held = false;
    end(this.pid);
  }

  [Symbol.dispose](): void {
    if (this.#held) detach(this.#task.tid);
    this.#held = false;
  }

  /** To the next entry into a system call by the dynamic linker; undefined when it is done, or the process has ended. */
  #enterFromLoader(): Registers | undefined {
    if (this.#loader === undefined || this.#step() === undefined) return undefined;
    const registers = getRegisters(this.#task.tid);
    const rip = registers.get('rip');
    if (rip >= this.#loader.start && rip < this.#loader.end) return registers;
    log('command %d: first system call outside of the dynamic linker', this.pid);
    return undefined;
  }

  /** To the next entry into, or exit from, a system call; signals are passed on. */
  #step(): Stopped | undefined {
    this.#task.forget();
    let signal = 0;
    for (;;) {
      resumeToSystemCall(this.#task.tid, signal);
      const status = waitFor(this.pid);
      if (status?.kind !== 'stopped') {
        this.#held = false;
        return undefined;
      }
      if (status.systemCall && status.event === 0) return status;
      signal = status.event === 0 ? status.signal : 0;
    }
  }

  /** The file in which the first instruction lies, unless that is the program itself. */
  #findLoader(): MemoryMapping | undefined {
    const maps = readMaps(this.pid);
    const first = findMapping(maps, address(this.#task.registers.get('rip')));
    const program = maps.find(({ path }) => path.startsWith('/'));
    if (first === undefined || first.inode !== program?.inode) return first;
    // A linker that was started by hand loads the program that it was told; all others are static.
    return /^ld[-.]/.test(basename(first.path)) ? first : undefined;
  }
}

/** From the shell that holds it to the command's own first instruction. */
function leadToExec(command: readonly string[], held: HeldCommand): void {
  const { pid } = held;
  // The first task of a process has the process's id.
  const tid = pid as unknown as Tid;
  seize(tid, TraceOption.sysgood | TraceOption.exec);
  // The shell's own exec may still be on its way out of the kernel: what stops for us is past it.
  interrupt(tid);
  runUntil(command, pid, TraceEvent.stop, () => interrupt(tid));
  held.release();
  resume(tid);
  runUntil(command, pid, TraceEvent.exec);
  // On its way out of execve the kernel still writes rax: only behind that are the registers ours.
  resumeToSystemCall(tid);
  const exit = waitFor(pid);
  if (exit?.kind !== 'stopped') throw notExecuted(command, exit);
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
