/** Lets sources go that were read to their end, whoever found that nobody writes to them any more. */

import type { TracerClient } from '../tracer-client.ts';
import type { Collector } from './collector.ts';

/** After a source was abandoned, in milliseconds: many are let go at once. It doubles while they are not read. */
const FIRST_INTERVAL = 50;
const LONGEST_INTERVAL = 1000;

/** What it works with. */
export interface RetiringParts {
  readonly client: TracerClient;
  readonly collector: Collector;
  /** Resolves when nothing else of ours looks at these sources any more. */
  readonly forget: (sources: readonly number[]) => Promise<void>;
  readonly failed: (error: unknown) => void;
}

/** Retires sources of one session, until it is ended. */
export class Retiring {
  readonly #parts: RetiringParts;
  #interval = FIRST_INTERVAL;
  #timer: NodeJS.Timeout | undefined;
  #retiring: Promise<void> | undefined;
  #hasEnded = false;

  constructor(parts: RetiringParts) {
    this.#parts = parts;
  }

  /** A source was abandoned. */
  soon(): void {
    this.#interval = FIRST_INTERVAL;
    this.#schedule();
  }

  /** Ends it. Resolves when nothing is under way any more. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    await this.#retiring;
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#hasEnded) return;
    this.#timer = setTimeout(() => {
      this.#retiring = this.#retire().catch((error: unknown) => this.#parts.failed(error));
    }, this.#interval).unref();
  }

  async #retire(): Promise<void> {
    const { client, collector, forget } = this.#parts;
    const finished = collector.takeFinished();
    if (finished.length > 0) {
      await forget(finished);
      await client.call('retire', finished);
    }
    this.#timer = undefined;
    this.#interval = Math.min(this.#interval * 2, LONGEST_INTERVAL);
    if (collector.isRetiring) this.#schedule();
  }
}
