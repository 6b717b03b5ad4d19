/** Turns of the event loop, for those who read events that never pause. */

import { setImmediate as nextTurn } from 'node:timers/promises';

/** How long timers, signals and input may wait for a reader, in milliseconds. */
const LONGEST_WAIT = 10;

/**
 * An asynchronous iteration whose next item is always there runs in microtasks alone: no timer fires, no
 * signal is heard and nothing is read until it ends. Whoever yields such items asks here after each.
 */
export class EventLoopTurns {
  #last = performance.now();

  /** Whether the event loop has waited long enough. */
  get isDue(): boolean {
    return performance.now() - this.#last > LONGEST_WAIT;
  }

  /** Lets the event loop go round once. */
  async take(): Promise<void> {
    await nextTurn();
    this.#last = performance.now();
  }
}
