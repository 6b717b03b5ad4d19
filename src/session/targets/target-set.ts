/** The targets of a session of the jump engine: one for each program that a process ran while it was one. */

import type { Pid } from '../../base/brand.ts';
import { findSegments, SEGMENT_PATH } from '../../engines/jump/spaces.ts';
import type { ConsumerRequest } from '../../engines/jump/prepare.ts';
import type { StopAccount } from '../../probe/engine.ts';
import type { JumpTarget } from '../../engines/jump/target.ts';
import { isLive, listTasks } from '../../process/tasks.ts';
import type { ExecFunction } from '../../symbols/exec-functions.ts';
import type { SourceOf } from '../protocol.ts';
import { ServedProbes } from '../probes/served.ts';
import type { TargetSpace } from './target-spaces.ts';
import type { Walked, WalkedProcess } from '../walks/walk.ts';

/** One process, as long as it runs one program. */
export interface Target {
  /** Its number among the sources of events: a process that runs another program gets another. */
  readonly source: number;
  readonly pid: Pid;
  readonly jump: JumpTarget;
  /** Tasks whose hits are events, as the target's pid namespace numbers them; all if undefined. */
  readonly tids: readonly number[] | undefined;
  readonly served: ServedProbes;
  /** The same of children that have told of libraries of their own. */
  readonly children: Map<Pid, ServedProbes>;
  /** The consumers that it has had, by probe and address: a place that comes again has the one that it had. */
  readonly consumers: Map<string, number>;
  /** What tells of its libraries; why nothing does; undefined while it was not asked. */
  hook: ConsumerRequest | string | undefined;
  /** What tells of programs that it executes, by consumer; undefined while nothing does. */
  execs: ReadonlyMap<number, ExecFunction> | undefined;
  /** The next free index in its segment. */
  nextConsumer: number;
  /** Whether the main thread knows of its segment. */
  isAnnounced: boolean;
}

/** Sources that are not what they were. */
export interface Departed {
  /** Their process has ended, or runs another program now. Its children may go on. */
  readonly ended: readonly SourceOf[];
  /** Those that ended, now or before, and that nobody writes to any more: each once. */
  readonly abandoned: readonly number[];
}

/** Targets by their numbers, and by process. Disposing it unmaps their memory on our side. */
export class TargetSet implements Disposable, Iterable<Target> {
  readonly #all = new Map<number, Target>();
  /** Those that run. */
  readonly #current = new Map<Pid, Target>();
  /** Those that ended, while a child may still write to their memory. */
  readonly #ended = new Set<Target>();
  /** How long those stood still that are gone. */
  readonly #past = { stops: 0, stoppedNanoseconds: 0n, longestNanoseconds: 0n };
  #next = 1;

  /** The processes that run. */
  get pids(): readonly Pid[] {
    return [...this.#current.keys()];
  }

  /** The targets that run. */
  get current(): readonly Target[] {
    return [...this.#current.values()];
  }

  /** All of them, in the order in which they came. */
  [Symbol.iterator](): Iterator<Target> {
    return this.#all.values();
  }

  get(source: number): Target | undefined {
    return this.#all.get(source);
  }

  /** The target that a process is now. */
  of(pid: Pid): Target | undefined {
    return this.#current.get(pid);
  }

  add(jump: JumpTarget, tids: readonly number[] | undefined): Target {
    const { pid } = jump;
    const source = this.#next++;
    const target: Target = {
      source,
      pid,
      jump,
      tids,
      served: new ServedProbes(),
      children: new Map(),
      consumers: new Map(),
      hook: undefined,
      execs: undefined,
      nextConsumer: 0,
      isAnnounced: false,
    };
    this.#all.set(source, target);
    this.#current.set(pid, target);
    return target;
  }

  /** Takes one out that came to nothing. */
  delete(target: Target): void {
    if (this.#current.get(target.pid) === target) this.#current.delete(target.pid);
    this.#all.delete(target.source);
    addStops(this.#past, target.jump.stops);
    target.jump[Symbol.dispose]();
  }

  /** How long all stood still for us, those that are gone too. */
  stops(): StopAccount {
    const sum = { ...this.#past };
    for (const { jump } of this) addStops(sum, jump.stops);
    return sum;
  }

  /** Compares with what a walk saw: a process that does not map its segment any more has called exec, or is another. */
  noteWalk({ changed, living }: Walked): Departed {
    const maps = new Map(changed.map((process) => [process.pid, process.maps]));
    const ended = this.current.filter(({ pid, jump: { memory } }) => {
      if (living?.has(pid) === false) return true;
      const now = maps.get(pid);
      return memory !== undefined && now?.some(({ inode }) => inode === memory.inode) === false;
    });
    const written = ended.filter(({ jump }) => jump.memory !== undefined);
    for (const target of ended) {
      if (!written.includes(target)) this.delete(target);
      this.#current.delete(target.pid);
    }
    for (const target of written) this.#ended.add(target);
    // Asking every process takes longer: not where only some were looked at.
    const abandoned = living === undefined ? [] : this.#takeAbandoned();
    return {
      ended: ended.map(({ source, pid }) => ({ source, pid })),
      abandoned: abandoned.map(sourceOf),
    };
  }

  /** A process runs another program now, or none. @returns its source, unless nothing of ours is in it */
  depart(pid: Pid): number | undefined {
    const target = this.#current.get(pid);
    if (target === undefined) return undefined;
    if (target.jump.memory === undefined) this.delete(target);
    this.#current.delete(pid);
    return target.jump.memory === undefined ? undefined : target.source;
  }

  /**
   * The address space of a process that maps a target's memory: its own, or a child's.
   * @returns undefined for any other, one that runs another program now among them
   */
  spaceOf({ pid, maps }: WalkedProcess): TargetSpace | undefined {
    const segments = maps.filter(({ path }) => path === SEGMENT_PATH);
    const target = [...this].find(({ jump: { memory } }) =>
      segments.some(({ inode }) => inode === memory?.inode),
    );
    if (target === undefined) return undefined;
    return { target, pid, served: servedOf(target, pid) };
  }

  /** Whether a target's own process runs, and the program that it was. */
  isRunning(target: Target): boolean {
    const { pid } = target;
    return this.#current.get(pid) === target && listTasks(pid).some((tid) => isLive(tid));
  }

  /** The children of targets that have ended, in which the targets' memory lives on: each stands for itself. */
  orphans(): TargetSpace[] {
    const ended = [...this].filter((target) => target.jump.memory && !this.isRunning(target));
    return ended.flatMap((target) =>
      target.jump.children().map((pid) => ({ target, pid, served: servedOf(target, pid) })),
    );
  }

  /** Whether a process has our probes from the one that forked it. */
  isInherited({ pid, maps }: WalkedProcess): boolean {
    const segments = maps.filter(({ path }) => path === SEGMENT_PATH);
    return segments.some(({ inode }) =>
      [...this].some((target) => target.pid !== pid && target.jump.memory?.inode === inode),
    );
  }

  #takeAbandoned(): Target[] {
    if (this.#ended.size === 0) return [];
    const segments = findSegments();
    const abandoned = [...this.#ended].filter(({ jump: { memory } }) => {
      return memory === undefined || !segments.has(memory.inode);
    });
    for (const target of abandoned) this.#ended.delete(target);
    return abandoned;
  }

  /** Unmaps a source's memory on our side: all was read. */
  retire(source: number): void {
    const target = this.#all.get(source);
    if (target !== undefined) this.delete(target);
  }

  [Symbol.dispose](): void {
    for (const { jump } of this.#all.values()) jump[Symbol.dispose]();
    this.#all.clear();
    this.#current.clear();
    this.#ended.clear();
  }
}

/** What a target, or a child of it, has of each probe. */
function servedOf({ pid, served, children }: Target, space: Pid): ServedProbes {
  if (space === pid) return served;
  const known = children.get(space) ?? new ServedProbes();
  children.set(space, known);
  return known;
}

function sourceOf({ source }: Target): number {
  return source;
}

function addStops(sum: StopAccount, more: StopAccount): void {
  sum.stops += more.stops;
  sum.stoppedNanoseconds += more.stoppedNanoseconds;
  if (more.longestNanoseconds > sum.longestNanoseconds) {
    sum.longestNanoseconds = more.longestNanoseconds;
  }
}
