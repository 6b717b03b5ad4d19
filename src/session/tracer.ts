/** The tracer: owns ptrace, everything in targets, and what is known of files. Runs in its own thread. */

import { address, pid as brandPid } from '../base/brand.ts';
import { ensure } from '../base/errors.ts';
import type { HitCost } from '../probe/engine.ts';
import { held } from '../process/held.ts';
import type { Waker } from '../process/waker.ts';
import { ownTaskId } from '../sys/signals.ts';
import { decodeAt } from '../x64/decode.ts';
import type { MeasuredConsumer } from './reading/cost.ts';
import type { SessionEngine } from './engine.ts';
import { JumpEngine } from './jump-engine.ts';
import { KernelEngine } from './kernel-engine.ts';
import { Inspector } from './reports/inspector.ts';
import { ProbeSet } from './probes/probe-set.ts';
import type { ProbeAddition } from './probes/probing.ts';
import { processorTimesOf } from './targets/processor-time.ts';
import type {
  AddReply,
  AnnouncedIn,
  Candidate,
  EndReply,
  ExtendReply,
  Following,
  Notice,
  OpenReply,
  SessionShape,
  TracerMethods,
  WalkReply,
  WantedProbe,
  WantedProcess,
} from './protocol.ts';
import { describeTarget } from './targets/selection.ts';
import { firstProgram } from './following/first-program.ts';
import { FollowedTargets } from './following/followed.ts';
import { Follower } from './following/follower.ts';
import { abandonCommand, startCommand } from './following/startup.ts';
import { StartedCommand } from './following/started-command.ts';
import { SessionWalks } from './walks/walks.ts';
import type { Stops, TargetSelection } from './types.ts';

const NO_FILTERS: Following = { hasFilters: false, filtersChildren: false };

/** Answers the main thread's requests. One session's, or none for `status`, `clean` and `list`. */
export class Tracer extends Inspector implements TracerMethods {
  readonly #probes = new ProbeSet(this.files);
  readonly #walks = new SessionWalks(this.files);
  #session: SessionEngine | undefined;
  #command: StartedCommand | undefined;
  #follower: Follower | undefined;
  #followed: FollowedTargets | undefined;
  readonly #waker: Waker;
  readonly #notify: (notice: Notice) => void;

  /** @param notify tells the main thread something without being asked */
  constructor(waker: Waker, notify: (notice: Notice) => void) {
    super();
    this.#waker = waker;
    this.#notify = notify;
  }

  /** Whether tasks are held: then this thread waits for them, in {@link attend}. */
  get isHolding(): boolean {
    return this.#follower?.isHolding === true;
  }

  /** Whether no session is here, or none any more. */
  get hasEnded(): boolean {
    return this.#session === undefined && this.#follower === undefined;
  }

  /** Waits until a task that is held has something to tell, or the thread is woken. */
  attend(): void {
    this.#follower?.attend();
  }

  /** Nothing is left to do until the next request. */
  endTurn(): void {
    if (this.#followed !== undefined) this.#follower?.endTurn();
  }

  prepare(): void {
    decodeAt(new Uint8Array([0x90]), 0, address(0n));
  }

  attach(
    selection: TargetSelection,
    shape: SessionShape,
    probes: readonly WantedProbe[],
    following: Following | undefined,
  ): OpenReply {
    const engine = this.#begin(shape);
    try {
      engine.attach(selection, probes);
      const isFollowing = following !== undefined;
      if (isFollowing) this.#follow(following, true).seize(engine.pids);
      const additions = this.#probes.make(probes);
      const processorTimes = processorTimesOf(engine.pids);
      const lacking = engine.add(additions);
      for (const addition of lacking) engine.expect(addition);
      const added = this.#probes.keep(additions, engine);
      const targets = engine.pids.map(describeTarget);
      const { isEndless, isWalking } = engine;
      const stops = engine.stops();
      const is = { tracer: ownTaskId(), isEndless, isWalking, isFollowing };
      return { processorTimes, command: undefined, ...is, targets, added, stops };
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
    following: Following | undefined,
  ): OpenReply {
    const engine = this.#begin(shape);
    const isFollowing = following !== undefined;
    const process = startCommand(command, where, isFollowing);
    const { pid } = process;
    try {
      const additions = this.#probes.make(probes);
      const follower = this.#follow(following ?? NO_FILTERS, isFollowing);
      if (following?.hasFilters === true) {
        for (const addition of additions) engine.expect(addition);
      } else {
        engine.begin(pid);
        follower.lead(process, firstProgram(pid, additions, engine));
      }
      const processorTimes = processorTimesOf([pid]);
      const added = this.#probes.keep(additions, engine);
      this.#command = new StartedCommand(pid);
      const targets = engine.pids.map(describeTarget);
      const stops = engine.stops();
      if (following?.hasFilters === true) follower.takeProgram(process);
      else if (isFollowing) held.go(process);
      else held.letGo(process);
      const is = { tracer: ownTaskId(), isEndless: false, isWalking: false, isFollowing };
      return { processorTimes, command: pid, ...is, targets, added, stops };
    } catch (error) {
      abandonCommand(process);
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
    const reply = this.#walks.walk(pids, this.#engine, this.#probes.all.values());
    for (const { pid, source } of reply.ended) this.#probes.forget(brandPid(pid), source);
    return reply;
  }

  look(announced: readonly AnnouncedIn[]): readonly Candidate[] {
    const loaded = this.#follower?.hear(announced) ?? announced;
    return this.#walks.look(loaded, this.#engine, this.#probes.all.values());
  }

  settle(): boolean {
    return this.#follower?.settle() === true;
  }

  extend(wanted: readonly WantedProcess[]): ExtendReply {
    const engine = this.#engine;
    const before = new Set(engine.pids);
    const touched = new Set<number>();
    for (const { pid, probes } of wanted) {
      const known = probes.flatMap((id) => this.#probes.all.get(id) ?? []);
      engine.extend(brandPid(pid), known);
      for (const id of probes) touched.add(id);
    }
    const pids = wanted.map(({ pid }) => brandPid(pid)).filter((pid) => !before.has(pid));
    return this.#probes.extended(pids, touched, engine);
  }

  decide(pids: readonly number[], wanted: readonly WantedProcess[]): void {
    const problems: unknown[] = [];
    for (const pid of pids) {
      const probes = wanted.find((one) => one.pid === pid)?.probes ?? [];
      try {
        this.#follower?.decide(brandPid(pid), probes);
      } catch (error) {
        // The others wait for their answers, too.
        problems.push(error);
      }
    }
    if (problems.length > 0) throw problems[0];
  }

  retire(sources: readonly number[]): void {
    this.#engine.retire(sources);
  }

  add(request: WantedProbe): AddReply {
    const additions = this.#probes.make([request]);
    const engine = this.#engine;
    try {
      // Who is followed may be one of many, and may start up now.
      const lacking = engine.add(additions, this.#followed === undefined ? undefined : true);
      this.#followed?.added(additions);
      for (const addition of lacking) engine.expect(addition);
      if (this.#followed !== undefined) this.#offer(additions);
      const [reply] = this.#probes.keep(additions, engine);
      ensure(reply !== undefined, 'one request, one reply');
      return reply;
    } catch (error) {
      // All or nothing: where some targets have it already, they lose it again.
      for (const addition of additions) {
        engine.remove(addition.consumers, this.#probes.all.size === 0);
        addition.release();
      }
      throw error;
    }
  }

  remove(probe: number): readonly string[] {
    const known = this.#probes.take(probe);
    if (known === undefined) return [];
    return this.#engine.remove(known.consumers, this.#probes.all.size === 0);
  }

  pollEnd(): EndReply | undefined {
    return this.#command?.poll();
  }

  measure(consumers: readonly MeasuredConsumer[]): readonly HitCost[] {
    return this.#engine.measure(consumers);
  }

  stops(): Stops {
    return this.#engine.stops();
  }

  leave(): readonly string[] {
    this.#follower?.beginLeaving();
    this.#probes.clear();
    try {
      return this.#session?.leave() ?? [];
    } finally {
      this.#follower?.leave();
    }
  }

  release(): readonly string[] {
    return this.#session?.release() ?? [];
  }

  close(): void {
    this.#session?.close();
    this.#session = undefined;
    // Who could not be let go is when the thread ends: then it serves no other session.
    this.#follower = undefined;
    this.#followed = undefined;
    this.#waker.end();
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

  get #engine(): SessionEngine {
    ensure(this.#session !== undefined, 'the session has begun');
    return this.#session;
  }

  #begin(shape: SessionShape): SessionEngine {
    ensure(this.#session === undefined, 'a tracer serves one session');
    const Engine = shape.engine === 'kernel' ? KernelEngine : JumpEngine;
    return (this.#session = new Engine(shape, this.files, this.#probes.registry));
  }

  /** Held processes that had no probe so far may get one that is new. */
  #offer(additions: readonly ProbeAddition[]): void {
    const pids = this.#follower?.untouched() ?? [];
    const found = pids.filter((pid) => this.#followed?.offer(pid, additions) === true);
    if (found.length === 0) return;
    const reply = this.#probes.extended(found, new Set(), this.#engine);
    this.#notify({ kind: 'extended', reply });
  }

  #follow(following: Following, isFollowing: boolean): Follower {
    const targets = new FollowedTargets({
      engine: this.#engine,
      walks: this.#walks,
      probes: this.#probes,
      following,
      notify: this.#notify,
    });
    if (isFollowing) {
      this.#waker.begin();
      this.#engine.announced?.follow();
      this.#followed = targets;
    }
    this.#follower = new Follower(
      targets,
      ({ process: { pid }, status, nanoseconds }) => {
        if (pid === this.#command?.pid) this.#command.noteEnd(status, nanoseconds);
      },
      () => this.#waker.isEnding,
    );
    return this.#follower;
  }
}
