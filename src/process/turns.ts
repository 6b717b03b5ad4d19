/** Taking turns: a process has one tracer at a time. */

import type { TraplineError } from '../base/errors.ts';
import { AnotherTurn, HeldByAnother } from './permission.ts';

/** How long another tracer is waited for, in milliseconds: it may be one that comes and goes. */
const TURN_PATIENCE = 1000;
/**
 * The same for another session, which always goes: it takes milliseconds, but on a busy machine its own stop of many tasks
 * lasts as long as it takes until each has had a processor.
 */
const SESSION_PATIENCE = 10_000;

/** Whether a refusal may be over in a moment: somebody else's turn, for which a process has one tracer at a time. */
export class Turns {
  readonly #began = performance.now();

  /** Whether to try once more after an error. */
  mayComeAgain(error: TraplineError): boolean {
    // Who follows takes no turns.
    if (error.code !== 'busy' || error instanceof HeldByAnother) return false;
    const waited = performance.now() - this.#began;
    return waited <= (error instanceof AnotherTurn ? SESSION_PATIENCE : TURN_PATIENCE);
  }
}
