/**
 * Following: every process that a target makes is held from its birth, every program that one begins gets its probes
 * before its first instruction. See docs/architecture.md, "Following". What is owed to the tasks themselves is
 * in `process/held.ts`.
 */

import type { Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import { mapsIfReadable, SEGMENT_PATH } from '../../engines/jump/spaces.ts';
import { held } from '../../process/held.ts';
import { holdProcess, pause } from '../../process/hold.ts';
import type { HeldEvent, HeldProcess } from '../../process/held-process.ts';
import { ignoreGone } from '../../process/tasks.ts';
import { Signal } from '../../sys/signals.ts';
import { lostRight } from '../../process/rights.ts';
import { cpuNanoseconds } from '../targets/processor-time.ts';
import type { AnnouncedIn } from '../protocol.ts';
import { ReleasedProcesses, type ExecSession } from './released.ts';
import { FollowedSpaces, type SpaceSession } from './spaces.ts';
import { leadProgram, type ProgramStart, type StartWork } from './startup.ts';

const log = debugLog('session');

/** How long the last tasks are waited for that are let go, in milliseconds: a parent in vfork stops when its child is gone. */
const RELEASE_PATIENCE = 1000;
const RELEASE_PAUSE = 200;

/** What a follower asks of its session. */
export interface FollowedSession extends ExecSession, SpaceSession {
  /** Whether some processes may get no probe: each is asked about when it begins a program. */
  readonly hasFilters: boolean;
  /** Whether a filter could tell a child from its parent. */
  readonly filtersChildren: boolean;
  /** Whether a new program could get a probe: it is held until {@link Follower.decide}. */
  ask(pid: Pid): void;
  /** What is to be done with a new program. @param probes those that it is to get; all if undefined */
  workFor(pid: Pid, probes: readonly number[] | undefined): StartWork;
  /** A child that was forked keeps only some probes. @returns whether it has none left */
  keepOnly(pid: Pid, source: number, probes: readonly number[]): boolean;
  /** A process was forked. */
  born(pid: Pid, parent: Pid): void;
  /** A program has started up: who reads is to know of its events. */
  started(pid: Pid): void;
}

/** Follows the processes that are held by this thread, for one session. */
export class Follower {
  readonly #session: FollowedSession;
  readonly #starts = new Map<Pid, ProgramStart>();
  readonly #spaces: FollowedSpaces;
  /** Children that wait for the answer what they keep, with the source from which they have it. */
  readonly #children = new Map<Pid, number>();
  readonly #released: ReleasedProcesses;
  readonly #onEnd: (end: HeldEvent & { readonly kind: 'ended' }) => void;
  readonly #isEnding: () => boolean;
  #isLeaving = false;
  /** Whether it was told that nobody is held any more. */
  #isAlone = false;

  /**
   * @param onEnd told of each process that has ended
   * @param isEnding whether this thread is to wait no more
   */
  constructor(
    session: FollowedSession,
    onEnd: (end: HeldEvent & { readonly kind: 'ended' }) => void,
    isEnding: () => boolean,
  ) {
    this.#session = session;
    this.#spaces = new FollowedSpaces(session);
    this.#released = new ReleasedProcesses(session);
    this.#onEnd = onEnd;
    this.#isEnding = isEnding;
    held.beforeEnd = cpuNanoseconds;
    held.parksNewborn = session.filtersChildren;
  }

  /** Whether a task is held. */
  get isHolding(): boolean {
    return !held.isEmpty || held.hasEvents;
  }

  /**
   * Seizes running processes; none is stopped.
   * @throws TraplineError as seizing does. {@link leave} lets go of those that were seized.
   */
  seize(pids: readonly Pid[]): void {
    for (const pid of pids) {
      holdProcess(pid);
      this.#spaces.begin(pid);
    }
  }

  /**
   * Leads the first program of a command, which is parked at its exec, to where its own code begins; it stays parked.
   * @throws what `work` throws. TraplineError `no-process` when it has ended.
   */
  lead(process: HeldProcess, work: StartWork): void {
    this.#spaces.begin(process.pid);
    const start = leadProgram(process, work);
    process.isLed = true;
    while (start.next().done !== true) {
      held.go(process);
      if (!this.#stepped(process)) throw endedEarly(process.pid);
    }
    process.isLed = false;
  }

  /** A program is parked at its exec: it is led as every later one. */
  takeProgram(process: HeldProcess): void {
    this.#spaces.begin(process.pid);
    this.#begin(process);
  }

  /** Waits until something is to be done, or the thread is woken, and does it. */
  attend(): void {
    if (!held.hasEvents) held.serve(true);
    this.#handleEvents();
  }

  /**
   * Tells once that nobody is held any more: whether the last has ended or was let go, and whoever saw it. Called when
   * the thread has nothing left to do.
   */
  endTurn(): void {
    if (this.isHolding || this.#isLeaving || this.#isAlone) return;
    this.#isAlone = true;
    this.#session.notify({ kind: 'alone' });
  }

  /**
   * Lets those go that announce that they are about to execute what would lose rights under us.
   * @returns what else was announced
   */
  hear(announced: readonly AnnouncedIn[]): readonly AnnouncedIn[] {
    if (this.#isLeaving) return announced;
    return this.#released.hear(announced, (pid) => this.#spaces.sourceOf(pid));
  }

  /** Takes note of those that were let go and have executed their programs. @returns whether some have not yet */
  settle(): boolean {
    for (const pid of this.#released.settle(holdsSegment)) this.#depart(pid);
    return this.#released.areWaiting;
  }

  /** The processes in which nothing of ours is, and that do not start up now. */
  untouched(): Pid[] {
    return this.#spaces.untouched().filter((pid) => !this.#starts.has(pid));
  }

  /** The answer to {@link FollowedSession.ask}. */
  decide(pid: Pid, probes: readonly number[]): void {
    const process = held.get(pid);
    if (process === undefined || this.#isLeaving) return;
    const source = this.#children.get(pid);
    this.#children.delete(pid);
    if (source === undefined) {
      this.#startUp(process, probes);
      return;
    }
    try {
      // It may have been killed.
      ignoreGone(() => {
        const isUntouched = this.#session.keepOnly(pid, source, probes);
        if (isUntouched) this.#spaces.begin(pid);
      });
    } finally {
      held.go(process);
    }
  }

  /** What a child has inherited is taken out again before it runs, if nobody wants it: not where its parent would lose it. */
  #askOfChild(process: HeldProcess): void {
    const { pid } = process;
    const source = this.#spaces.sourceOf(pid);
    if (source === undefined || this.#spaces.isShared(pid)) {
      held.go(process);
      return;
    }
    this.#children.set(pid, source);
    this.#session.ask(pid);
  }

  /** No program gets probes any more: they are about to be taken out. */
  beginLeaving(): void {
    this.settle();
    this.#handleEvents();
    this.#isLeaving = true;
    for (const pid of this.#starts.keys()) {
      const process = held.get(pid);
      if (process !== undefined) {
        process.isLed = false;
        held.go(process);
      }
      // What it has written so far is read, too.
      this.#session.started(pid);
    }
    this.#starts.clear();
    // A parent in vfork can't be stopped before its child goes on.
    held.parksNewborn = false;
    for (const pid of this.#children.keys()) {
      const child = held.get(pid);
      if (child !== undefined) held.go(child);
    }
    this.#children.clear();
  }

  /** Nobody is held any more but those that can't be let go now: they are as soon as {@link attend} sees them. */
  leave(): void {
    held.release();
    const deadline = performance.now() + RELEASE_PATIENCE;
    while (!held.isEmpty && performance.now() < deadline) pause(RELEASE_PAUSE);
    this.#handleEvents();
  }

  #handleEvents(): void {
    for (const event of held.takeEvents()) {
      if (!this.#isLeaving) this.#handle(event);
      else if (event.kind === 'ended') this.#onEnd(event);
    }
  }

  #handle(event: HeldEvent): void {
    const { process } = event;
    const { pid } = process;
    switch (event.kind) {
      case 'born':
        this.#spaces.bear(event);
        if (event.parent !== undefined) this.#session.born(pid, event.parent.pid);
        return;
      case 'waiting':
        this.#askOfChild(process);
        return;
      case 'executed':
        this.#depart(pid);
        this.#spaces.begin(pid);
        this.#begin(process);
        return;
      case 'stepped':
        this.#step(process);
        return;
      case 'ended':
        this.#noteForbidden(event);
        this.#starts.delete(pid);
        this.#children.delete(pid);
        this.#depart(pid);
        this.#onEnd(event);
    }
  }

  #begin(process: HeldProcess): void {
    const right = lostRight(process.pid);
    if (right !== undefined) this.#session.notify({ kind: 'said', text: right });
    if (this.#session.hasFilters) this.#session.ask(process.pid);
    else this.#startUp(process, undefined);
  }

  #startUp(process: HeldProcess, probes: readonly number[] | undefined): void {
    const { pid } = process;
    const work = this.#session.workFor(pid, probes);
    this.#starts.set(pid, leadProgram(process, work));
    process.isLed = true;
    this.#step(process);
  }

  /** Has a program that starts up go on to its next step, or on by itself. */
  #step(process: HeldProcess): void {
    const { pid } = process;
    const start = this.#starts.get(pid);
    if (start !== undefined && !this.#isDone(pid, start)) {
      held.go(process);
      return;
    }
    this.#starts.delete(pid);
    process.isLed = false;
    if (start !== undefined) this.#session.started(pid);
    held.go(process);
  }

  /** Serves until a process has made its step. @returns false when it has ended, or our thread is to. */
  #stepped(process: HeldProcess): boolean {
    while (!this.#isEnding()) {
      held.serve(true);
      for (const event of held.takeEvents()) {
        if (event.process === process) return event.kind === 'stepped';
      }
    }
    return false;
  }

  #isDone(pid: Pid, start: ProgramStart): boolean {
    try {
      return start.next().done === true;
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      // It was killed, or is not for us: what could be done is done, and it runs on.
      log('program %d: %s', pid, error.message);
      return true;
    }
  }

  /** A program may restrict itself after it was probed, and kill itself by a call of ours: nothing else would say so. */
  #noteForbidden({ process: { pid }, status }: HeldEvent & { readonly kind: 'ended' }): void {
    if (status.kind !== 'signaled' || status.signal !== Signal.systemCall) return;
    if (this.#spaces.sourceOf(pid) === undefined) return;
    const text =
      `process ${pid} was ended by SIGSYS: a filter of system calls that it set after it was probed forbids, perhaps, what probes ` +
      `ask the kernel (gettid at a task's first hit, process_vm_readv where arguments or filters read memory)`;
    this.#session.notify({ kind: 'said', text });
  }

  #depart(pid: Pid): void {
    const reply = this.#spaces.depart(pid);
    if (reply !== undefined) this.#session.notify({ kind: 'walked', reply });
  }
}

function holdsSegment(pid: Pid): boolean {
  return mapsIfReadable(pid).some(({ path }) => path === SEGMENT_PATH);
}

function endedEarly(pid: Pid): TraplineError {
  return new TraplineError({
    code: 'no-process',
    message: `process ${pid} has ended before its own code began`,
  });
}
