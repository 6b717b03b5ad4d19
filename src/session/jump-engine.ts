/** A session's probes by the jump engine: a target for each process, each with its own memory. */

import { pid as brandPid, type Pid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { JumpTarget } from '../engines/jump/target.ts';
import { mapsIfReadable, readProcessMaps } from '../engines/jump/spaces.ts';
import type { HitCost } from '../probe/engine.ts';
import type { MemoryMapping } from '../process/maps.ts';
import { refuseOwnChild } from '../process/permission.ts';
import { StoppedProcess } from '../process/stop.ts';
import { readTaskStatus } from '../process/tasks.ts';
import { hasProcessorFeature } from '../sys/processor.ts';
import { LivenessList } from '../sys/robust.ts';
import { ownPid, ownTaskId } from '../sys/signals.ts';
import { costsOf, type MeasuredConsumer } from './cost.ts';
import type { AddedConsumer, SessionEngine } from './engine.ts';
import type { FileCache } from './files.ts';
import { findFile } from './find-file.ts';
import { requestsAt, settle } from './jump-requests.ts';
import { hitMeter, machineFeatures } from './own-machine.ts';
import { PerfMap } from './perf-map.ts';
import type { PlaceRegistry } from './place-registry.ts';
import { planPlaces } from './plans.ts';
import { EVERY_PROCESS, resolveIn, type ProbeAddition } from './probing.ts';
import type { SegmentHandle, SessionShape, WantedProbe } from './protocol.ts';
import { selectProcesses } from './selection.ts';
import { TargetSet, type Departed, type Target } from './target-set.ts';
import type { Walked, WalkedProcess } from './walk.ts';
import { modelOf } from './whole-file.ts';
import type { AddedProbe, Stops, TargetSelection } from './types.ts';

/** The jump engine for one session. */
export class JumpEngine implements SessionEngine {
  readonly #shape: SessionShape;
  readonly #files: FileCache;
  readonly #registry: PlaceRegistry<ProbeAddition>;
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
  }

  depart(pid: Pid): number | undefined {
    return this.#targets.depart(pid);
  }

  takeFrom(child: Pid, source: number, consumers: ReadonlySet<number>): boolean {
    const target = this.#targets.get(source);
    const isAll = consumers.size === target?.nextConsumer;
    if (consumers.size > 0) target?.jump.leaveSpace(child, isAll ? undefined : consumers);
    return isAll;
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
    if (this.#isEndless) {
      for (const pid of new Set(additions.flatMap(({ pids }) => pids))) this.#take(pid);
    }
    // A file that one target maps is not waited for.
    const targets = this.#targets.current;
    const lacking = targets.map((target) => this.#tryAddTo(target, additions, isOneOfMany));
    const nowhere = additions.filter((one) => lacking.every((some) => some.includes(one)));
    if (!this.#isEndless) return nowhere;
    for (const addition of nowhere) this.expect(addition);
    this.#dropUntouched();
    return [];
  }

  extend(pid: Pid, additions: readonly ProbeAddition[]): void {
    for (const addition of additions) addition.admit(pid);
    this.#tryAddTo(this.#take(pid), additions, true);
    this.#dropUntouched();
  }

  has(pid: Pid, probe: number, mapping: MemoryMapping): boolean {
    return this.#targets.of(pid)?.served.has(probe, mapping) === true;
  }

  isInherited(process: WalkedProcess): boolean {
    return this.#targets.isInherited(process);
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
      if (memory === undefined || target.isAnnounced) continue;
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

  remove(consumers: readonly AddedConsumer[]): string[] {
    const kept: string[] = [];
    for (const source of new Set(consumers.map((each) => each.source))) {
      const mine = consumers.filter((each) => each.source === source);
      const ids = new Set(mine.map(({ consumer }) => consumer));
      kept.push(...(this.#targets.get(source)?.jump.remove(ids) ?? []));
    }
    return kept;
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
    const programs = consumers.map(({ program }) => program);
    return costsOf(programs, hitMeter(this.#files));
  }

  leave(): string[] {
    const kept: string[] = [];
    for (const { jump } of this.#targets) kept.push(...jump.leave());
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

  /** Where every process is meant, there need be none that maps a file, but the file has to be there, and right. */
  expect(addition: ProbeAddition): void {
    const { location } = addition.definition;
    if (!('file' in location)) return;
    let path: string;
    try {
      path = findFile(location.file);
    } catch (error) {
      if (!(error instanceof TraplineError) || error.code !== 'no-file') throw error;
      return; // a process may know it by this name
    }
    const places = addition.expect(ownPid(), modelOf(path, this.#files).maps);
    const planOf = planPlaces(places);
    for (const place of places) {
      const plan = planOf(place);
      if (plan.kind === 'refused') addition.refuse(EVERY_PROCESS, place, plan.reason);
    }
  }

  /**
   * As {@link #addTo}. Where the process is one of many, that nothing can be done in it is no reason to do
   * nothing anywhere: it is told.
   */
  #tryAddTo(
    target: Target,
    additions: readonly ProbeAddition[],
    isOneOfMany: boolean,
  ): ProbeAddition[] {
    const { pid } = target;
    const wanted = additions.filter((one) => one.wants(pid));
    const others = additions.filter((one) => !wanted.includes(one));
    try {
      if (this.#isEndless) refuseOwnChild(pid);
      return [...others, ...this.#addTo(target, wanted, isOneOfMany)];
    } catch (error) {
      if (!isOneOfMany || !(error instanceof TraplineError)) throw error;
      if (error.code === 'no-process') return [...additions];
      const maps = mapsIfReadable(pid);
      for (const addition of wanted) refuseIn(target, addition, error, maps);
      return others;
    }
  }

  /** Adds probes to one target, all in one stop. @returns those whose file it does not map. */
  #addTo(
    target: Target,
    additions: readonly ProbeAddition[],
    isOneOfMany: boolean,
  ): ProbeAddition[] {
    if (additions.length === 0) return [];
    // Read once: there may be hundreds of definitions.
    const maps = readProcessMaps(target.pid);
    const { pid, served } = target;
    // It shares another target's memory, or was forked by one meanwhile: what that one has, it has.
    if (this.#targets.isInherited({ pid, maps })) {
      for (const { id } of additions) served.note(id, maps);
      return [];
    }
    const refuse = (addition: ProbeAddition, error: TraplineError): void => {
      if (!isOneOfMany || error.code === 'no-process') throw error;
      refuseIn(target, addition, error, maps);
    };
    const found = resolveIn(this.#registry, pid, maps, additions, refuse);
    const resolved = found.map(({ addition, places }) => {
      if (places === undefined) return { addition, places };
      served.note(addition.id, maps);
      // Those that are new: a file may be mapped twice, or again.
      return {
        addition,
        places: places.filter((place) => served.take(addition.id, place.address)),
      };
    });
    const planOf = planPlaces(resolved.flatMap(({ places }) => places ?? []));
    const prepared = resolved.map(({ addition, places }) => {
      return { addition, requests: places && requestsAt(target, maps, addition, places, planOf) };
    });
    const all = prepared.flatMap(({ requests }) => [...(requests?.keys() ?? [])]);
    const failed = all.length > 0 ? target.jump.add(all) : [];
    const reasons = new Map(failed.map((one) => [one.request, one.reason]));
    return prepared.flatMap(({ addition, requests }) => {
      if (requests === undefined) return [addition];
      settle(target, addition, requests, reasons);
      return [];
    });
  }
}

/** Nothing is to be done for a probe in a target, as far as its mappings are these. */
function refuseIn(
  { pid, served }: Target,
  addition: ProbeAddition,
  error: TraplineError,
  maps: readonly MemoryMapping[],
): void {
  addition.refuseProcess(pid, error);
  served.note(addition.id, maps);
}
