/** Taking turns: a process has one tracer at a time. */

import type { TraplineError } from '../base/errors.ts';
import { HeldByAnother } from './permission.ts';

/** How long another tracer is waited for, in milliseconds: sessions take turns, each for some milliseconds. */
const TURN_PATIENCE = 1000;
/**
 * How often a refusal without a reason that can be seen is put down to a tracer that has left before we looked who it
 * was. Sessions that change something all the time meet so now and then, also twice in a row.
 */
const MOST_FORBIDDEN = 5;

/** Whether a refusal may be over in a moment: somebody else's turn, for which a process has one tracer at a time. */
export class Turns {
  readonly #until = performance.now() + TURN_PATIENCE;
  #forbidden = 0;

  /** Whether to try once more after an error. */
  mayComeAgain(error: TraplineError): boolean {
    const { code } = error;
    // Who follows takes no turns.
    if (error instanceof HeldByAnother) return false;
    if (performance.now() > this.#until) return false;
    if (code === 'busy') return true;
    return code === 'not-permitted' && ++this.#forbidden <= MOST_FORBIDDEN;
  }
}
