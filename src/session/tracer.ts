/** The tracer: owns ptrace, everything in targets, and what is known of files. Runs in its own thread. */

import { address, pid as brandPid, type Pid } from '../base/brand.ts';
import { ensure, TraplineError } from '../base/errors.ts';
import { measureProgram } from '../engines/jump/measure.ts';
import { JumpTarget } from '../engines/jump/target.ts';
import type { StopAccount } from '../probe/engine.ts';
import { EventNames, type EventName } from '../probe/names.ts';
import type { Program } from '../probe/program.ts';
import { readMaps } from '../process/maps.ts';
import { StoppedProcess } from '../process/stop.ts';
import { readTaskStatus } from '../process/tasks.ts';
import { hasProcessorFeature } from '../sys/processor.ts';
import { LivenessList } from '../sys/robust.ts';
import { ownTaskId, signalName } from '../sys/signals.ts';
import { waitFor } from '../sys/wait.ts';
import { decodeAt } from '../x64/decode.ts';
import { FileCache } from './files.ts';
import { cleanProcesses, describeProcesses } from './leftovers.ts';
import { listFile } from './list-file.ts';
import { PerfMap } from './perf-map.ts';
import { addToTarget, ProbeAddition, type ProbeTarget } from './probing.ts';
import { cpuNanoseconds } from './processor-time.ts';
import type {
  AddReply,
  EndReply,
  OpenReply,
  SegmentHandle,
  SessionShape,
  TracerMethods,
} from './protocol.ts';
import { describeTarget, selectProcesses } from './selection.ts';
import { CommandStart } from './startup.ts';
import type {
  CleanReport,
  FunctionList,
  ListRequest,
  ProbeRequest,
  ProcessStatus,
  Stops,
  TargetSelection,
} from './types.ts';

interface Target extends ProbeTarget {
  /** Whether the main thread knows of its segment. */
  isAnnounced: boolean;
}

/** A probe that was added, as far as it has to be taken out again. */
interface KnownProbe {
  readonly consumers: ReadonlyMap<Pid, ReadonlySet<number>>;
  readonly events: readonly EventName[];
}

/** Answers the main thread's requests. One session's, or none for `status`, `clean` and `list`. */
export class Tracer implements TracerMethods {
  readonly #files = new FileCache();
  readonly #names = new EventNames();
  readonly #targets = new Map<Pid, Target>();
  readonly #probes = new Map<number, KnownProbe>();
  #liveness: LivenessList | undefined;
  #shape: SessionShape | undefined;
  #perfMap: PerfMap | undefined;
  #nextProbe = 1;
  #command: { readonly pid: Pid; end: EndReply | undefined } | undefined;

  prepare(): void {
    decodeAt(new Uint8Array([0x90]), 0, address(0n));
  }

  attach(
    selection: TargetSelection,
    shape: SessionShape,
    probes: readonly ProbeRequest[],
  ): OpenReply {
    this.#begin(shape);
    for (const { pid, tids } of selectProcesses(selection, probes)) {
      this.#addTarget(pid, tids, (id) => StoppedProcess.stop(id));
    }
    const processorTimes = this.#processorTimes();
    try {
      const targets = this.#describe();
      const added = this.#addAll(probes);
      return { processorTimes, isCommand: false, targets, added, stops: this.stops() };
    } catch (error) {
      // A session that can't begin leaves nothing behind.
      this.leave();
      throw error;
    }
  }

  spawn(
    command: readonly string[],
    where: { readonly cwd?: string; readonly env: Readonly<Record<string, string | undefined>> },
    shape: SessionShape,
    probes: readonly ProbeRequest[],
  ): OpenReply {
    this.#begin(shape);
    using start = CommandStart.begin(command, where);
    let isStarting = true;
    const target = this.#addTarget(start.pid, undefined, (pid) =>
      isStarting && pid === start.pid ? start.borrow() : StoppedProcess.stop(pid),
    );
    try {
      const processorTimes = this.#processorTimes();
      const added = this.#probeWhileStarting(start, target, probes);
      if (target.jump.memory !== undefined) target.jump.learnThreads();
      isStarting = false;
      this.#command = { pid: start.pid, end: undefined };
      const targets = this.#describe();
      return { processorTimes, isCommand: true, targets, added, stops: this.stops() };
    } catch (error) {
      start.abandon();
      throw error;
    }
  }

  add(request: ProbeRequest): AddReply {
    const [reply] = this.#addAll([request]);
    ensure(reply !== undefined, 'one request, one reply');
    return reply;
  }

  remove(probe: number): readonly string[] {
    const known = this.#probes.get(probe);
    if (known === undefined) return [];
    this.#probes.delete(probe);
    for (const name of known.events) this.#names.release(name);
    return [...known.consumers].flatMap(([pid, consumers]) => {
      return this.#targets.get(pid)?.jump.remove(consumers) ?? [];
    });
  }

  pollEnd(): EndReply | undefined {
    const command = this.#command;
    if (command === undefined || command.end !== undefined) return command?.end;
    // Read before the wait takes it away: a zombie still has its times.
    const spent = cpuNanoseconds(command.pid);
    const status = waitFor(command.pid, { poll: true });
    if (status === undefined || status.kind === 'stopped') return undefined;
    command.end = {
      pid: command.pid,
      code: status.kind === 'exited' ? status.code : undefined,
      signal: status.kind === 'signaled' ? signalName(status.signal) : undefined,
      cpuNanoseconds: spent,
    };
    return command.end;
  }

  measure(programs: readonly Program[]): readonly number[] {
    const own = brandPid(process.pid);
    const [tidOffset] = this.#files.tidOffsets(own, readMaps(own));
    const features = {
      rdpid: hasProcessorFeature('rdpid'),
      threadPointer: tidOffset === undefined ? ('register' as const) : ('memory' as const),
    };
    return programs.map((program) => measureProgram(program, { features, tidOffset }));
  }

  stops(): Stops {
    const sum = { stops: 0, stoppedNanoseconds: 0, longestStopNanoseconds: 0 };
    for (const { jump } of this.#targets.values()) addStops(sum, jump.stops);
    return sum;
  }

  leave(): readonly string[] {
    const kept: string[] = [];
    for (const { jump } of this.#targets.values()) kept.push(...jump.leave());
    this.#perfMap?.[Symbol.dispose]();
    this.#perfMap = undefined;
    this.#probes.clear();
    return kept;
  }

  close(): void {
    for (const { jump } of this.#targets.values()) jump[Symbol.dispose]();
    this.#targets.clear();
    this.#liveness?.[Symbol.dispose]();
    this.#liveness = undefined;
  }

  status(pids: readonly number[] | undefined): readonly ProcessStatus[] {
    return describeProcesses(pids, this.#files);
  }

  clean(pids: readonly number[] | undefined): readonly CleanReport[] {
    return cleanProcesses(pids, this.#files);
  }

  list(file: string, request: ListRequest): FunctionList {
    return listFile(file, request);
  }

  #begin(shape: SessionShape): void {
    ensure(this.#shape === undefined, 'a tracer serves one session');
    if (!hasProcessorFeature('fsgsbase')) {
      throw new TraplineError({
        code: 'unsupported',
        message: 'this processor or kernel does not let programs read the fs base (FSGSBASE)',
        hint: 'It needs an Intel processor from 2012 or an AMD one from 2017 on, and Linux 5.9 or later.',
      });
    }
    this.#shape = shape;
    this.#liveness = new LivenessList();
    if (shape.perfMap) this.#perfMap = new PerfMap();
  }

  #addTarget(
    pid: Pid,
    tids: readonly number[] | undefined,
    stop: (pid: Pid) => StoppedProcess,
  ): Target {
    const { segment: shape } = this.#shape ?? {};
    const liveness = this.#liveness;
    ensure(shape !== undefined && liveness !== undefined, 'the session has begun');
    const rdpid = hasProcessorFeature('rdpid');
    const options = { shape, files: this.#files, liveness, tracer: ownTaskId(), rdpid, stop };
    const jump = new JumpTarget(pid, options);
    const target = { pid, jump, tids, nextConsumer: 0, isAnnounced: false };
    this.#targets.set(pid, target);
    return target;
  }

  #addAll(requests: readonly ProbeRequest[]): AddReply[] {
    const additions = this.#additions(requests);
    for (const target of this.#targets.values()) addToTarget(target, additions);
    return additions.map((addition) => this.#reply(addition));
  }

  /** Adds each probe as soon as its file is mapped. */
  #probeWhileStarting(
    start: CommandStart,
    target: Target,
    requests: readonly ProbeRequest[],
  ): AddReply[] {
    const additions = this.#additions(requests);
    let waiting = additions;
    do {
      waiting = addToTarget(target, waiting);
    } while (waiting.length > 0 && start.advance());
    return additions.map((addition) => this.#reply(addition));
  }

  #additions(requests: readonly ProbeRequest[]): ProbeAddition[] {
    return requests.map(
      (request) => new ProbeAddition(this.#nextProbe++, request, this.#files, this.#names),
    );
  }

  #reply(addition: ProbeAddition): AddReply {
    const probe = addition.result([...this.#targets.keys()]);
    const consumers = new Map<Pid, Set<number>>();
    for (const { pid, consumer } of addition.consumers) {
      const key = brandPid(pid);
      consumers.set(key, (consumers.get(key) ?? new Set()).add(consumer));
    }
    this.#probes.set(addition.id, { consumers, events: addition.events });
    for (const target of this.#targets.values()) this.#perfMap?.write(target.jump, probe);
    return { probe, segments: this.#newSegments(), consumers: addition.consumers };
  }

  #newSegments(): SegmentHandle[] {
    const handles: SegmentHandle[] = [];
    for (const target of this.#targets.values()) {
      const { memory } = target.jump;
      if (memory === undefined || target.isAnnounced) continue;
      target.isAnnounced = true;
      const status = readTaskStatus(target.pid);
      handles.push({
        pid: target.pid,
        address: memory.mapping.address,
        shape: memory.layout,
        samePidNamespace: status === undefined || status.namespacePid === target.pid,
      });
    }
    return handles;
  }

  #processorTimes(): OpenReply['processorTimes'] {
    return [...this.#targets.keys()].map((pid) => ({ pid, nanoseconds: cpuNanoseconds(pid) }));
  }

  #describe(): OpenReply['targets'] {
    return [...this.#targets.keys()].map((pid) => describeTarget(pid));
  }
}

function addStops(
  sum: { stops: number; stoppedNanoseconds: number; longestStopNanoseconds: number },
  account: StopAccount,
): void {
  sum.stops += account.stops;
  sum.stoppedNanoseconds += Number(account.stoppedNanoseconds);
  const longest = Number(account.longestNanoseconds);
  sum.longestStopNanoseconds = Math.max(sum.longestStopNanoseconds, longest);
}
