/** Frees contexts of dead tasks where nobody reads events: hits may only be counted, or their reader be slow. */

import type { Collector } from './collector.ts';

/** Between two looks, in milliseconds: the first while contexts are scarce, doubling to the last while they are not. */
const FIRST_INTERVAL = 1;
const LONGEST_INTERVAL = 95;
/** While somebody reads, who looks as well. */
const READ_INTERVAL = 1000;

/** Looks now and then, until it is ended. */
export class DeadTasks {
  readonly #collector: Pick<Collector, 'search' | 'wasPolled'>;
  #interval = FIRST_INTERVAL;
  #timer: NodeJS.Timeout | undefined;

  constructor(collector: Pick<Collector, 'search' | 'wasPolled'>) {
    this.#collector = collector;
    this.#schedule();
  }

  /** Ends it: no memory of a target is looked at any more. */
  end(): void {
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#timer = setTimeout(() => {
      if (this.#collector.wasPolled(READ_INTERVAL)) this.#interval = READ_INTERVAL;
      else if (this.#collector.search()) this.#interval = FIRST_INTERVAL;
      else this.#interval = Math.min(this.#interval * 2, LONGEST_INTERVAL);
      this.#schedule();
    }, this.#interval).unref();
  }
}
