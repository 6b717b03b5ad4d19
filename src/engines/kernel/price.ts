/** What hits of a session's events cost, measured at places that they have in a file of ours (scratch.ts). */

import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import type { HitCost } from '../../probe/engine.ts';
import type { EventDefinitions } from './definitions.ts';
import { TracingInstance } from './instance.ts';
import type { StandIn } from './instruction.ts';
import { ScratchFile, type ScratchPlace } from './scratch.ts';

const log = debugLog('kernel');

/** Of one processor's ring of the instance: nobody reads it. */
const RING_BYTES = 65_536;

/** What one hit costs that becomes a record, and one that is refused: nobody can have the kernel lose one. */
export type HitPrice = Omit<HitCost, 'lost'>;

/** The places of an event in the file. */
export interface ScratchPlaces {
  /** A nop, its own. */
  readonly nop: ScratchPlace;
  /** Of kinds that no event had before. */
  readonly kinds: readonly ScratchPlace[];
}

/** An event that is on. */
export interface PricedEvent {
  /** Its name, and that of its second event, if it has one (passed.ts). */
  readonly names: readonly string[];
  readonly scratch: ScratchPlaces;
}

/**
 * Measures hits of events. A hit in the session's instance is one that is refused: we are not watched. One that
 * becomes a record is put into a ring, too: in an instance beside it, where nothing is refused, so that none gets into
 * the session's rings. A list of threads, or a filter, in that instance would cost tens of milliseconds.
 */
export class PriceMeter implements Disposable {
  readonly #file = new ScratchFile();
  readonly #tracefs: string;
  readonly #session: string;
  readonly #definitions: EventDefinitions;
  readonly #owners = new Map<StandIn, string>();
  /** What a hit of a kind costs more than one at a nop, whatever the event. */
  readonly #extras = new Map<StandIn, number>([['nop', 0]]);
  #instance: TracingInstance | undefined;

  /** @throws TraplineError `system`. */
  constructor(tracefs: string, session: string, definitions: EventDefinitions) {
    this.#tracefs = tracefs;
    this.#session = session;
    this.#definitions = definitions;
  }

  /** The places that an event is to have; undefined where there are no more. @param kinds of its own places */
  placesFor(event: string, kinds: ReadonlySet<StandIn>): ScratchPlaces | undefined {
    const nop = this.#file.takeNop();
    if (nop === undefined) return undefined;
    const fresh = [...kinds].filter((kind) => kind !== 'nop' && !this.#owners.has(kind));
    for (const kind of fresh) this.#owners.set(kind, event);
    return { nop, kinds: fresh.map((kind) => this.#file.placeOf(kind)) };
  }

  /** An event did not come to be: its kinds are for others. */
  giveBack(event: string): void {
    for (const [kind, owner] of this.#owners) if (owner === event) this.#owners.delete(kind);
  }

  /**
   * Measures a hit at a nop of each of some events.
   * @returns undefined where the kernel does not let us
   */
  measure(events: readonly PricedEvent[]): HitPrice[] | undefined {
    if (events.length === 0) return [];
    try {
      const refused = events.map(({ scratch }) => this.#measureRefused(scratch));
      const passed = this.#measurePassed(events);
      return refused.map((price, at) => ({ refused: price, passed: passed[at] ?? price }));
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      log('the cost of hits is not measured: %s', error.message);
      return undefined;
    }
  }

  /** A price at a place of another kind; undefined where that was not measured. */
  priceAt({ passed, refused }: HitPrice, kind: StandIn): HitPrice | undefined {
    const extra = this.#extras.get(kind);
    if (extra === undefined) return undefined;
    return { passed: Math.max(0, passed + extra), refused: Math.max(0, refused + extra) };
  }

  /** Of what it has in the kernel, the instance goes with all that is the session's (removeSession). */
  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }

  #measureRefused({ nop, kinds }: ScratchPlaces): number {
    const price = this.#file.measure(nop);
    for (const place of kinds) this.#extras.set(place.kind, this.#file.measure(place) - price);
    return price;
  }

  #measurePassed(events: readonly PricedEvent[]): number[] {
    const instance = this.#begin();
    const names = events.flatMap((event) => event.names);
    try {
      for (const name of names) this.#definitions.turn(instance, name, true);
      return events.map(({ scratch }) => this.#file.measure(scratch.nop));
    } finally {
      for (const name of names) this.#definitions.turn(instance, name, false);
    }
  }

  #begin(): TracingInstance {
    const use = { ringBytes: RING_BYTES, reading: 'none' } as const; // the literal
    return (this.#instance ??= new TracingInstance(this.#tracefs, `${this.#session}_prices`, use));
  }
}
