/** Watches a session's targets: whether they live, what processor time they used, whose tasks ended. */

import { pid as brandPid } from '../../base/brand.ts';
import { isRunning } from '../../process/tasks.ts';
import { cpuNanoseconds } from './processor-time.ts';
import type { OpenReply } from '../protocol.ts';
import type { TracerClient } from '../tracer-client.ts';
import type { TargetEnd } from '../types.ts';

/** Between two looks at a command, whose end somebody waits for, in milliseconds. */
const COMMAND_INTERVAL = 50;
/** Between two looks at processes that we only attached to. */
const INTERVAL = 250;
/** Between two searches for dead tasks, and two readings of processor time, in milliseconds. */
const SEARCH_INTERVAL = 250;

interface Watched {
  readonly pid: number;
  /** Processor time at the beginning, and the last that was seen. */
  readonly first: number;
  last: number;
  end: TargetEnd | undefined;
}

/** Polls; disposing it ends that. */
export class TargetWatch implements Disposable {
  readonly ended: Promise<readonly TargetEnd[]>;
  #targets: Watched[];
  /** Processor time of those that were forgotten. */
  #past = 0;
  /** Those that the session began with, but where every process is one. */
  readonly #named: ReadonlySet<number>;
  /** The command that the session started, if it did. */
  readonly #command: number | undefined;
  /** Whether processes are held that are not watched here. */
  #isFollowing: boolean;
  readonly #isEndless: boolean;
  readonly #client: TracerClient;
  readonly #onEnd: (pid: number) => void;
  readonly #onSearch: () => void;
  readonly #timer: NodeJS.Timeout;
  #resolve: (ends: readonly TargetEnd[]) => void = () => {};
  #reject: (error: unknown) => void = () => {};
  #hasFailed = false;
  #searched = 0;
  #looking: Promise<void> | undefined;

  constructor(
    {
      processorTimes,
      command,
      isEndless,
      isFollowing,
    }: Pick<OpenReply, 'processorTimes' | 'command' | 'isEndless' | 'isFollowing'>,
    client: TracerClient,
    onEnd: (pid: number) => void,
    onSearch: () => void,
  ) {
    this.#targets = processorTimes.map(({ pid, nanoseconds }) => {
      return { pid, first: nanoseconds, last: nanoseconds, end: undefined };
    });
    this.#named = new Set(isEndless ? [] : processorTimes.map(({ pid }) => pid));
    this.#command = command;
    this.#isFollowing = isFollowing;
    this.#isEndless = isEndless;
    this.#client = client;
    this.#onEnd = onEnd;
    this.#onSearch = onSearch;
    this.ended = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Who does not wait for the end is told by what else is asked of the session.
    this.ended.catch(() => undefined);
    // Where processes are held, the tracer tells that they have ended.
    const isPolled = command !== undefined && !isFollowing;
    this.#timer = setInterval(() => this.#lookSoon(), isPolled ? COMMAND_INTERVAL : INTERVAL);
  }

  #lookSoon(): void {
    this.#looking ??= this.#look()
      .catch((error: unknown) => this.fail(error))
      .finally(() => {
        this.#looking = undefined;
      });
  }

  /** Watches further processes. */
  add(processorTimes: OpenReply['processorTimes']): void {
    for (const { pid, nanoseconds } of processorTimes) {
      if (this.#targets.some((target) => target.pid === pid && target.end === undefined)) continue;
      this.#targets.push({ pid, first: nanoseconds, last: nanoseconds, end: undefined });
    }
  }

  /** No process is held any more. */
  noteAlone(): void {
    this.#isFollowing = false;
    // A look that is under way has perhaps passed somebody by: the next one comes soon enough.
    this.#lookSoon();
  }

  /** A process is no target any more; what it used stays counted. The end of one that was named is still to be told. */
  forget(pid: number): void {
    if (this.#named.has(pid)) return;
    for (const target of this.#targets) {
      if (target.pid !== pid) continue;
      target.last = Math.max(target.last, cpuNanoseconds(pid));
      this.#past += target.last - target.first;
    }
    this.#targets = this.#targets.filter((target) => target.pid !== pid);
  }

  /** The end can't be told any more: {@link ended} is rejected. */
  fail(error: unknown): void {
    this.#hasFailed = true;
    clearInterval(this.#timer);
    this.#reject(error);
  }

  /** Whether the end can't be told any more. */
  get hasFailed(): boolean {
    return this.#hasFailed;
  }

  /** Whether all targets have ended; never where every process is one. */
  get hasEnded(): boolean {
    if (this.#isEndless || this.#isFollowing) return false;
    return this.#targets.every(({ end }) => end !== undefined);
  }

  /** Processor time that the targets used since the beginning, in nanoseconds. */
  get cpuNanoseconds(): number {
    return this.#targets.reduce((sum, { first, last }) => sum + last - first, this.#past);
  }

  /**
   * The session lets go of its targets. Those that it attached to count as ended; a command that it
   * started is watched to its end, whose status only we can be told.
   */
  letGo(): void {
    this.#isFollowing = false;
    for (const { pid } of this.#targets) this.forget(pid);
    if (this.#command === undefined || this.hasEnded) this[Symbol.dispose]();
  }

  /** Looks once more, now. */
  async sample(): Promise<void> {
    await this.#looking;
    this.#searched = 0;
    await this.#look();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#resolve(this.#ends());
  }

  /** Cheap as a rule: one read a target. Nothing is asked of the tracer before there is something to tell. */
  async #look(): Promise<void> {
    const isThorough = performance.now() - this.#searched >= SEARCH_INTERVAL;
    if (isThorough) this.#searched = performance.now();
    for (const target of this.#targets) {
      if (target.end !== undefined) continue;
      const runs = isRunning(brandPid(target.pid));
      // A zombie still has its time.
      if (isThorough || !runs) target.last = Math.max(target.last, cpuNanoseconds(target.pid));
      if (!runs) await this.#noteEnd(target);
    }
    if (isThorough) this.#onSearch();
    if (this.hasEnded) this[Symbol.dispose]();
  }

  async #noteEnd(target: Watched): Promise<void> {
    const { pid } = target;
    if (pid !== this.#command) {
      this.#note(target, { pid });
      return;
    }
    const command = await this.#client.call('pollEnd');
    if (command === undefined) return;
    target.last = Math.max(target.last, command.cpuNanoseconds);
    this.#note(target, { pid, status: { code: command.code, signal: command.signal } });
  }

  #note(target: Watched, end: TargetEnd): void {
    target.end = end;
    this.#onEnd(target.pid);
  }

  #ends(): TargetEnd[] {
    return this.#targets.flatMap(({ end }) => (end === undefined ? [] : [end]));
  }
}
