/** An engine as the tracer sees it: the same session, whichever way its probes are made real. */

import type { Pid } from '../base/brand.ts';
import type { HitCost } from '../probe/engine.ts';
import type { MemoryMapping } from '../process/maps.ts';
import type { AnnouncedSpaces } from './libraries/announced-spaces.ts';
import type { MeasuredConsumer } from './reading/cost.ts';
import type { ProbeAddition } from './probes/probing.ts';
import type { SourceHandle, WantedProbe } from './protocol.ts';
import type { Departed } from './targets/target-set.ts';
import type { Walked, WalkedProcess } from './walks/walk.ts';
import type { AddedProbe, Stops, TargetSelection } from './types.ts';

/** A consumer that was added, as far as it has to be taken out again. */
export interface AddedConsumer {
  /** See `ConsumerHandle`. */
  readonly source: number;
  readonly consumer: number;
}

/** What became of probes that were taken out of a child. */
export interface TakenFrom {
  /** Whether nothing of the session is left in it. */
  readonly isAll: boolean;
  /** What had to stay, for people. */
  readonly problems: readonly string[];
}

/** One session's engine. The tracer owns it: `leave`, `release` when all was read, `close`. */
export interface SessionEngine {
  /** The processes that are targets by name; none where every process is one. */
  readonly pids: readonly Pid[];
  /** Whether every process is a target, those that start later too: such a session ends only by itself. */
  readonly isEndless: boolean;
  /** Whether those are found by walks. */
  readonly isWalking: boolean;
  /** What targets tell of their libraries; undefined where nobody has to tell. */
  readonly announced: AnnouncedSpaces | undefined;
  /**
   * Takes running processes as targets.
   * @throws TraplineError as `selectProcesses` does; `refused` for what this engine can't select.
   */
  attach(selection: TargetSelection, probes: readonly WantedProbe[]): void;
  /** Takes a command as the target that is held before its first instruction. */
  begin(command: Pid): void;
  /** A program is about to run its own code. */
  started(pid: Pid): void;
  /**
   * Adds probes wherever their files are.
   * @param isOneOfMany whether it is no reason to do nothing at all that nothing can be done in one process
   * @returns those whose file no target maps; nothing was done about them.
   * @throws TraplineError as resolving does, and when nothing could be done at all.
   */
  add(additions: readonly ProbeAddition[], isOneOfMany?: boolean): ProbeAddition[];
  /**
   * Sees that the file of a probe is there, though no target maps it yet, and that it will be told when one does.
   * @throws TraplineError as resolving does.
   */
  expect(addition: ProbeAddition): void;
  /** Adds probes to a process that a walk found, or that is followed; what can't be done there is noted in them. */
  extend(pid: Pid, additions: readonly ProbeAddition[]): void;
  /** Whether a process has a probe already, or can't have it, in one of its mappings. */
  has(process: WalkedProcess, probe: number, mapping: MemoryMapping): boolean;
  /** Whether a process has this session's probes from the one that forked it. */
  isInherited(process: WalkedProcess): boolean;
  /** Of those the ones whose parent has ended: what is added to that reaches them no more. */
  orphans(): readonly Pid[];
  /** Told of each walk. */
  noteWalk(walked: Walked): Departed;
  /** A process runs another program now, or none. @returns its source, if something writes to it */
  depart(pid: Pid): number | undefined;
  /**
   * Takes probes out of a forked child of a source's process: its own copy of them.
   * @param isLast whether it keeps none
   */
  takeFrom(child: Pid, source: number, consumers: ReadonlySet<number>, isLast: boolean): TakenFrom;
  /** The source of a process that is a target itself. */
  sourceOf(pid: Pid): number | undefined;
  /** The source whose segment has an inode. */
  sourceAt(inode: bigint): number | undefined;
  /** Unmaps sources on our side that nobody writes to any more; all was read. */
  retire(sources: readonly number[]): void;
  /** Sources of events that are new since the last call. */
  newSources(): SourceHandle[];
  /** Told of each probe that is in. */
  note(probe: AddedProbe): void;
  /** @param isLast whether the session has no probe any more. @returns what had to stay. */
  remove(consumers: readonly AddedConsumer[], isLast: boolean): string[];
  stops(): Stops;
  /** What a hit of each consumer costs; {@link UNKNOWN_COST} where that is not known. */
  measure(consumers: readonly MeasuredConsumer[]): HitCost[];
  /** Takes everything out of the processes. @returns what had to stay. */
  leave(): string[];
  /** Gives back what was kept for reading; all was read. @returns what had to stay. */
  release(): string[];
  /** Unmaps on our side what the main thread reads no more. */
  close(): void;
}
