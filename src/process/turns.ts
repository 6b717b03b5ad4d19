/** Taking turns: a process has one tracer at a time. */

import type { TraplineError } from '../base/errors.ts';
import { HeldByAnother } from './permission.ts';

/** How long another tracer is waited for, in milliseconds: sessions take turns, each for some milliseconds. */
const TURN_PATIENCE = 1000;

/** Whether a refusal may be over in a moment: somebody else's turn, for which a process has one tracer at a time. */
export class Turns {
  readonly #until = performance.now() + TURN_PATIENCE;
  #wasForbidden = false;

  /** Whether to try once more after an error. */
  mayComeAgain(error: TraplineError): boolean {
    const { code } = error;
    // Who follows takes no turns.
    if (error instanceof HeldByAnother) return false;
    if (performance.now() > this.#until) return false;
    if (code === 'busy') return true;
    // A tracer that has left before we looked who it was leaves no other reason: asked once more, it is one.
    const isFirst = code === 'not-permitted' && !this.#wasForbidden;
    this.#wasForbidden ||= isFirst;
    return isFirst;
  }
}
