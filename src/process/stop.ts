/**
 * Stopping a whole address space and letting it go again. See docs/architecture.md, "Stopping".
 *
 * Every task that we hold is in a PTRACE_EVENT_STOP inside `get_signal`, before a signal is taken from the queue. A task that
 * first reports a signal is given it and stopped again, at the first instruction of its handler: we hold no signals, so we can
 * lose none (nor between its report and our answer: see `waitFor`), and if we die the kernel detaches every task.
 */

import { type Address, type Pid, type Tid } from '../base/brand.ts';
import { debugLog } from '../base/debug.ts';
import { TraplineError } from '../base/errors.ts';
import { monotonicNanoseconds } from '../sys/clock.ts';
import { MemoryFile } from '../sys/memory.ts';
import { detach, interrupt, resume, TraceEvent, TraceOption } from '../sys/ptrace.ts';
import { Signal } from '../sys/signals.ts';
import { sleepMicroseconds, type WaitStatus } from '../sys/wait.ts';
import { leaveParkedCall } from './held-process.ts';
import { held } from './held.ts';
import { pause as pauseHolding } from './hold.ts';
import { linger, releaseLingering, tryRelease } from './lingering.ts';
import { readMaps, type MemoryMapping } from './maps.ts';
import { keepInterruptedCall } from './restart.ts';
import { seizeTask } from './seize.ts';
import { StoppedTask } from './stopped-task.ts';
import { Turns } from './turns.ts';
import { ignoreGone, isLive, listTasks, MemorySharers, readTaskState } from './tasks.ts';

const log = debugLog('process');

/** How long {@link StoppedProcess.stop} tries in all, in milliseconds, unless told. */
const DEFAULT_PATIENCE = 10_000;
/** The same while a task waits in the kernel for something that may last. */
const UNINTERRUPTIBLE_PATIENCE = 2000;
/**
 * How long an attempt waits for the tasks that it interrupted, in milliseconds: the first, and the most that a later one does.
 * Meanwhile the others stand still; but a task that is ready to run and gets no processor can't stop, and on a busy machine
 * with many tasks one attempt must outlast a whole turn of them all.
 */
const FIRST_ATTEMPT = 100;
const LONGEST_ATTEMPT = 800;

/** How a process is stopped. */
export interface StopOptions {
  /** How long to try, in milliseconds; 10,000 when absent, 2000 for a task that can't be interrupted. */
  readonly patience?: number;
}

/**
 * An address space of which every task is stopped by this thread. Disposing it lets them all go, and has to be soon: the
 * program stands still. Tasks that are `held` are so further on, and those that are parked stay so.
 */
export class StoppedProcess implements Disposable {
  readonly pid: Pid;
  readonly tasks: readonly StoppedTask[];
  readonly #memory: MemoryFile;
  readonly #since: bigint;
  #until: bigint | undefined;

  private constructor(pid: Pid, tasks: readonly StoppedTask[], memory: MemoryFile, since: bigint) {
    this.pid = pid;
    this.tasks = tasks;
    this.#memory = memory;
    this.#since = since;
  }

  /**
   * Stops every task of a process and of the processes that share its memory.
   * @throws TraplineError `no-process`; `not-permitted` with what would allow it; `busy` when somebody else traces it, or a
   * task could not be stopped in time. No task is held then.
   */
  static stop(pid: Pid, options: StopOptions = {}): StoppedProcess {
    releaseLingering(poll);
    const began = performance.now();
    const deadline = began + (options.patience ?? DEFAULT_PATIENCE);
    const turns = new Turns();
    let wait = FIRST_ATTEMPT;
    for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
      const attempt = new StopAttempt(pid, wait);
      try {
        const stuck = attempt.run();
        if (stuck === undefined) {
          const tasks = attempt.takeTasks();
          const first = tasks[0];
          if (first !== undefined) {
            const memory = openMemory(first, tasks);
            return new StoppedProcess(pid, tasks, memory, attempt.since);
          }
          throw new TraplineError({ code: 'no-process', message: `there is no process ${pid}` });
        }
        log('process %d: task %d does not stop (%s)', pid, stuck.tid, stuck.state);
        attempt.release(deadline);
        const limit = stuck.state === 'D' ? began + UNINTERRUPTIBLE_PATIENCE : deadline;
        if (performance.now() > Math.min(limit, deadline)) throw notStopping(pid, stuck);
        wait = Math.min(wait * 2, LONGEST_ATTEMPT);
      } catch (error) {
        attempt.release(deadline);
        if (!(error instanceof TraplineError) || !turns.mayComeAgain(error)) throw error;
        log('process %d: %s', pid, error.message);
      }
      // Two that want the same must not go on in step.
      pauseHolding(pause * (500 + Math.random() * 1000));
    }
  }

  /** Nanoseconds from just before the first task was seized until now, or until all were let go. */
  get stoppedNanoseconds(): bigint {
    return (this.#until ?? monotonicNanoseconds()) - this.#since;
  }

  /** Reads all of `length` bytes. @throws TraplineError `bad-input` where they can't be read. */
  read(from: Address, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const count = this.#memory.read(from, bytes);
    if (count === length) return bytes;
    throw new TraplineError({
      code: 'bad-input',
      message: `process ${this.pid} has no ${length} readable bytes at 0x${from.toString(16)}`,
    });
  }

  /** Reads into `into`. @returns the bytes read: fewer where unreadable memory begins. */
  readInto(from: Address, into: Uint8Array): number {
    return this.#memory.read(from, into);
  }

  /** Writes bytes, to read-only private memory too, by one pwrite. */
  write(to: Address, bytes: Uint8Array): void {
    this.#memory.write(to, bytes);
  }

  /** The mappings as they are now. */
  maps(): MemoryMapping[] {
    return readMaps(this.tasks[0]?.tid ?? this.pid);
  }

  [Symbol.dispose](): void {
    if (this.#until !== undefined) return;
    this.#memory[Symbol.dispose]();
    releaseAll(this.tasks);
    this.#until = monotonicNanoseconds();
  }
}

/** A task that did not stop, and why. */
interface StuckTask {
  readonly tid: Tid;
  /** Its state's letter. */
  readonly state: string;
}

/** One try to stop everything. */
class StopAttempt {
  readonly #pid: Pid;
  readonly #stopped = new Map<Tid, StoppedTask>();
  /** Seized, not yet seen to stop; with the process each belongs to. */
  readonly #awaited = new Map<Tid, Pid>();
  readonly #patience: number;
  readonly #sharers: MemorySharers;
  #since: bigint | undefined;

  /** @param patience how long to wait for tasks that were interrupted, in milliseconds */
  constructor(pid: Pid, patience: number) {
    this.#pid = pid;
    this.#sharers = new MemorySharers(pid);
    this.#patience = patience;
  }

  /** Just before the first task was seized: until then everything ran. CLOCK_MONOTONIC, nanoseconds. */
  get since(): bigint {
    return this.#since ?? monotonicNanoseconds();
  }

  /** @returns the task that won't stop, or undefined when all are stopped. */
  run(): StuckTask | undefined {
    // A stopped task makes no new ones: two rounds are the rule, more are a race with clone.
    for (;;) {
      ensureSameProgram(this.#pid);
      const fresh = this.#newTasks();
      if (fresh.length === 0) break;
      const stuck = this.#seizeAll(fresh) ?? this.#awaitAll();
      if (stuck !== undefined) return stuck;
    }
    return undefined;
  }

  /** The stopped tasks, which are the caller's from now on; the process's own first, then by id. */
  takeTasks(): StoppedTask[] {
    const tasks = [...this.#stopped.values()];
    this.#stopped.clear();
    const order = (task: StoppedTask): number => (task.pid === this.#pid ? 0 : 1);
    return tasks.sort((a, b) => order(a) - order(b) || a.tid - b.tid);
  }

  /** Lets everything go that was seized; waits for stragglers until the deadline. */
  release(deadline: number): void {
    releaseAll([...this.#stopped.values()]);
    this.#stopped.clear();
    // Who is held goes on when it stops, whoever looks then.
    for (const tid of this.#awaited.keys()) if (held.stateOf(tid)) this.#awaited.delete(tid);
    while (this.#awaited.size > 0 && performance.now() < deadline) {
      for (const tid of this.#awaited.keys()) if (tryRelease(tid, poll)) this.#awaited.delete(tid);
      if (this.#awaited.size > 0) sleepMicroseconds(500);
    }
    for (const tid of this.#awaited.keys()) linger(tid);
    this.#awaited.clear();
  }

  #newTasks(): { readonly pid: Pid; readonly tid: Tid }[] {
    // A program that starts up is alone in its memory.
    const others = held.isStarting(this.#pid) ? [] : this.#sharers.list();
    return [this.#pid, ...others].flatMap((pid) =>
      listTasks(pid)
        .filter((tid) => !this.#stopped.has(tid) && isLive(tid))
        .map((tid) => ({ pid, tid })),
    );
  }

  /**
   * A task in an uninterruptible wait is not touched: a parent in vfork would hold our interrupt until its child is gone, and
   * the child, once we stopped it, would never be.
   */
  #seizeAll(fresh: readonly { readonly pid: Pid; readonly tid: Tid }[]): StuckTask | undefined {
    const waiting = fresh.find(({ tid }) => readTaskState(tid) === 'D');
    if (waiting !== undefined) return { tid: waiting.tid, state: 'D' };
    this.#since ??= monotonicNanoseconds();
    for (const { pid, tid } of fresh) {
      const state = held.stateOf(tid);
      if (state === 'parked') {
        const process = held.get(pid);
        if (process && leaveParkedCall(process, tid)) this.#awaited.set(tid, pid);
        else this.#stopped.set(tid, new StoppedTask(pid, tid, 'interrupt'));
      } else if (state !== undefined || seizeTask(pid, tid, TraceOption.sysgood)) {
        this.#awaited.set(tid, pid);
        // One that was made a moment ago stops by itself.
        if (state !== 'newborn') ignoreGone(() => interrupt(tid));
      }
    }
    return undefined;
  }

  #awaitAll(): StuckTask | undefined {
    const deadline = performance.now() + this.#patience;
    for (let pause = 10; this.#awaited.size > 0; pause = Math.min(pause * 2, 500)) {
      let progress = false;
      for (const [tid, pid] of this.#awaited) {
        const status = poll(tid);
        if (status === undefined) continue;
        progress = true;
        const task = settle(pid, tid, status);
        if (task === 'again') continue;
        this.#awaited.delete(tid);
        if (task === 'gone') continue;
        this.#stopped.set(tid, task);
        // At once: an attempt that fails lets go of the tasks that did stop.
        ignoreGone(() => keepInterruptedCall(task));
      }
      if (progress) pause = 10;
      else if (performance.now() > deadline) break;
      else sleepMicroseconds(pause);
    }
    const [first] = this.#awaited.keys();
    return first === undefined ? undefined : { tid: first, state: readTaskState(first) ?? '?' };
  }
}

/** Ends are told to whoever waits for them. */
const poll = (tid: Tid): WaitStatus | undefined => held.poll(tid);

/** What a wait status makes of a task that we want stopped inside get_signal. */
function settle(pid: Pid, tid: Tid, status: WaitStatus): StoppedTask | 'again' | 'gone' {
  if (status.kind !== 'stopped') return 'gone';
  if (status.event === TraceEvent.stop) {
    const kind = status.signal === Signal.trap ? 'interrupt' : 'group-stop';
    return new StoppedTask(pid, tid, kind);
  }
  // Every trap clears a pending interrupt (kernel/signal.c, ptrace_stop): ask again, then deliver.
  if (held.stateOf(tid) !== undefined) {
    ignoreGone(() => interrupt(tid));
    held.take(status);
    return held.stateOf(tid) === 'parked' ? 'gone' : 'again'; // by an exec, or a step: see ensureSameProgram
  }
  const signal = status.event === 0 && !status.systemCall ? status.signal : 0;
  ignoreGone(() => {
    interrupt(tid);
    resume(tid, signal);
  });
  return 'again';
}

/** @throws TraplineError `no-process` where it was held and has called exec: what it was is gone. */
function ensureSameProgram(pid: Pid): void {
  if (!held.hasNewProgram(pid)) return;
  throw new TraplineError({
    code: 'no-process',
    message: `process ${pid} has begun another program`,
  });
}

function releaseAll(tasks: readonly StoppedTask[]): void {
  for (const { tid } of tasks) {
    if (held.endStop(tid) || detach(tid)) continue;
    // Killed, or left running by a batch that failed: ptrace still owes it a wait.
    ignoreGone(() => interrupt(tid));
    if (!tryRelease(tid, poll)) linger(tid);
  }
}

function openMemory(first: StoppedTask, tasks: readonly StoppedTask[]): MemoryFile {
  try {
    return new MemoryFile(first.tid);
  } catch (error) {
    releaseAll(tasks);
    throw error;
  }
}

function notStopping(pid: Pid, { tid, state }: StuckTask): TraplineError {
  return new TraplineError({
    code: 'busy',
    message: `task ${tid} of process ${pid} does not stop (state ${state})`,
    hint: HINTS[state] ?? 'the machine may be overloaded: try again',
  });
}

/** By the state of the task that is stuck. */
const HINTS: Readonly<Record<string, string>> = {
  D: 'it waits in the kernel, for a disk or for a child made by vfork: try again later',
  t: 'it has stopped, but something else in this process waits for it and was told so: trace it from another process',
};
