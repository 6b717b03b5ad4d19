/**
 * The main thread's side of announcements: a target's task has loaded or unloaded a library, and waits. What its process
 * maps now is looked at, probes are added where they are wanted, and the task goes on.
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { Bell } from '../bell/bell.ts';
import type { AnnouncedTasks, Collector } from '../reading/collector.ts';
import type { SourceHandle } from '../protocol.ts';
import type { TracerClient } from '../tracer-client.ts';
import { extendWanted, type Acceptance, type WalkListener } from '../walks/walker.ts';

/** An entry that is being written is complete after so many milliseconds, or its task does not run. */
const PATIENCE = 2;

/** What is told of it. */
type AnswerListener = Pick<WalkListener, 'extending' | 'extended' | 'failed'>;

/** Answers until it is ended. */
export class Answering {
  readonly #client: TracerClient;
  readonly #collector: Collector;
  readonly #accepts: Acceptance;
  readonly #listener: AnswerListener;
  /** Made with the first source in which somebody may announce something. */
  #bell: Bell | undefined;
  #answering: Promise<void> | undefined;
  #isAnswering = false;
  #isAgain = false;
  #hasEnded = false;

  constructor(
    client: TracerClient,
    collector: Collector,
    accepts: Acceptance,
    listener: AnswerListener,
  ) {
    this.#client = client;
    this.#collector = collector;
    this.#accepts = accepts;
    this.#listener = listener;
  }

  /** Answers in these sources, too. */
  watch(sources: readonly SourceHandle[]): void {
    const segments = sources.filter((source) => source.kind === 'segment');
    if (segments.length === 0 || this.#hasEnded) return;
    try {
      this.#bell ??= new Bell(() => this.#ring());
      this.#bell.watch(segments);
    } catch (error) {
      this.#listener.failed(error);
    }
    // What was announced before the bell could know of it.
    this.#ring();
  }

  /** Resolves when nothing here looks at these sources any more. */
  async forget(sources: readonly number[]): Promise<void> {
    await this.#bell?.forget(sources);
  }

  /** Ends it. Resolves when nothing is under way, and no source is looked at any more. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    try {
      await this.#answering;
    } finally {
      await this.#bell?.end();
    }
  }

  #ring(): void {
    this.#isAgain = true;
    if (this.#isAnswering) return;
    this.#isAnswering = true;
    this.#answering = this.#answerAll();
  }

  async #answerAll(): Promise<void> {
    try {
      while (this.#isAgain && !this.#hasEnded) {
        this.#isAgain = false;
        await this.#answerPending();
      }
    } finally {
      // Here, and not when the promise is settled: who rings in between would ring for nobody.
      this.#isAnswering = false;
    }
  }

  async #answerPending(): Promise<void> {
    let announced = this.#collector.announced();
    if (announced.some(({ tasks }) => tasks === undefined)) {
      await sleep(PATIENCE);
      announced = this.#collector.announced();
    }
    if (announced.length === 0) return;
    try {
      await this.#answer(announced);
    } catch (error) {
      this.#listener.failed(error);
    } finally {
      for (const { source, last } of announced) this.#collector.serve(source, last);
    }
  }

  async #answer(announced: readonly AnnouncedTasks[]): Promise<void> {
    const known = announced.map(({ source, tasks }) => ({ source, tasks }));
    const candidates = await this.#client.call('look', known);
    await extendWanted(this.#client, candidates, this.#accepts, this.#listener);
  }
}
