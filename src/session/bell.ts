/** Tells the main thread that a target has announced a task, whatever that thread waits for. */

import { Worker } from 'node:worker_threads';

import { address } from '../base/brand.ts';
import { wakeAll } from '../sys/futex.ts';
import { mapMemory, type Mapping } from '../sys/mapping.ts';
import type { SegmentHandle } from './protocol.ts';

/** What the thread is given. */
export interface BellWords {
  /** The address of a word that we change and wake when there is something to be read. */
  readonly control: bigint;
}

/** What is asked of it. */
export interface BellRequest {
  readonly watch?: readonly { readonly source: number; readonly segment: bigint }[];
  /** Sources whose memory is about to be unmapped; answered when it is not looked at any more. */
  readonly forget?: readonly number[];
  readonly isEnd?: true;
}

interface BellReply {
  readonly ready?: true;
  readonly rung?: true;
  readonly forgotten?: true;
}

/** Of the thread's heap, in MB: it holds next to nothing. */
const MEMORY = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32 };
/** Until the thread is there we look ourselves, so often, in milliseconds. */
const FIRST_INTERVAL = 5;

/** A thread that waits for announcements. {@link Bell.end} it before any source's memory is unmapped. */
export class Bell {
  readonly #worker: Worker;
  readonly #control: Mapping;
  readonly #word: Int32Array;
  readonly #forgetting: (() => void)[] = [];
  #starting: NodeJS.Timeout | undefined;
  #hasEnded = false;

  /**
   * @param rung called whenever there may be announcements
   * @param failed told of an error of the thread, behind which nobody rings any more
   */
  constructor(rung: () => void, failed: (error: unknown) => void) {
    this.#control = mapMemory(4096);
    this.#word = new Int32Array(this.#control.view, 0, 1);
    const words: BellWords = { control: this.#control.address };
    this.#worker = new Worker(new URL('./bell-worker.js', import.meta.url), {
      execArgv: [],
      resourceLimits: MEMORY,
      workerData: words,
    });
    this.#worker.unref();
    this.#worker.on('message', (reply: BellReply) => {
      if (reply.ready === true) clearInterval(this.#starting);
      if (reply.forgotten === true) this.#forgetting.shift()?.();
      else rung();
    });
    this.#worker.on('error', (error) => failed(error));
    this.#worker.on('exit', () => this.#ended());
    this.#starting = setInterval(rung, FIRST_INTERVAL);
    this.#starting.unref();
    if (bells.size === 0) process.on('exit', endAll);
    bells.add(this);
  }

  /** Rings for these sources, too. */
  watch(handles: readonly SegmentHandle[]): void {
    if (handles.length === 0) return;
    const watch = handles.map(({ source, address: segment }) => ({ source, segment }));
    this.#send({ watch });
  }

  /** Resolves when these sources' memory is not looked at any more. */
  async forget(sources: readonly number[]): Promise<void> {
    if (this.#hasEnded) return;
    const forgotten = new Promise<void>((resolve) => this.#forgetting.push(resolve));
    this.#send({ forget: sources });
    await forgotten;
  }

  /** Ends the thread. Resolves when it looks at nothing any more. */
  async end(): Promise<void> {
    if (this.#hasEnded) return;
    const ended = new Promise<void>((resolve) => this.#worker.once('exit', () => resolve()));
    // Whoever waits for this has nothing else, perhaps, that keeps the program alive.
    this.#worker.ref();
    this.beginEnd();
    await ended;
  }

  /** Has the thread end as soon as it can. */
  beginEnd(): void {
    this.#send({ isEnd: true });
  }

  #send(request: BellRequest): void {
    if (this.#hasEnded) return;
    this.#worker.postMessage(request);
    Atomics.add(this.#word, 0, 1);
    wakeAll(address(this.#control.address));
  }

  #ended(): void {
    this.#hasEnded = true;
    clearInterval(this.#starting);
    bells.delete(this);
    if (bells.size === 0) process.off('exit', endAll);
    for (const resolve of this.#forgetting) resolve();
    this.#control[Symbol.dispose]();
  }
}

/** Those that hang: a thread would keep the process from exiting for as long as it waits. */
const bells = new Set<Bell>();

function endAll(): void {
  for (const bell of bells) bell.beginEnd();
}
