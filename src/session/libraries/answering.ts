/**
 * The main thread's side of announcements: a target's task has loaded or unloaded a library, and waits. What its process
 * maps now is looked at, probes are added where they are wanted, and the task goes on.
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { Bell } from '../bell.ts';
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
  readonly #bell: Bell;
  #answering: Promise<void> | undefined;
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
    this.#bell = new Bell(
      () => this.#ring(),
      (error) => listener.failed(error),
    );
  }

  /** Answers in these sources, too. */
  watch(sources: readonly SourceHandle[]): void {
    this.#bell.watch(sources.filter((source) => source.kind === 'segment'));
    // What was announced before the bell could know of it.
    if (sources.length > 0) this.#ring();
  }

  /** Resolves when nothing here looks at these sources any more. */
  async forget(sources: readonly number[]): Promise<void> {
    await this.#bell.forget(sources);
  }

  /** Ends it. Resolves when nothing is under way, and no source is looked at any more. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    await this.#answering;
    await this.#bell.end();
  }

  #ring(): void {
    this.#isAgain = true;
    this.#answering ??= this.#answerAll().finally(() => (this.#answering = undefined));
  }

  async #answerAll(): Promise<void> {
    while (this.#isAgain && !this.#hasEnded) {
      this.#isAgain = false;
      let announced = this.#collector.announced();
      if (announced.some(({ tasks }) => tasks === undefined)) {
        await sleep(PATIENCE);
        announced = this.#collector.announced();
      }
      if (announced.length === 0) continue;
      try {
        await this.#answer(announced);
      } catch (error) {
        this.#listener.failed(error);
      } finally {
        for (const { source, last } of announced) this.#collector.serve(source, last);
      }
    }
  }

  async #answer(announced: readonly AnnouncedTasks[]): Promise<void> {
    const known = announced.map(({ source, tasks }) => ({ source, tasks }));
    const candidates = await this.#client.call('look', known);
    await extendWanted(this.#client, candidates, this.#accepts, this.#listener);
  }
}
