/**
 * Functions whose faults are handled by where they happen. One that happens in a stub is in no function that the handler
 * knows: what would have been an exception or a panic ends the program. So what may fault there stays where it is.
 *
 * - Go: a fault at an address of Go code is a panic, which may be recovered; any other ends the program (runtime, sigpanic).
 * - C++, Ada and D with exceptions of instructions that are no calls (gcc, -fnon-call-exceptions): a handler that throws is
 *   unwound from by the instruction's row in the exception table. A row without a call in it is there for nothing else.
 */

import type { FunctionBounds } from '../../symbols/function-bounds.ts';
import { caughtRanges, type CaughtRange } from '../../symbols/landing-pads.ts';
import { mayFault } from '../../x64/faults.ts';
import type { Listing } from '../../x64/listing.ts';
import type { CodePlace, FileCode } from './file-code.ts';

/** Those of one file. */
export class FaultHandlers {
  readonly #code: FileCode;
  readonly #known = new Map<FunctionBounds, boolean>();

  constructor(code: FileCode) {
    this.#code = code;
  }

  /** Why the instructions from a place on stay where they are, for people; undefined where nobody minds. */
  whyStay(place: CodePlace, bytes: Uint8Array): string | undefined {
    if (this.#code.isGo(place.offset)) {
      // r14 leads to the goroutine, at the entries of all functions, too (Go's ABIInternal).
      return mayFault(bytes, place.address, 'r14') ? reasonFor('Go panics') : undefined;
    }
    if (!this.#throws(place) || !mayFault(bytes, place.address)) return undefined;
    return reasonFor('its function catches what a handler throws,');
  }

  #throws(place: CodePlace): boolean {
    let throws = this.#known.get(place.bounds);
    if (throws === undefined) {
      const { bounds, segment } = place;
      const ranges = caughtRanges(this.#code.elf, bounds.start);
      throws = ranges.some((range) => !holdsCall(this.#code.listing(bounds, segment), range));
      this.#known.set(bounds, throws);
    }
    return throws;
  }
}

function reasonFor(what: string): string {
  return `an instruction that may fault would be moved, and ${what} by where it does`;
}

function holdsCall(listing: Listing, { start, end }: CaughtRange): boolean {
  const base = Number(listing.address);
  const first = Math.max(listing.holderOf(start - base), 0);
  for (let position = first; (listing.starts[position] ?? Infinity) + base < end; position++) {
    const flow = listing.flowAt(position);
    if (flow === 'call' || flow === 'indirect-call') return true;
  }
  return false;
}
