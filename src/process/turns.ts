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
/**
 * How often a refusal without a reason that can be seen is put down to a tracer that has left before we looked who it
 * was. Sessions that change something all the time meet so now and then, also twice in a row.
 */
const MOST_FORBIDDEN = 5;

/** Whether a refusal may be over in a moment: somebody else's turn, for which a process has one tracer at a time. */
export class Turns {
  readonly #began = performance.now();
  #forbidden = 0;

  /** Whether to try once more after an error. */
  mayComeAgain(error: TraplineError): boolean {
    const { code } = error;
    // Who follows takes no turns.
    if (error instanceof HeldByAnother) return false;
    const waited = performance.now() - this.#began;
    if (waited > (error instanceof AnotherTurn ? SESSION_PATIENCE : TURN_PATIENCE)) return false;
    if (code === 'busy') return true;
    return code === 'not-permitted' && ++this.#forbidden <= MOST_FORBIDDEN;
  }
}
