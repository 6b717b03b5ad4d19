/** A session's probes by the jump engine: a target for each process, each with its own memory. */

import { pid as brandPid, type Pid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { leaveAll, removeAll } from '../engines/jump/leaving.ts';
import { JumpTarget } from '../engines/jump/target.ts';
import { mapsIfReadable } from '../engines/jump/spaces.ts';
import type { HitCost } from '../probe/engine.ts';
import type { MemoryMapping } from '../process/maps.ts';
import { held } from '../process/held.ts';
import { refuseOwnChild } from '../process/permission.ts';
import { StoppedProcess } from '../process/stop.ts';
import { readTaskStatus } from '../process/tasks.ts';
import { hasProcessorFeature } from '../sys/processor.ts';
import { LivenessList } from '../sys/robust.ts';
import { ownTaskId } from '../sys/signals.ts';
import { AnnouncedSpaces, ownSpace } from './libraries/announced-spaces.ts';
import { costsOf, type MeasuredConsumer } from './reading/cost.ts';
import type { AddedConsumer, SessionEngine, TakenFrom } from './engine.ts';
import { expectInFile } from './probes/expected.ts';
import type { FileCache } from './files/files.ts';
import { hitMeter, machineFeatures } from './own-machine.ts';
import { PerfMap } from './files/perf-map.ts';
import type { PlaceRegistry } from './probes/place-registry.ts';
import type { ProbeAddition } from './probes/probing.ts';
import type { SegmentHandle, SessionShape, WantedProbe } from './protocol.ts';
import { selectProcesses } from './targets/selection.ts';
import { TargetSet, type Departed, type Target } from './targets/target-set.ts';
import {
  addToSpace,
  refuseIn,
  type AddingContext,
  type TargetSpace,
} from './targets/target-spaces.ts';
import type { Walked, WalkedProcess } from './walks/walk.ts';
import type { AddedProbe, Stops, TargetSelection } from './types.ts';

/** The jump engine for one session. */
export class JumpEngine implements SessionEngine {
  readonly #shape: SessionShape;
  readonly #files: FileCache;
  readonly #registry: PlaceRegistry<ProbeAddition>;
  readonly announced: AnnouncedSpaces;
  readonly #targets = new TargetSet();
  readonly #liveness: LivenessList;
  #perfMap: PerfMap | undefined;
  #isEndless = false;

  /** @throws TraplineError `unsupported` where stubs can't find out whose hit it is. */
  constructor(shape: SessionShape, files: FileCache, registry: PlaceRegistry<ProbeAddition>) {
    if (!hasProcessorFeature('fsgsbase')) {
      throw new TraplineError({
        code: 'unsupported',
        message: 'this processor or kernel does not let programs read the fs base (FSGSBASE)',
        hint: 'It needs an Intel processor from 2012 or an AMD one from 2017 on, and Linux 5.9 or later.',
      });
    }
    this.#shape = shape;
    this.#files = files;
    this.announced = new AnnouncedSpaces(this.#targets, files);
    this.#registry = registry;
    this.#liveness = new LivenessList();
    if (shape.perfMap) this.#perfMap = new PerfMap();
  }

  get pids(): readonly Pid[] {
    return this.#targets.pids;
  }

  get isEndless(): boolean {
    return this.#isEndless;
  }

  get isWalking(): boolean {
    return this.#isEndless;
  }

  attach(selection: TargetSelection, probes: readonly WantedProbe[]): void {
    if (selection.all === true) {
      this.#isEndless = true;
      for (const number of probes.flatMap(({ pids }) => pids ?? [])) this.#take(brandPid(number));
      return;
    }
    for (const { pid, tids } of selectProcesses(selection, probes)) {
      refuseOwnChild(pid);
      this.#addTarget(pid, tids);
    }
  }

  begin(command: Pid): void {
    this.#take(command);
  }

  started(pid: Pid): void {
    const jump = this.#targets.of(pid)?.jump;
    if (jump?.memory !== undefined) jump.learnThreads();
    this.announced.listen(pid);
  }

  depart(pid: Pid): number | undefined {
    return this.#targets.depart(pid);
  }

  takeFrom(child: Pid, source: number, consumers: ReadonlySet<number>, isLast: boolean): TakenFrom {
    const target = this.#targets.get(source);
    if (target === undefined) return { isAll: false, problems: [] };
    const leaving = new Set(consumers);
    if (isLast && typeof target.hook === 'object') leaving.add(target.hook.consumer);
    // What tells of programs that are executed stays: a child without probes would lose its rights, too.
    const isAll = isLast && target.execs === undefined;
    if (!isAll && leaving.size === 0) return { isAll, problems: [] };
    const problems = target.jump.leaveSpace(child, isAll ? undefined : leaving);
    return { isAll: isAll && problems.length === 0, problems };
  }

  sourceOf(pid: Pid): number | undefined {
    const target = this.#targets.of(pid);
    return target?.jump.memory && target.source;
  }

  sourceAt(inode: bigint): number | undefined {
    return [...this.#targets].find(({ jump }) => jump.memory?.inode === inode)?.source;
  }

  add(
    additions: readonly ProbeAddition[],
    isOneOfMany: boolean = this.#isEndless,
  ): ProbeAddition[] {
    const orphans = this.#targets.orphans();
    if (this.#isEndless) {
      const pids = new Set(additions.flatMap((addition) => addition.pids));
      for (const { pid } of orphans) pids.delete(pid);
      for (const pid of pids) this.#take(pid);
    }
    // A file that one target maps is not waited for.
    const targets = this.#targets.current.filter((target) => this.#targets.isRunning(target));
    const spaces = [...targets.map((target) => ownSpace(target)), ...orphans];
    const [first] = this.#targets.current;
    if (spaces.length === 0 && first !== undefined && !this.#isEndless) throw hasEnded(first);
    const lacking = spaces.map((space) => this.#tryAddTo(space, additions, isOneOfMany));
    for (const target of targets) this.announced.hush(target);
    const nowhere = additions.filter((one) => lacking.every((some) => some.includes(one)));
    if (!this.#isEndless) return nowhere;
    for (const addition of nowhere) this.expect(addition);
    this.#dropUntouched();
    return [];
  }

  extend(pid: Pid, additions: readonly ProbeAddition[]): void {
    for (const addition of additions) addition.admit(pid);
    const space = this.#targets.spaceOf({ pid, maps: mapsIfReadable(pid) });
    if (space !== undefined) this.#extendSpace(space, additions);
    else this.#extendTarget(this.#take(pid), additions);
    this.#dropUntouched();
  }

  #extendTarget(target: Target, additions: readonly ProbeAddition[]): void {
    this.#tryAddTo(ownSpace(target), additions, true);
    if (target.jump.memory !== undefined) this.announced.hush(target);
  }

  has(process: WalkedProcess, probe: number, mapping: MemoryMapping): boolean {
    const { pid } = process;
    const served = this.#targets.spaceOf(process)?.served ?? this.#targets.of(pid)?.served;
    return served?.has(probe, mapping) === true;
  }

  isInherited(process: WalkedProcess): boolean {
    return this.#targets.isInherited(process);
  }

  orphans(): readonly Pid[] {
    return this.#targets.orphans().map(({ pid }) => pid);
  }

  noteWalk(walked: Walked): Departed {
    return this.#targets.noteWalk(walked);
  }

  retire(sources: readonly number[]): void {
    for (const source of sources) this.#targets.retire(source);
  }

  newSources(): SegmentHandle[] {
    const handles: SegmentHandle[] = [];
    for (const target of this.#targets) {
      const { memory } = target.jump;
      // Who reads knows of a program when it is through its start, with all its consumers.
      if (memory === undefined || target.isAnnounced || held.isStarting(target.pid)) continue;
      target.isAnnounced = true;
      const status = readTaskStatus(target.pid);
      handles.push({
        kind: 'segment',
        source: target.source,
        pid: target.pid,
        address: memory.mapping.address,
        shape: memory.layout,
        samePidNamespace: status?.isNamespaceInner !== true,
      });
    }
    return handles;
  }

  note(probe: AddedProbe): void {
    for (const target of this.#targets) this.#perfMap?.write(target.jump, probe);
  }

  remove(consumers: readonly AddedConsumer[], isLast: boolean): string[] {
    const leaving = new Map<JumpTarget, ReadonlySet<number>>();
    for (const target of this.#targets) {
      const mine = consumers.filter(({ source }) => source === target.source);
      const ids = new Set(mine.map(({ consumer }) => consumer));
      if (isLast && typeof target.hook === 'object') {
        ids.add(target.hook.consumer);
        target.hook = undefined;
      }
      if (isLast && target.execs !== undefined) {
        for (const consumer of target.execs.keys()) ids.add(consumer);
        target.execs = undefined;
      }
      if (ids.size > 0) leaving.set(target.jump, ids);
    }
    return removeAll(leaving);
  }

  stops(): Stops {
    const { stops, stoppedNanoseconds, longestNanoseconds } = this.#targets.stops();
    return {
      stops,
      stoppedNanoseconds: Number(stoppedNanoseconds),
      longestStopNanoseconds: Number(longestNanoseconds),
    };
  }

  measure(consumers: readonly MeasuredConsumer[]): HitCost[] {
    return costsOf(consumers, hitMeter(this.#files, this.#shape.segment.contextCount));
  }

  leave(): string[] {
    const kept = leaveAll(Array.from(this.#targets, ({ jump }) => jump));
    this.#perfMap?.[Symbol.dispose]();
    this.#perfMap = undefined;
    return kept;
  }

  release(): string[] {
    return [...this.#targets].flatMap(({ jump }) => jump.release());
  }

  close(): void {
    this.#targets[Symbol.dispose]();
    this.#liveness[Symbol.dispose]();
  }

  #addTarget(pid: Pid, tids: readonly number[] | undefined): Target {
    const options = {
      shape: this.#shape.segment,
      files: this.#files,
      liveness: this.#liveness,
      tracer: ownTaskId(),
      features: machineFeatures(),
      stop: (id: Pid) => StoppedProcess.stop(id),
    };
    return this.#targets.add(new JumpTarget(pid, options), tids);
  }

  /** A process as a target, if it is none yet. */
  #take(pid: Pid): Target {
    return this.#targets.of(pid) ?? this.#addTarget(pid, undefined);
  }

  /** Processes in which nothing could be done, or that have ended meanwhile. */
  #dropUntouched(): void {
    for (const target of this.#targets.current) {
      if (target.jump.memory === undefined && target.served.isEmpty) this.#targets.delete(target);
    }
  }

  expect(addition: ProbeAddition): void {
    if (expectInFile(addition, this.#files) && !this.#isEndless) this.announced.expect(addition);
  }

  /**
   * As `addToSpace`. Where the process is one of many, that nothing can be done in it is no reason to do
   * nothing anywhere: it is told.
   */
  #tryAddTo(
    space: TargetSpace,
    additions: readonly ProbeAddition[],
    isOneOfMany: boolean,
  ): ProbeAddition[] {
    const { pid, target } = space;
    // A child goes on for the parent that it had.
    const wanted = additions.filter((one) => one.wants(pid) || one.wants(target.pid));
    const others = additions.filter((one) => !wanted.includes(one));
    const context = { ...this.#context(isOneOfMany), isAlone: pid !== target.pid };
    try {
      if (this.#isEndless) refuseOwnChild(pid);
      return [...others, ...addToSpace(space, wanted, context)];
    } catch (error) {
      if (!isOneOfMany || !(error instanceof TraplineError)) throw error;
      if (error.code === 'no-process') return [...additions];
      const maps = mapsIfReadable(pid);
      for (const addition of wanted) refuseIn(space, addition, error, maps);
      return others;
    }
  }

  /** Nobody has asked for it now: what can't be done is told. */
  #extendSpace(space: TargetSpace, additions: readonly ProbeAddition[]): void {
    try {
      addToSpace(space, additions, { ...this.#context(true), isAlone: true });
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      if (error.code === 'no-process') return;
      const maps = mapsIfReadable(space.pid);
      for (const addition of additions) refuseIn(space, addition, error, maps);
    }
  }

  #context(isTolerant: boolean): AddingContext {
    const isInherited = (process: WalkedProcess): boolean => this.#targets.isInherited(process);
    const { tellsExecs } = this.announced;
    const known = { registry: this.#registry, files: this.#files, isInherited, tellsExecs };
    return { ...known, isTolerant, isAlone: false };
  }
}

function hasEnded({ pid }: Target): TraplineError {
  return new TraplineError({
    code: 'no-process',
    message: `process ${pid} has ended, and left no child`,
  });
}
