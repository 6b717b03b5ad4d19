/**
 * Tasks that this thread holds by ptrace from one stop to the next: those of followed processes. See docs/architecture.md, "Following".
 *
 * What a tracer owes to every task is done here at once, whoever waits: signals are passed on, a stopped process is left
 * stopped, new tasks are taken in. What is more than that (a new program, the end of a process) is put down as a
 * {@link HeldEvent} for who follows, and the task waits for it, parked. So a stop of one process can be waited for while
 * others are served (`StoppedProcess.stop`), and never does anything to a second one in between.
 *
 * Nothing is owed when we die: a stop for a signal is not taken away before it is answered (see `waitFor`), and the kernel lets
 * every task go on from any other.
 */

import { tid as brandTid, type Pid, type Tid } from '../base/brand.ts';
import { debugLog } from '../base/debug.ts';
import { ensure } from '../base/errors.ts';
import {
  detach,
  getEventMessage,
  interrupt,
  listen,
  resume,
  resumeToSystemCall,
  TraceEvent,
} from '../sys/ptrace.ts';
import { Signal } from '../sys/signals.ts';
import {
  isEnd,
  takeEnd,
  takeStop,
  waitFor,
  waitForAny,
  type EndStatus,
  type StopStatus,
  type WaitStatus,
} from '../sys/wait.ts';
import { answerExpected, isExpected } from './expected.ts';
import {
  HeldTable,
  park,
  type HeldEvent,
  type HeldProcess,
  type TaskState,
} from './held-process.ts';
import { keepIgnoredCall, keepTaskCall } from './interrupted.ts';
import { releaseIfLingering } from './lingering.ts';
import { isOurs, originOf, ownerOf, type Birth } from './newborn.ts';
import { ignoreGone } from './tasks.ts';

const log = debugLog('process');

/** What tells that a task has made another one. */
const BIRTHS: ReadonlySet<number> = new Set([TraceEvent.fork, TraceEvent.vfork, TraceEvent.clone]);
/** So many stops are answered before somebody else has a turn. */
const BATCH = 64;

/** The tasks that a thread holds: see {@link held}. */
export class HeldTasks {
  /** Whether a new process waits, parked, before its first instruction. */
  parksNewborn: boolean = false;
  /** Asked what a process has used of the processor, while its end can still be looked at. */
  beforeEnd: ((pid: Pid) => number) | undefined;
  readonly #table = new HeldTable();
  /** Tasks of which nobody has told, with the signal of their first stop: whoever made one tells in a moment. */
  readonly #untold = new Map<Tid, number>();
  #events: HeldEvent[] = [];
  #isReleasing = false;

  /** Whether no task is held. */
  get isEmpty(): boolean {
    return this.#table.isEmpty && this.#untold.size === 0;
  }

  /** Nobody is held, and whoever held is gone: the next one begins as the first did. */
  renew(): void {
    ensure(this.isEmpty, 'nobody is held any more');
    this.parksNewborn = false;
    this.beforeEnd = undefined;
    this.#events = [];
    this.#isReleasing = false;
  }

  get(pid: Pid): HeldProcess | undefined {
    return this.#table.get(pid);
  }

  /** Whether a process is led from its exec on: it has one task, and nobody shares its memory. */
  isStarting(pid: Pid): boolean {
    return this.#table.get(pid)?.isLed === true;
  }

  /** What became of held processes since the last call, in the order in which it did. */
  takeEvents(): readonly HeldEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  /** Whether something has become of held processes since. */
  get hasEvents(): boolean {
    return this.#events.length > 0;
  }

  /** Whether a process has begun another program, and nobody has dealt with that yet. */
  hasNewProgram(pid: Pid): boolean {
    return this.#events.some(({ kind, process }) => kind === 'executed' && process.pid === pid);
  }

  /** Takes in a task that this thread traces: one that runs, or waits in a stop that was seen. */
  add(pid: Pid, tid: Tid, state: 'running' | 'parked'): HeldProcess {
    if (state === 'parked') takeStop(tid);
    return this.#table.add(pid, tid, state);
  }

  /** Where a task is. Undefined when it is not ours. */
  stateOf(tid: Tid): TaskState | undefined {
    const known = this.#table.processOf(tid)?.tasks.get(tid);
    if (known !== undefined) return known;
    if (this.#untold.has(tid)) return 'parked';
    if (this.isEmpty || isExpected(tid)) return undefined;
    return isOurs(tid) ? 'newborn' : undefined;
  }

  /** Answers what tasks have to tell; with `block`, waits for the first. Whoever calls it holds no stop of its own: that would be told, too. */
  serve(block: boolean): void {
    let status = waitForAny({ poll: !block });
    for (let left = BATCH; status !== undefined && status.kind !== 'none'; left--) {
      this.take(status);
      if (left === 0) return;
      status = waitForAny({ poll: true });
    }
  }

  /** Answers one thing that a task had to tell. */
  take(status: WaitStatus): void {
    if (status.kind === 'none') return;
    const tid = brandTid(status.tid);
    if (status.kind === 'stopped' && releaseIfLingering(tid, status)) return;
    if (this.#table.processOf(tid) === undefined && answerExpected(tid, status)) return;
    if (status.kind !== 'stopped') this.#takeEnd(tid, status);
    else ignoreGone(() => this.#answer(tid, status));
  }

  /** Lets a process go on from where it is parked. */
  go(process: HeldProcess): void {
    for (const [tid, state] of process.tasks) {
      if (state === 'parked') ignoreGone(() => this.#run(process, tid));
    }
  }

  /**
   * Ends a stop that was made for a moment: the task goes on, or stays parked, or stopped by SIGSTOP.
   * @returns false for one that is not held: it is to be detached.
   */
  endStop(tid: Tid): boolean {
    const process = this.#table.processOf(tid);
    if (process === undefined) return this.stateOf(tid) !== undefined;
    const state = process.tasks.get(tid);
    if (state === 'parked' || state === 'leaving') {
      // Calls that it made for us have brought it into another stop.
      park(process, tid);
      return true;
    }
    const status = this.poll(tid);
    // Killed, or left running by calls that failed, or another thread's exec has taken its place: told in time.
    if (status?.kind === 'stopped') this.take(status);
    return true;
  }

  /** As `waitFor` with `poll`, of any task of this thread; what an end means to whoever waits for it is done. */
  poll(tid: Tid): WaitStatus | undefined {
    const status = waitFor(tid, { poll: true, keepsEnd: true });
    if (isEnd(status)) this.take(status);
    return status;
  }

  /** Lets a process go, its exec and children too: tasks that are parked at once, the others as soon as {@link serve} sees them stop. */
  letGo(process: HeldProcess): void {
    process.isLeaving = true;
    this.#letGo(Array.from(process.tasks));
  }

  /** A process that was killed by us, and waited for. */
  forget({ tasks }: HeldProcess): void {
    for (const tid of tasks.keys()) this.#table.forget(tid);
  }

  /** Lets everybody go: some at once, the others as soon as {@link serve} sees them stop. */
  release(): void {
    this.#isReleasing = true;
    this.#events = this.#events.filter(({ kind }) => kind === 'ended');
    for (const tid of this.#untold.keys()) detach(tid);
    this.#untold.clear();
    this.#letGo(this.#table.tasks);
  }

  #letGo(tasks: readonly (readonly [Tid, TaskState | undefined])[]): void {
    for (const [tid, state] of tasks) {
      if (state !== 'parked') ignoreGone(() => interrupt(tid));
      else {
        detach(tid);
        this.#table.forget(tid);
      }
    }
  }

  #answer(tid: Tid, status: StopStatus): void {
    const process = this.#table.processOf(tid);
    if (this.#isReleasing || process?.isLeaving === true) {
      this.#detach(tid, status);
      return;
    }
    if (process === undefined) {
      takeStop(tid);
      this.#untold.set(tid, status.signal);
    } else this.#answerHeld(process, tid, status);
  }

  #answerHeld(process: HeldProcess, tid: Tid, { event, signal, systemCall }: StopStatus): void {
    switch (event) {
      case 0:
        if (systemCall && process.isLed) {
          park(process, tid);
          this.#events.push({ kind: 'stepped', process });
          return;
        }
        // Or it was led when it was let run.
        if (!systemCall) keepIgnoredCall(tid, signal);
        this.#run(process, tid, systemCall ? 0 : signal);
        return;
      case TraceEvent.stop:
        // Our own interrupt. What SIGSTOP and SIGCONT do to a system call is theirs to do.
        if (signal === Signal.trap && process.tasks.get(tid) === 'running') keepTaskCall(tid);
        this.#begin(process, tid, signal);
        return;
      case TraceEvent.exec:
        this.#noteExec(process, tid);
        return;
      default:
        if (BIRTHS.has(event)) this.#hearOfBirth(process, tid, event);
        this.#run(process, tid);
    }
  }

  /** From PTRACE_EVENT_STOP: of a stopped process, or of one that runs. */
  #begin(process: HeldProcess, tid: Tid, signal: number): void {
    const isFirst = Number(tid) === Number(process.pid) && process.isNew;
    process.isNew = false;
    const isLeavingCall = process.tasks.get(tid) === 'leaving';
    if (isLeavingCall || (isFirst && this.parksNewborn)) {
      park(process, tid);
      if (!isLeavingCall) this.#events.push({ kind: 'waiting', process });
      return;
    }
    if (signal === Signal.trap) {
      this.#run(process, tid);
      return;
    }
    process.tasks.set(tid, 'stopped');
    listen(tid);
  }

  #run(process: HeldProcess, tid: Tid, signal = 0): void {
    if (process.tasks.get(tid) !== 'leaving') process.tasks.set(tid, 'running');
    if (process.isLed) resumeToSystemCall(tid, signal);
    else resume(tid, signal);
  }

  #hearOfBirth(parent: HeldProcess, tid: Tid, event: number): void {
    const child = brandTid(Number(getEventMessage(tid)));
    if (this.#table.processOf(child) !== undefined) return;
    const signal = this.#untold.get(child);
    // One that was killed at once has been told already.
    if (signal !== undefined || isOurs(child)) this.#bear(child, { parent, event }, signal);
  }

  /** Takes a new task in. @param signal of its first stop, if it has stopped */
  #bear(tid: Tid, birth: Birth | undefined, signal: number | undefined): void {
    this.#untold.delete(tid);
    const owner = ownerOf(tid, birth);
    if (owner === undefined) return; // killed: its end is told
    const isThread = this.#table.get(owner) !== undefined;
    const process = this.#table.add(owner, tid, signal === undefined ? 'newborn' : 'parked', true);
    if (!isThread)
      this.#events.push({ kind: 'born', process, ...originOf(tid, birth, this.#table) });
    if (signal !== undefined) ignoreGone(() => this.#begin(process, tid, signal));
  }

  /** The program is another one, and this task, now the first, the only one. */
  #noteExec(process: HeldProcess, tid: Tid): void {
    takeStop(tid);
    this.#bearUntold();
    log('process %d runs another program, by task %d', process.pid, getEventMessage(tid));
    this.#table.renew(process, tid);
    this.#events.push({ kind: 'executed', process });
  }

  #takeEnd(tid: Tid, status: EndStatus): void {
    const process = this.#table.processOf(tid);
    const isLast = process !== undefined && Number(tid) === Number(process.pid);
    const nanoseconds = isLast ? (this.beforeEnd?.(process.pid) ?? 0) : 0;
    takeEnd(tid);
    this.#close(tid, status, nanoseconds);
  }

  /** The end of a first task is told when it is the last. */
  #close(tid: Tid, status: EndStatus, nanoseconds: number): void {
    const process = this.#table.processOf(tid);
    this.#untold.delete(tid);
    this.#bearUntold();
    this.#table.forget(tid);
    if (process !== undefined && Number(tid) === Number(process.pid)) {
      this.forget(process);
      this.#events.push({ kind: 'ended', process, status, nanoseconds });
    }
  }

  /** A parent that ended, or that another thread's exec has replaced, tells nothing any more. */
  #bearUntold(): void {
    for (const [tid, signal] of this.#untold) this.#bear(tid, undefined, signal);
  }

  #detach(tid: Tid, { event, signal, systemCall }: StopStatus): void {
    const parent = this.#table.processOf(tid);
    // It is let go when it stops.
    if (parent !== undefined && BIRTHS.has(event)) this.#hearOfBirth(parent, tid, event);
    if (event === TraceEvent.stop && signal === Signal.trap) keepTaskCall(tid);
    detach(tid, event === 0 && !systemCall ? signal : 0);
    this.#table.forget(tid);
  }
}

/** Those of this thread. */
export const held: HeldTasks = new HeldTasks();
