/**
 * The main thread's side of walks: asks the tracer's again and again what has changed among the processes, asks task
 * filters, and has probes added to those that pass.
 */

import { debugLog } from '../../base/debug.ts';
import type { ProcessFacts } from '../../probe/task-filter.ts';
import { ProcessEvents } from '../../sys/process-events.ts';
import type { Candidate, ExtendReply, SourceOf, WantedProcess } from '../protocol.ts';
import type { TracerClient } from '../tracer-client.ts';

const log = debugLog('session');

/** Between two walks over all processes, in milliseconds, at least. */
const INTERVAL = 250;
/** Between two looks at the targets of a session that has named them: what they map without telling is found so. */
const NAMED_INTERVAL = 500;
/** They may take one part in so many of the tracer's time. */
const SHARE = 25;
/** Between two looks at what the kernel has told of them. */
const EVENT_INTERVAL = 20;
/** How often a process is looked at that has begun something. */
const LOOKS = 6;
const NOTHING = { forked: [], executed: [], lost: false };

/** Whether a process is to get a probe, by the probe's number. */
export type Acceptance = (probe: number, process: ProcessFacts) => boolean;

/** What a walker tells of. */
export interface WalkListener {
  /** Runs what adds probes, and tells of them: no event may be read meanwhile. */
  extending(work: () => Promise<void>): Promise<void>;
  extended(reply: ExtendReply): void;
  /** The process of a source has ended, or runs another program now. */
  ended(source: SourceOf): void;
  /** Nobody writes to a source any more. */
  abandoned(source: number): void;
  /** Told of the first error, which ends the walks: what a task filter or a listener throws, or the tracer. */
  failed(error: unknown): void;
}

/** Walks until it is ended. */
export class Walker {
  readonly #client: TracerClient;
  readonly #accepts: Acceptance;
  readonly #listener: WalkListener;
  readonly #named: (() => readonly number[]) | undefined;
  readonly #events: ProcessEvents | undefined;
  /** Processes that have begun something, and how often they are looked at still: what they load comes by and by. */
  readonly #fresh = new Map<number, number>();
  #nextWalk: number = performance.now() + INTERVAL;
  #timer: NodeJS.Timeout | undefined;
  #walking: Promise<void> | undefined;
  #hasEnded = false;

  /** @param named the processes to look at; every one if undefined */
  constructor(
    client: TracerClient,
    accepts: Acceptance,
    listener: WalkListener,
    named?: () => readonly number[],
  ) {
    this.#client = client;
    this.#accepts = accepts;
    this.#listener = listener;
    this.#named = named;
    if (named === undefined) {
      const events = ProcessEvents.open();
      if (events instanceof ProcessEvents) this.#events = events;
      else log('processes are found by walks alone: %s', events.reason);
    }
    this.#schedule();
  }

  /** Ends it. Resolves when no walk is under way any more. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    await this.#walking;
    this.#events?.[Symbol.dispose]();
  }

  #schedule(): void {
    if (this.#hasEnded) return;
    const named = this.#named;
    const everyInterval = this.#events === undefined ? INTERVAL : EVENT_INTERVAL;
    const interval = named === undefined ? everyInterval : this.#nextWalk - performance.now();
    this.#timer = setTimeout(() => {
      const look = named === undefined ? this.#look() : this.#lookAt(named());
      this.#walking = look.then(
        () => this.#schedule(),
        (error: unknown) => this.#listener.failed(error),
      );
    }, interval);
    // Who has named processes may forget the session: their ends are watched for elsewhere.
    if (named !== undefined) this.#timer.unref();
  }

  /** Looks at those that were named. */
  async #lookAt(pids: readonly number[]): Promise<void> {
    const began = performance.now();
    await this.#walk(pids);
    const ended = performance.now();
    this.#nextWalk = ended + Math.max(NAMED_INTERVAL, (ended - began) * SHARE);
  }

  /** Looks at those that have begun something; at all of them only now and then. */
  async #look(): Promise<void> {
    const { forked, executed, lost } = this.#events?.poll() ?? NOTHING;
    for (const pid of [...forked, ...executed]) this.#fresh.set(pid, LOOKS);
    const now = performance.now();
    if (lost || now >= this.#nextWalk) {
      await this.#walk(undefined);
      const ended = performance.now();
      this.#nextWalk = ended + Math.max(INTERVAL, (ended - now) * SHARE);
    } else if (this.#fresh.size > 0) {
      await this.#walk([...this.#fresh.keys()]);
    }
    for (const [pid, left] of this.#fresh) {
      if (left > 1) this.#fresh.set(pid, left - 1);
      else this.#fresh.delete(pid);
    }
  }

  async #walk(pids: readonly number[] | undefined): Promise<void> {
    const listener = this.#listener;
    const { candidates, ended, abandoned } = await this.#client.call('walk', pids);
    for (const source of ended) listener.ended(source);
    for (const source of abandoned) listener.abandoned(source);
    if (!this.#hasEnded) await extendWanted(this.#client, candidates, this.#accepts, listener);
  }
}

/** Has probes added to the candidates that pass their task filters. */
export async function extendWanted(
  client: TracerClient,
  candidates: readonly Candidate[],
  accepts: Acceptance,
  listener: Pick<WalkListener, 'extending' | 'extended'>,
): Promise<void> {
  const wanted = chooseProcesses(candidates, accepts);
  if (wanted.length === 0) return;
  await listener.extending(async () => listener.extended(await client.call('extend', wanted)));
}

/** Of each candidate the probes that it is to get; none that is to get none. */
export function chooseProcesses(
  candidates: readonly Candidate[],
  accepts: Acceptance,
): WantedProcess[] {
  return candidates.flatMap(({ process, probes }) => {
    const wanted = probes.filter((probe) => accepts(probe, process));
    return wanted.length > 0 ? [{ pid: process.pid, probes: wanted }] : [];
  });
}
