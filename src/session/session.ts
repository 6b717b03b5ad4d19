/** A session: one party using Trapline. The public face of everything else. */

import { setTimeout as sleep } from 'node:timers/promises';

import { ensure, TraplineError } from '../base/errors.ts';
import type { EventBatch } from '../events/batch.ts';
import type { TraceEvent } from '../events/event.ts';
import type { EngineName } from '../probe/engine.ts';
import type { TaskFilter } from '../probe/task-filter.ts';
import type { Collector } from './reading/collector.ts';
import { KnownProbes } from './probes/known-probes.ts';
import { requestOf } from './probes/requested.ts';
import { EventLoopTurns } from './reading/event-loop.ts';
import { LateProbes } from './walks/late-probes.ts';
import type { OpenReply } from './protocol.ts';
import { summaryOf } from './reading/summary.ts';
import type { TargetWatch } from './targets/target-watch.ts';
import type { TracerClient } from './tracer-client.ts';
import type {
  AddedProbe,
  ProbeRequest,
  SessionOptions,
  Stops,
  Summary,
  TargetEnd,
  TargetInfo,
} from './types.ts';
import { listenFor } from './reading/source-listener.ts';
import type { Acceptance } from './walks/walker.ts';
import { wantedOf } from './walks/wanted.ts';

/** How long a reader sleeps when nothing came: from the first, in milliseconds, doubling, to the last. */
const FIRST_PAUSE = 1;
const LONGEST_PAUSE = 95;

/** What a session is made of. */
export interface SessionParts {
  readonly client: TracerClient;
  readonly collector: Collector;
  readonly watch: TargetWatch;
  readonly engine: EngineName;
  /** The task filters of the probes that it begins with. */
  readonly filters: readonly (TaskFilter | undefined)[];
  readonly onTarget: SessionOptions['onTarget'];
  readonly onProblem: SessionOptions['onProblem'];
}

/**
 * Probes in targets, and the events that come of them. Made by {@link attach} and {@link spawn}; whoever
 * made it stops it, or lets `await using` do so. One reader at a time iterates.
 */
export class Session implements AsyncDisposable, AsyncIterable<TraceEvent> {
  /**
   * The targets, in the order in which they came: those that ended too, but not where every process is one, or what
   * they make is followed.
   */
  get targets(): readonly TargetInfo[] {
    return this.#targets;
  }

  /** Whether the targets are held by ptrace, with all that they make, until the session is stopped. */
  readonly isFollowing: boolean;
  /** The command that it started. */
  readonly command: number | undefined;
  /** How long they stood still for the probes that the session began with. */
  readonly firstStops: Stops;
  readonly #client: TracerClient;
  readonly #collector: Collector;
  readonly #watch: TargetWatch;
  readonly #engine: EngineName;
  readonly #targets: TargetInfo[];
  readonly #probes: KnownProbes;
  /** Of the jump engine. */
  readonly #late: LateProbes | undefined;
  readonly #isWalking: boolean;
  #lateFailure: string | undefined;
  /** Requests under way that change what events mean: no poll may see records of theirs before. */
  #changing = 0;
  #stopping: Promise<Summary> | undefined;
  /** What was left when everything was out of the targets. */
  #rest: EventBatch | undefined;
  #isRestDelivered = false;
  #hasLeft = false;
  #endHasFailed = false;

  private constructor(
    { client, collector, watch, engine, filters, onTarget, onProblem }: SessionParts,
    reply: OpenReply,
  ) {
    this.#client = client;
    this.#collector = collector;
    this.#watch = watch;
    this.#engine = engine;
    this.isFollowing = reply.isFollowing;
    this.command = reply.command;
    this.#targets = [...reply.targets];
    this.firstStops = reply.stops;
    this.#probes = new KnownProbes(client, reply.tracer, (probe) => collector.consumerOf(probe));
    for (const [at, added] of reply.added.entries()) {
      collector.add(added);
      this.#probes.add(added.probe, filters[at]);
    }
    client.onFailure((error) => watch.fail(error));
    this.#isWalking = reply.isWalking;
    if (engine !== 'jump') return;
    const listener = listenFor({
      collector,
      watch,
      probes: this.#probes,
      targets: this.#targets,
      onTarget,
      onProblem,
      extending: (work) => this.#extending(work),
      onAbandoned: () => this.#late?.retireSoon(),
      onSources: (sources) => this.#late?.watch(sources),
      failed: (problem) => (this.#lateFailure ??= problem),
    });
    const named = (): number[] => this.#targets.map(({ pid }) => pid);
    const accepts: Acceptance = (id, process) => this.#probes.accepts(id, process);
    const { isFollowing } = this;
    const parts = { client, collector, accepts, listener, isFollowing };
    this.#late = new LateProbes({ ...parts, named: this.#isWalking ? undefined : named });
    this.#late.watch(reply.added.flatMap(({ sources }) => sources));
  }

  /** Not for users: {@link attach} and {@link spawn} call it. */
  static begin(parts: SessionParts, reply: OpenReply): Session {
    // Not by its name: see TraplineError.revive.
    return new this(parts, reply);
  }

  /** The probes that are in now. */
  get probes(): readonly AddedProbe[] {
    return this.#probes.all;
  }

  /**
   * Resolves when the last target has ended by itself. Targets that were attached to also count as ended
   * when the session is stopped; a command that was started does not, unless the session is disposed.
   */
  get ended(): Promise<readonly TargetEnd[]> {
    return this.#watch.ended;
  }

  /**
   * Adds a probe to every target that maps its file.
   * @throws TraplineError as {@link attach}; the probes that are in stay in.
   */
  async add(request: string | ProbeRequest): Promise<AddedProbe> {
    this.#ensureRunning();
    this.#changing++;
    try {
      const asked = requestOf(request);
      const [wanted] = await wantedOf(
        this.#client,
        this.#engine,
        undefined,
        [asked],
        this.#isWalking,
      );
      ensure(wanted !== undefined, 'one request, one answer');
      const reply = await this.#client.call('add', wanted);
      this.#collector.add(reply);
      this.#late?.watch(reply.sources);
      return this.#probes.add(reply.probe, asked.tasks);
    } finally {
      this.#changing--;
    }
  }

  /**
   * Takes a probe out of every target. What it recorded is still delivered, and its counts stay in the
   * summary.
   * @throws TraplineError `refused` when something of it had to stay, saying what.
   */
  async remove(probe: AddedProbe): Promise<void> {
    this.#ensureRunning();
    this.#collector.closing(probe.id);
    const problems = await this.#client.call('remove', probe.id);
    this.#probes.remove(probe.id);
    if (problems.length === 0) return;
    throw new TraplineError({
      code: 'refused',
      message: `${probe.definition} could not be taken out everywhere`,
      hint: problems.join('\n'),
    });
  }

  /**
   * Events in order of time, many at once. A batch is valid until the next one is asked for. Ends when all
   * targets have ended or the session is stopped, with everything that was recorded delivered.
   */
  async *batches(): AsyncGenerator<EventBatch, void, undefined> {
    let pause = FIRST_PAUSE;
    const turns = new EventLoopTurns();
    while (this.#rest === undefined) {
      if (turns.isDue) {
        await turns.take();
        continue; // the session may have been stopped meanwhile
      }
      // Where the end has failed it throws that error: the memory to poll may be gone already. So it does where the
      // tracer's thread has: nobody would ever tell of an end.
      if (this.#watch.hasEnded || this.#watch.hasFailed || this.#endHasFailed) {
        await this.stop();
        continue;
      }
      const batch = this.#changing > 0 ? undefined : this.#collector.poll();
      if (batch !== undefined && batch.count > 0) {
        pause = FIRST_PAUSE;
        yield batch;
      } else {
        await sleep(pause);
        pause = this.#collector.isScarce ? FIRST_PAUSE : Math.min(pause * 2, LONGEST_PAUSE);
      }
    }
    const rest = this.#rest;
    if (this.#isRestDelivered || rest.count === 0) return;
    this.#isRestDelivered = true;
    yield rest;
  }

  /** Events in order of time, one at a time, each owned by the caller. See {@link batches} for many. */
  async *[Symbol.asyncIterator](): AsyncGenerator<TraceEvent, void, undefined> {
    const turns = new EventLoopTurns();
    for await (const batch of this.batches()) {
      // Owned events first: while the caller works on one, the batch may become invalid.
      const events = Array.from(batch, (view) => view.toEvent());
      for (const event of events) {
        yield event;
        if (turns.isDue) await turns.take();
      }
    }
  }

  /**
   * Names addresses in a process, as values of type `symbol` are shown: `malloc+0x10/0x1a2`.
   * @param pid as the events have it
   * @returns one for each; undefined where no function is known there, or the process has ended.
   */
  async symbolize(
    pid: number,
    addresses: readonly bigint[],
  ): Promise<readonly (string | undefined)[]> {
    return this.#client.call('symbolize', pid, addresses);
  }

  /** Counts and costs as they are now. */
  async summary(): Promise<Summary> {
    if (this.#stopping !== undefined) return this.#stopping;
    return this.#summarise([], false);
  }

  /**
   * Takes everything out of the targets. What was recorded until then is still delivered to whoever
   * iterates. A second call waits for the first. The session goes on having its thread, for {@link ended} and
   * {@link symbolize}, until it is disposed: by `await using`, or `await session[Symbol.asyncDispose]()`.
   * @returns the final counts, and what had to stay, if anything.
   */
  stop(): Promise<Summary> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    try {
      await this.stop();
    } finally {
      this.#watch[Symbol.dispose]();
      try {
        await this.#client.call('close');
      } finally {
        await this.#client.end();
      }
    }
  }

  async #stop(): Promise<Summary> {
    try {
      try {
        await this.#late?.end();
      } finally {
        this.#probes[Symbol.dispose]();
      }
      this.#collector.beginEnd();
      const kept = await this.#client.call('leave');
      await this.#watch.sample();
      // A batch that a reader still holds stays valid: this fills the other one.
      this.#rest = this.#collector.flush();
      const stayed = await this.#client.call('release');
      const problems = this.#lateFailure === undefined ? [] : [this.#lateFailure];
      const summary = await this.#summarise([...kept, ...stayed, ...problems], true);
      this.#watch.letGo();
      return summary;
    } catch (error) {
      this.#endHasFailed = true;
      // Nothing stays behind for it; should that fail too, the first error tells more.
      await this.#client.call('release').catch(() => undefined);
      throw error;
    }
  }

  #summarise(kept: readonly string[], isFinal: boolean): Promise<Summary> {
    const parts = { client: this.#client, collector: this.#collector, watch: this.#watch };
    return summaryOf(parts, kept, isFinal);
  }

  async #extending(work: () => Promise<void>): Promise<void> {
    this.#changing++;
    try {
      await work();
    } finally {
      this.#changing--;
    }
  }

  #ensureRunning(): void {
    if (this.#stopping === undefined) return;
    throw new TraplineError({ code: 'usage', message: 'the session is stopped already' });
  }
}
