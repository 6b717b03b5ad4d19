/** The tracer: owns ptrace, everything in targets, and what is known of files. Runs in its own thread. */

import { address, pid as brandPid, type Pid } from '../base/brand.ts';
import { ensure, TraplineError } from '../base/errors.ts';
import { cleanHoldings, findHoldings } from '../engines/kernel/leftovers.ts';
import { usableTracefs } from '../engines/kernel/tracefs.ts';
import type { HitCost } from '../probe/engine.ts';
import { EventNames } from '../probe/names.ts';
import { ownTaskId, signalName } from '../sys/signals.ts';
import { waitFor } from '../sys/wait.ts';
import { decodeAt } from '../x64/decode.ts';
import { explainProbe } from './explain.ts';
import type { MeasuredConsumer } from './cost.ts';
import type { SessionEngine } from './engine.ts';
import { FileCache } from './files.ts';
import { JumpEngine } from './jump-engine.ts';
import { KernelEngine } from './kernel-engine.ts';
import { cleanProcesses, describeProcesses } from './leftovers.ts';
import { listFile } from './list-file.ts';
import { PlaceRegistry } from './place-registry.ts';
import { ProbeAddition } from './probing.ts';
import { cpuNanoseconds, processorTimesOf } from './processor-time.ts';
import type {
  AddReply,
  Candidate,
  EndReply,
  ExtendReply,
  OpenReply,
  SessionShape,
  TracerMethods,
  WalkReply,
  WantedProbe,
  WantedProcess,
} from './protocol.ts';
import { describeTarget } from './selection.ts';
import { CommandStart } from './startup.ts';
import { refusalOfAll } from './refusals.ts';
import { symbolize } from './symbolize.ts';
import { SessionWalks } from './walks.ts';
import type { CleanReport, KernelCleanReport, KernelStatus, ProcessStatus } from './held.ts';
import type {
  ExplainRequest,
  Explanation,
  FunctionList,
  ListRequest,
  Stops,
  TargetSelection,
} from './types.ts';

/** Answers the main thread's requests. One session's, or none for `status`, `clean` and `list`. */
export class Tracer implements TracerMethods {
  readonly #files = new FileCache();
  readonly #names = new EventNames();
  readonly #registry = new PlaceRegistry<ProbeAddition>();
  readonly #probes = new Map<number, ProbeAddition>();
  readonly #walks = new SessionWalks(this.#files);
  #session: SessionEngine | undefined;
  #nextProbe = 1;
  #command: { readonly pid: Pid; end: EndReply | undefined } | undefined;

  prepare(): void {
    decodeAt(new Uint8Array([0x90]), 0, address(0n));
  }

  attach(
    selection: TargetSelection,
    shape: SessionShape,
    probes: readonly WantedProbe[],
  ): OpenReply {
    const engine = this.#begin(shape);
    try {
      engine.attach(selection, probes);
      const processorTimes = processorTimesOf(engine.pids);
      const additions = this.#additions(probes);
      engine.add(additions);
      const added = this.#replies(additions);
      const targets = this.#describe();
      const { isEndless, isWalking } = engine;
      const stops = engine.stops();
      const is = { tracer: ownTaskId(), isCommand: false, isEndless, isWalking };
      return { processorTimes, ...is, targets, added, stops };
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  spawn(
    command: readonly string[],
    where: { readonly cwd?: string; readonly env: Readonly<Record<string, string | undefined>> },
    shape: SessionShape,
    probes: readonly WantedProbe[],
  ): OpenReply {
    const engine = this.#begin(shape);
    using start = CommandStart.begin(command, where);
    try {
      engine.begin(start);
      const processorTimes = processorTimesOf(engine.pids);
      const added = this.#probeWhileStarting(start, engine, probes);
      // What is probed is there, but stubs have to know the task, too: else each hit asks the kernel.
      start.settleThread();
      engine.started();
      this.#command = { pid: start.pid, end: undefined };
      const targets = this.#describe();
      const stops = engine.stops();
      const is = { tracer: ownTaskId(), isCommand: true, isEndless: false, isWalking: false };
      return { processorTimes, ...is, targets, added, stops };
    } catch (error) {
      start.abandon();
      this.abandon();
      throw error;
    }
  }

  candidates(
    selection: TargetSelection | undefined,
    probes: readonly WantedProbe[],
  ): readonly Candidate[] {
    return this.#walks.candidates(selection, probes, this.#session);
  }

  walk(pids: readonly number[] | undefined): WalkReply {
    const reply = this.#walks.walk(pids, this.#engine, this.#probes.values());
    for (const { pid, source } of reply.ended) {
      this.#registry.forget(brandPid(pid));
      for (const addition of this.#probes.values()) addition.forget(pid, source);
    }
    return reply;
  }

  extend(wanted: readonly WantedProcess[]): ExtendReply {
    const engine = this.#engine;
    const touched = new Set<number>();
    const pids = wanted.map(({ pid, probes }) => {
      const known = probes.flatMap((id) => this.#probes.get(id) ?? []);
      engine.extend(brandPid(pid), known);
      for (const id of probes) touched.add(id);
      return brandPid(pid);
    });
    const added = [...touched].flatMap((id) => {
      const known = this.#probes.get(id);
      return known === undefined ? [] : [this.#told(known)];
    });
    const targets = pids.filter((pid) => engine.pids.includes(pid));
    return {
      added,
      targets: targets.map((pid) => describeTarget(pid)),
      processorTimes: processorTimesOf(targets),
    };
  }

  retire(sources: readonly number[]): void {
    this.#engine.retire(sources);
  }

  add(request: WantedProbe): AddReply {
    const additions = this.#additions([request]);
    try {
      this.#engine.add(additions);
      const [reply] = this.#replies(additions);
      ensure(reply !== undefined, 'one request, one reply');
      return reply;
    } catch (error) {
      // All or nothing: where some targets have it already, they lose it again.
      for (const { consumers } of additions) this.#engine.remove(consumers);
      for (const addition of additions) addition.release();
      throw error;
    }
  }

  remove(probe: number): readonly string[] {
    const known = this.#probes.get(probe);
    if (known === undefined) return [];
    this.#probes.delete(probe);
    known.release();
    return this.#engine.remove(known.consumers);
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

  measure(consumers: readonly MeasuredConsumer[]): readonly HitCost[] {
    return this.#engine.measure(consumers);
  }

  stops(): Stops {
    return this.#engine.stops();
  }

  leave(): readonly string[] {
    this.#probes.clear();
    return this.#session?.leave() ?? [];
  }

  release(): readonly string[] {
    return this.#session?.release() ?? [];
  }

  close(): void {
    this.#session?.close();
    this.#session = undefined;
  }

  /** A session that can't begin leaves nothing behind: not in its targets, and not in our process either. */
  abandon(): void {
    try {
      this.leave();
      this.release();
    } finally {
      this.close();
    }
  }

  status(pids: readonly number[] | undefined): readonly ProcessStatus[] {
    return describeProcesses(pids, this.#files);
  }

  clean(pids: readonly number[] | undefined): readonly CleanReport[] {
    return cleanProcesses(pids, this.#files);
  }

  kernelStatus(): readonly KernelStatus[] {
    const tracefs = usableTracefs();
    return tracefs === undefined ? [] : findHoldings(tracefs);
  }

  kernelClean(): readonly KernelCleanReport[] {
    const tracefs = usableTracefs();
    return tracefs === undefined ? [] : cleanHoldings(tracefs);
  }

  explain(definition: string, request: ExplainRequest): Explanation[] {
    return explainProbe(definition, request, this.#files);
  }

  list(file: string, request: ListRequest): FunctionList {
    return listFile(file, request);
  }

  symbolize(pid: number, addresses: readonly bigint[]): readonly (string | undefined)[] {
    const places = addresses.map((each) => address(each));
    return symbolize(brandPid(pid), places, this.#files);
  }

  get #engine(): SessionEngine {
    ensure(this.#session !== undefined, 'the session has begun');
    return this.#session;
  }

  #begin(shape: SessionShape): SessionEngine {
    ensure(this.#session === undefined, 'a tracer serves one session');
    const { engine } = shape;
    this.#session =
      engine === 'kernel'
        ? new KernelEngine(shape, this.#files, this.#registry)
        : new JumpEngine(shape, this.#files, this.#registry);
    return this.#session;
  }

  /** Adds each probe as soon as its file is mapped. */
  #probeWhileStarting(
    start: CommandStart,
    engine: SessionEngine,
    requests: readonly WantedProbe[],
  ): AddReply[] {
    const additions = this.#additions(requests);
    let waiting = additions;
    do {
      waiting = engine.add(waiting);
    } while (waiting.length > 0 && start.advance());
    return this.#replies(additions);
  }

  #additions(requests: readonly WantedProbe[]): ProbeAddition[] {
    const known = { files: this.#files, names: this.#names, registry: this.#registry };
    return requests.map((request) => new ProbeAddition(this.#nextProbe++, request, known));
  }

  /** @throws TraplineError for all probes that can't be at once: whoever names hundreds asks once. */
  #replies(additions: readonly ProbeAddition[]): AddReply[] {
    const refusals: TraplineError[] = [];
    const replies = additions.flatMap((addition) => {
      try {
        return [this.#reply(addition)];
      } catch (error) {
        if (!(error instanceof TraplineError) || error.code !== 'refused') throw error;
        refusals.push(error);
        return [];
      }
    });
    if (refusals.length > 0) throw refusalOfAll(refusals, additions.length);
    return replies;
  }

  #reply(addition: ProbeAddition): AddReply {
    const engine = this.#engine;
    addition.ensureUse(engine.pids);
    this.#probes.set(addition.id, addition);
    return this.#told(addition);
  }

  /** What became of a probe since the last time that it was told. */
  #told(addition: ProbeAddition): AddReply {
    const engine = this.#engine;
    const probe = addition.result;
    engine.note(probe);
    return { probe, sources: engine.newSources(), consumers: addition.takeNewConsumers() };
  }

  #describe(): OpenReply['targets'] {
    return this.#engine.pids.map((pid) => describeTarget(pid));
  }
}
