/** One target of a session under the jump engine: a process, and the children that inherit its probes. */

import { randomBytes } from 'node:crypto';

import type { Address, Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import type { EngineTarget, FailedConsumer, StopAccount } from '../../probe/engine.ts';
import { type ProgramRow, type SessionRow, type SiteRow } from '../../process/control-rows.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { pause as pauseHolding } from '../../process/hold.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { applyChange } from './apply.ts';
import { refuseAnnouncing } from './announcing.ts';
import { isRequestThere } from './gone.ts';
import { restoreMoved } from './moved.ts';
import type { FailedSite } from './obstacles.ts';
import type { ReadMemory } from './block.ts';
import type { StubFeatures } from './features.ts';
import { findHolders, inEachSpace } from './each-space.ts';
import { leaveAll, removeAll } from './leaving.ts';
import { ATTEMPTS, depart, FIRST_PAUSE, nextPause, type DepartureResult } from './depart.ts';
import type { ConsumerRequest, PreparedChange } from './prepare.ts';
import { SegmentDraft, type SessionMemory } from './session-memory.ts';
import { refuseShadowStacks } from './shadow-stack.ts';
import { mapsIfReadable, MemoryReader } from './spaces.ts';
import { stageChange, stillFits, type StagedChange, type StagingSession } from './staging.ts';
import type { TargetOptions } from './target-options.ts';
import { readThreadLayout } from './thread-layout.ts';
import { releaseLeft } from './withdraw.ts';

const log = debugLog('jump');

/** So often a stop is repeated for a task that stands in a place, before it is taken in another way. */
const PATIENT_ATTEMPTS = 6;

/** A place that was asked for and not probed. */
export type FailedRequest = FailedConsumer<ConsumerRequest>;

/** A stub and the place that jumps to it. */
export interface StubPlace {
  readonly site: Address;
  readonly stub: Address;
  readonly bytes: number;
}

/** A target while a session has it. Used by the tracer's thread only; the session owns it. */
export class JumpTarget implements EngineTarget<ConsumerRequest> {
  readonly pid: Pid;
  readonly stops: StopAccount = { stops: 0, stoppedNanoseconds: 0n, longestNanoseconds: 0n };
  readonly #options: TargetOptions;
  readonly #id = BigInt(`0x${randomBytes(8).toString('hex')}`);
  readonly #stubs: StubPlace[] = [];
  readonly #sites = new WeakMap<ConsumerRequest, SiteRow>();
  /** Consumers that are out, while a task may still be in their programs: see {@link remove}. */
  #lingering: ReadonlySet<number> = new Set();
  #memory: SessionMemory | undefined;
  /** What {@link #memory} is made from; made before the first stop. */
  #draft: SegmentDraft | undefined;
  #threadPointer: StubFeatures['threadPointer'] | undefined;

  constructor(pid: Pid, options: TargetOptions) {
    this.pid = pid;
    this.#options = options;
  }

  /** Our side of the target's memory; undefined before the first probe. */
  get memory(): SessionMemory | undefined {
    return this.#memory;
  }

  /**
   * Adds consumers, all in one stop, to the target and its children.
   * @returns those that could not be added, with the reason.
   * @throws TraplineError when nothing could be done at all.
   */
  add(requests: readonly ConsumerRequest[]): FailedRequest[] {
    const isNew = this.#memory === undefined;
    const { stops } = this.stops;
    const failures = this.#addTo(this.pid, requests);
    // What comes in one stop, and the first, a child has whole or not at all.
    if (isNew && this.stops.stops === stops + 1) return failures;
    const failed = new Set(failures.map(({ request }) => request));
    const added = requests.filter((request) => !failed.has(request));
    inEachSpace([this], (_, pid) => {
      if (pid === this.pid) return;
      const maps = mapsIfReadable(pid);
      const there = added.filter((request) => isRequestThere(maps, request));
      failures.push(...this.#addTo(pid, there));
    });
    return failures;
  }

  /** As {@link add}, to one address space alone. A consumer that is there already stays as it is. */
  addIn(space: Pid, requests: readonly ConsumerRequest[]): FailedRequest[] {
    return this.#addTo(space, requests);
  }

  /** Takes consumers out, by their indices, of the target and its children. */
  remove(consumers: ReadonlySet<number>): string[] {
    return removeAll(new Map([[this, consumers]]));
  }

  /** See {@link leaveAll}. */
  leave(): string[] {
    return leaveAll([this]);
  }

  /** Takes consumers out of one process, and those that had to stay there before. @returns what had to stay */
  removeFrom(pid: Pid, consumers: ReadonlySet<number>): DepartureResult {
    const leaving = new Set([...consumers, ...this.#lingering]);
    return this.#withdraw(pid, ({ consumer }) => leaving.has(consumer), false);
  }

  /** What is taken out next, too: a task was in these consumers' programs somewhere; or nothing. */
  noteRemoved(consumers: ReadonlySet<number>, isQuiet: boolean): void {
    this.#lingering = isQuiet ? new Set() : new Set([...consumers, ...this.#lingering]);
  }

  /** Everything of the session is out, or nobody reads it any more. */
  endMemory(): void {
    this.#memory?.end();
  }

  /** Takes all of the session, or `only` these, out of one process. @returns what had to stay: all, where it can't be stopped now. */
  leaveSpace(pid: Pid, only?: ReadonlySet<number>): readonly string[] {
    try {
      const which = ({ consumer }: ProgramRow): boolean => only?.has(consumer) !== false;
      return this.#withdraw(pid, which, only === undefined).problems;
    } catch (error) {
      if (!(error instanceof TraplineError) || error.code === 'no-process') throw error;
      return [
        `probes in process ${pid}, which do nothing any more: ${error.message}; ` +
          `\`trapline clean -p ${pid}\` takes them out`,
      ];
    }
  }

  /** Nothing: what was read lies in memory that {@link Symbol.dispose} unmaps. */
  release(): string[] {
    return [];
  }

  /** The processes that have inherited our probes: those that map the segment. */
  children(): Pid[] {
    return this.#spaces().filter((pid) => pid !== this.pid);
  }

  /** The site that a consumer was added to; undefined where it was not. */
  siteOf(request: ConsumerRequest): SiteRow | undefined {
    return this.#sites.get(request);
  }

  /** Where each stub of ours lies, for profilers. */
  stubs(): readonly StubPlace[] {
    return this.#stubs;
  }

  #noteStubs(change: PreparedChange, failed: readonly FailedSite[]): void {
    for (const { row } of change.newSites) {
      if (failed.some(({ site }) => site.row.index === row.index)) continue;
      this.#stubs.push({ site: row.address, stub: row.stub, bytes: row.stubBytes });
    }
  }

  /** Looks for the thread ids again: a command that starts up has its C library only later. */
  learnThreads(): void {
    this.#stopped(this.pid, (stopped) => this.#readThreads(stopped, stopped.maps()));
  }

  [Symbol.dispose](): void {
    this.#draft?.[Symbol.dispose]();
    this.#memory?.[Symbol.dispose]();
    this.#memory = undefined;
  }

  #spaces(): readonly Pid[] {
    return findHolders([this]).get(this) ?? [];
  }

  /** Adds consumers to one address space, trying again while a task is in the way. */
  #addTo(pid: Pid, requests: readonly ConsumerRequest[]): FailedRequest[] {
    const failures: FailedRequest[] = [];
    let left = requests;
    let pause = FIRST_PAUSE;
    for (let attempt = 1; left.length > 0; attempt++) {
      const again: ConsumerRequest[] = [];
      const { failed, refused } = this.#tryAdd(pid, left, attempt > PATIENT_ATTEMPTS);
      failures.push(...refused);
      for (const { site, kind, reason } of failed) {
        const same = left.filter((request) => request.address === site.row.address);
        if (kind === 'busy' && attempt < ATTEMPTS) again.push(...same);
        else failures.push(...same.map((request) => ({ request, reason })));
      }
      left = again;
      if (left.length > 0) pauseHolding(pause);
      pause = nextPause(pause);
    }
    return failures;
  }

  #tryAdd(
    pid: Pid,
    asked: readonly ConsumerRequest[],
    avoidsInside: boolean,
  ): { readonly failed: readonly FailedSite[]; readonly refused: readonly FailedRequest[] } {
    using reader = new MemoryReader(pid);
    let staged = this.#stage(pid, mapsIfReadable(pid), reader.read, asked, avoidsInside);
    return this.#stopped(pid, (stopped) => {
      const maps = stopped.maps();
      this.#memory?.ensureIn(pid, maps);
      const barred = refuseAnnouncing(stopped, asked);
      const requests = asked.filter((one) => !barred.some(({ request }) => request === one));
      if (requests.length === 0) return { failed: [], refused: barred };
      const guess = this.#threadPointer;
      if (this.#memory === undefined) {
        refuseShadowStacks(stopped);
        this.#readThreads(stopped, maps);
      }
      const isSame = barred.length === 0 && guess === this.#threadPointer;
      if (!isSame || !stillFits(stopped, maps, staged, requests)) {
        log('process %d changed since its probes were prepared', pid);
        staged = this.#stage(pid, maps, stopped.read.bind(stopped), requests, avoidsInside);
      }
      staged.block.ensureSound();
      this.#mapWhatIsMissing(stopped, maps, staged);
      const space = { stopped, maps, original: this.#options.files.original(pid, maps) };
      restoreMoved(space, staged.block);
      const failed = applyChange(stopped, maps, staged.block, staged.change);
      releaseLeft(space, staged.block);
      for (const [request, site] of staged.change.sites) {
        const isOut = failed.some((one) => one.site.row === site);
        if (!isOut && !this.#sites.has(request)) this.#sites.set(request, site);
      }
      if (pid === this.pid) this.#noteStubs(staged.change, failed);
      return { failed, refused: [...barred, ...staged.change.refused] };
    });
  }

  #mapWhatIsMissing(
    stopped: StoppedProcess,
    maps: readonly MemoryMapping[],
    { block, newBlock, injections, blobs, takeMemory }: StagedChange,
  ): void {
    if (blobs === undefined) return;
    const place = blobs.choose(stopped, maps);
    for (const injection of injections) {
      injection.run(stopped, place);
      if (injection === injections[0] && takeMemory !== undefined) {
        this.#memory = takeMemory();
        if (this.tidOffset !== undefined) this.#memory.setTidOffset(this.tidOffset);
      }
    }
    block.address ??= newBlock;
  }

  #stage(
    pid: Pid,
    maps: readonly MemoryMapping[],
    read: ReadMemory,
    requests: readonly ConsumerRequest[],
    avoidsInside: boolean,
  ): StagedChange {
    const { shape, tracer, features, files, liveness } = this.#options;
    this.#draft ??= new SegmentDraft(shape);
    this.#threadPointer ??= files.tidOffsets(pid, maps).length > 0 ? 'memory' : 'register';
    const session: StagingSession = {
      id: this.#id,
      tracer,
      shape,
      places: this.#memory?.places,
      features: { ...features, threadPointer: this.#threadPointer },
      files,
      draft: this.#draft,
      liveness,
      avoidsInside: () => avoidsInside,
    };
    return stageChange(pid, maps, read, session, requests);
  }

  /** What the target's threads allow, verified; decided at the first probe, and again after a start. */
  tidOffset: number | undefined;

  #readThreads(stopped: StoppedProcess, maps: readonly MemoryMapping[]): void {
    const layout = readThreadLayout(stopped, this.#options.files.tidOffsets(stopped.pid, maps));
    this.#threadPointer = layout === undefined ? 'register' : 'memory';
    this.tidOffset = layout?.tidOffset;
    if (layout !== undefined) this.#memory?.setTidOffset(layout.tidOffset);
  }

  #withdraw(pid: Pid, which: (program: ProgramRow) => boolean, leaving: boolean): DepartureResult {
    const { files } = this.#options;
    const session = (row: SessionRow): boolean => row.id === this.#id;
    const stopped = <T>(action: (stopped: StoppedProcess) => T): T => this.#stopped(pid, action);
    return depart({ pid, files, session, which, leaving, stopped });
  }

  #stopped<T>(pid: Pid, action: (stopped: StoppedProcess) => T): T {
    const stopped = this.#options.stop(pid);
    try {
      return action(stopped);
    } finally {
      stopped[Symbol.dispose]();
      const nanoseconds = stopped.stoppedNanoseconds;
      this.stops.stops++;
      this.stops.stoppedNanoseconds += nanoseconds;
      if (nanoseconds > this.stops.longestNanoseconds) this.stops.longestNanoseconds = nanoseconds;
    }
  }

  /** A process may end at any moment; what was in it is gone with it. */
}
