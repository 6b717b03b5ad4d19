/** A session's probes by the jump engine: a target for each process, each with its own memory. */

import { hex, pid as brandPid, type Pid } from '../base/brand.ts';
import { ensure, TraplineError } from '../base/errors.ts';
import type { ConsumerRequest } from '../engines/jump/prepare.ts';
import { JumpTarget } from '../engines/jump/target.ts';
import { readProcessMaps } from '../engines/jump/spaces.ts';
import type { HitCost, StopAccount } from '../probe/engine.ts';
import { layoutOf } from '../probe/program.ts';
import type { MemoryMapping } from '../process/maps.ts';
import { refuseOwnChild } from '../process/permission.ts';
import { StoppedProcess } from '../process/stop.ts';
import { readTaskStatus } from '../process/tasks.ts';
import { hasProcessorFeature } from '../sys/processor.ts';
import { LivenessList } from '../sys/robust.ts';
import { ownTaskId } from '../sys/signals.ts';
import { costsOf, type MeasuredConsumer } from './cost.ts';
import type { AddedConsumer, SessionEngine } from './engine.ts';
import type { FileCache } from './files.ts';
import { CONSUMER_CAPACITY } from './options.ts';
import { hitMeter, machineFeatures } from './own-machine.ts';
import { PerfMap } from './perf-map.ts';
import { planPlaces, type PlanOf } from './plans.ts';
import { ProbeAddition } from './probing.ts';
import type { SegmentHandle, SessionShape } from './protocol.ts';
import type { ResolvedPlace } from './resolve.ts';
import { selectProcesses } from './selection.ts';
import type { CommandStart } from './startup.ts';
import type { AddedProbe, ProbeRequest, Stops, TargetSelection } from './types.ts';

interface Target {
  readonly pid: Pid;
  readonly jump: JumpTarget;
  /** Tasks whose hits are events, as the target's pid namespace numbers them; all if undefined. */
  readonly tids: readonly number[] | undefined;
  /** The next free index in its segment. */
  nextConsumer: number;
  /** Whether the main thread knows of its segment. */
  isAnnounced: boolean;
}

type Requests = ReadonlyMap<ConsumerRequest, ResolvedPlace>;

/** The jump engine for one session. */
export class JumpEngine implements SessionEngine {
  readonly isEndless = false;
  readonly #shape: SessionShape;
  readonly #files: FileCache;
  readonly #targets = new Map<Pid, Target>();
  readonly #liveness: LivenessList;
  #perfMap: PerfMap | undefined;
  #isStarting = false;

  /** @throws TraplineError `unsupported` where stubs can't find out whose hit it is. */
  constructor(shape: SessionShape, files: FileCache) {
    if (!hasProcessorFeature('fsgsbase')) {
      throw new TraplineError({
        code: 'unsupported',
        message: 'this processor or kernel does not let programs read the fs base (FSGSBASE)',
        hint: 'It needs an Intel processor from 2012 or an AMD one from 2017 on, and Linux 5.9 or later.',
      });
    }
    this.#shape = shape;
    this.#files = files;
    this.#liveness = new LivenessList();
    if (shape.perfMap) this.#perfMap = new PerfMap();
  }

  get pids(): readonly Pid[] {
    return [...this.#targets.keys()];
  }

  attach(selection: TargetSelection, probes: readonly ProbeRequest[]): void {
    for (const { pid, tids } of selectProcesses(selection, probes)) {
      refuseOwnChild(pid);
      this.#addTarget(pid, tids, (id) => StoppedProcess.stop(id));
    }
  }

  begin(start: CommandStart): void {
    this.#isStarting = true;
    this.#addTarget(start.pid, undefined, (pid) =>
      this.#isStarting && pid === start.pid ? start.borrow() : StoppedProcess.stop(pid),
    );
  }

  started(): void {
    for (const { jump } of this.#targets.values()) {
      if (jump.memory !== undefined) jump.learnThreads();
    }
    this.#isStarting = false;
  }

  add(additions: readonly ProbeAddition[]): ProbeAddition[] {
    // A file that one target maps is not waited for.
    const lacking = [...this.#targets.values()].map((target) => this.#addTo(target, additions));
    return additions.filter((addition) => lacking.every((some) => some.includes(addition)));
  }

  newSources(): SegmentHandle[] {
    const handles: SegmentHandle[] = [];
    for (const target of this.#targets.values()) {
      const { memory } = target.jump;
      if (memory === undefined || target.isAnnounced) continue;
      target.isAnnounced = true;
      const status = readTaskStatus(target.pid);
      handles.push({
        kind: 'segment',
        source: target.pid,
        address: memory.mapping.address,
        shape: memory.layout,
        samePidNamespace: status === undefined || status.namespacePid === target.pid,
      });
    }
    return handles;
  }

  note(probe: AddedProbe): void {
    for (const target of this.#targets.values()) this.#perfMap?.write(target.jump, probe);
  }

  remove(consumers: readonly AddedConsumer[]): string[] {
    const kept: string[] = [];
    for (const source of new Set(consumers.map((each) => each.source))) {
      const mine = consumers.filter((each) => each.source === source);
      const ids = new Set(mine.map(({ consumer }) => consumer));
      kept.push(...(this.#targets.get(brandPid(source))?.jump.remove(ids) ?? []));
    }
    return kept;
  }

  stops(): Stops {
    const sum = { stops: 0, stoppedNanoseconds: 0, longestStopNanoseconds: 0 };
    for (const { jump } of this.#targets.values()) addStops(sum, jump.stops);
    return sum;
  }

  measure(consumers: readonly MeasuredConsumer[]): HitCost[] {
    const programs = consumers.map(({ program }) => program);
    return costsOf(programs, hitMeter(this.#files));
  }

  leave(): string[] {
    const kept: string[] = [];
    for (const { jump } of this.#targets.values()) kept.push(...jump.leave());
    this.#perfMap?.[Symbol.dispose]();
    this.#perfMap = undefined;
    return kept;
  }

  release(): string[] {
    return [...this.#targets.values()].flatMap(({ jump }) => jump.release());
  }

  close(): void {
    for (const { jump } of this.#targets.values()) jump[Symbol.dispose]();
    this.#targets.clear();
    this.#liveness[Symbol.dispose]();
  }

  #addTarget(
    pid: Pid,
    tids: readonly number[] | undefined,
    stop: (pid: Pid) => StoppedProcess,
  ): void {
    const options = {
      shape: this.#shape.segment,
      files: this.#files,
      liveness: this.#liveness,
      tracer: ownTaskId(),
      features: machineFeatures(),
      stop,
    };
    const jump = new JumpTarget(pid, options);
    this.#targets.set(pid, { pid, jump, tids, nextConsumer: 0, isAnnounced: false });
  }

  /** Adds probes to one target, all in one stop. @returns those whose file it does not map. */
  #addTo(target: Target, additions: readonly ProbeAddition[]): ProbeAddition[] {
    if (additions.length === 0) return [];
    // Read once: there may be hundreds of definitions.
    const maps = readProcessMaps(target.pid);
    const resolved = additions.map((addition) => {
      return { addition, places: addition.resolve(target.pid, maps) };
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

/** What a target is asked for at the places of an addition; what can't be asked for is refused at once. */
function requestsAt(
  target: Target,
  maps: readonly MemoryMapping[],
  addition: ProbeAddition,
  places: readonly ResolvedPlace[],
  planOf: PlanOf,
): Requests {
  const program = addition.program(target.tids);
  const { reference } = addition.definition;
  const requests = new Map<ConsumerRequest, ResolvedPlace>();
  for (const place of places) {
    const { address, file } = place;
    const plan = planOf(place);
    const counter = reference === undefined ? undefined : file.counterIn(maps, reference);
    const refuse = (reason: string): void => addition.refuse(target.pid, place, reason);
    if (plan.kind === 'refused') refuse(plan.reason);
    else if (target.nextConsumer >= CONSUMER_CAPACITY) {
      // A stub's counter behind the last one would lie in a ring.
      const limit = `a session can have ${CONSUMER_CAPACITY} places in one process`;
      refuse(`${limit}, removed ones included: begin another session`);
    } else if (reference !== undefined && counter === undefined) {
      const where = `the counter's offset ${hex(reference)} is in no writable data of the file`;
      refuse(`${where}: leave (${hex(reference)}) away if the code behind it runs without`);
    } else {
      const consumer = target.nextConsumer++;
      const known = { plan, address, file: file.identity, counter };
      requests.set({ ...known, program, probe: addition.id, consumer }, place);
    }
  }
  return requests;
}

/** Notes what became of the consumers that a target was asked to add. */
function settle(
  { pid, jump }: Target,
  addition: ProbeAddition,
  requests: Requests,
  reasons: ReadonlyMap<ConsumerRequest, string>,
): void {
  for (const [request, place] of requests) {
    const reason = reasons.get(request);
    if (reason !== undefined) {
      addition.refuse(pid, place, reason);
      continue;
    }
    const { consumer, program } = request;
    const site = jump.siteOf(request);
    const layout = layoutOf(program);
    addition.note(place, { source: pid, consumer, program, layout, address: place.address });
    ensure(site !== undefined, 'a consumer that was added has a site');
    addition.noteSite(pid, place, site.method, site.displacedBytes);
  }
}

function addStops(sum: { -readonly [Key in keyof Stops]: Stops[Key] }, account: StopAccount): void {
  sum.stops += account.stops;
  sum.stoppedNanoseconds += Number(account.stoppedNanoseconds);
  sum.longestStopNanoseconds = Math.max(
    sum.longestStopNanoseconds,
    Number(account.longestNanoseconds),
  );
}
