/** What a session has in the kernel: one tracing instance, one group of events. */

import { debugLog } from '../../base/debug.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import type {
  EngineConsumer,
  EngineTarget,
  FailedConsumer,
  StopAccount,
} from '../../probe/engine.ts';
import { planEvent, refusePlan, type EventPlan } from './command.ts';
import { EventDefinitions, reasonOf, type DefinedPlace } from './definitions.ts';
import type { KernelFormat } from './format.ts';
import { TracingInstance, type WatchedTasks } from './instance.ts';
import type { StandIn } from './instruction.ts';
import { removeSession } from './leftovers.ts';
import { PassedEvents, passedSince, type PassedHits } from './passed.ts';
import { PriceMeter, type HitPrice, type ScratchPlaces } from './price.ts';
import type { KernelRing } from './reader.ts';
import type { ScratchPlace } from './scratch.ts';

const log = debugLog('kernel');

/** One consumer at one place of a file, for all who map it. */
export interface KernelRequest extends EngineConsumer, DefinedPlace {
  /** Which kind of instruction is there. */
  readonly kind: StandIn;
}

/** A place that was asked for and is not probed. */
export type FailedKernelRequest = FailedConsumer<KernelRequest>;

/** Where a consumer's records and counts are found. Survives a message between threads. */
export interface KernelPlace {
  readonly event: string;
  /** Its number among the event's places: the n-th line of the event in `uprobe_profile`. */
  readonly line: number;
  readonly format: KernelFormat;
  /** How hits are counted whose records hold texts. */
  readonly texts?: PassedHits;
}

/** What a session tells its target. */
export interface KernelOptions {
  readonly tracefs: string;
  /** See session-name.ts. */
  readonly name: string;
  /** Bytes of one processor's ring. */
  readonly ringBytes: number;
  readonly watched: WatchedTasks;
  /** The process whose events are nobody's, if any. */
  readonly without: number | undefined;
}

/** An event of the kernel: one definition at some places. */
interface KernelEvent {
  readonly name: string;
  readonly requests: readonly KernelRequest[];
  readonly scratch: ScratchPlaces | undefined;
}

/** What is watched by the kernel for one session. Used by the tracer's thread only; the session owns it. */
export class KernelTarget implements EngineTarget<KernelRequest> {
  /** Nobody is ever stopped by us. */
  readonly stops: StopAccount = { stops: 0, stoppedNanoseconds: 0n, longestNanoseconds: 0n };
  readonly ring: KernelRing;
  readonly #options: KernelOptions;
  readonly #instance: TracingInstance;
  readonly #definitions: EventDefinitions;
  readonly #passed: PassedEvents;
  readonly #consumers = new Map<number, { readonly place: KernelPlace; readonly kind: StandIn }>();
  /** By event: what a hit at a nop costs. */
  readonly #prices = new Map<string, HitPrice>();
  /** Undefined where its hits would be events: where everybody's are, and we can not be left out. */
  readonly #meter: PriceMeter | undefined;
  #events: KernelEvent[] = [];
  #nextEvent = 0;
  #isGone = false;

  /** @throws TraplineError as {@link TracingInstance} does. */
  constructor(options: KernelOptions) {
    const { tracefs, name, ringBytes, without } = options;
    this.#options = options;
    this.#instance = new TracingInstance(tracefs, name, { ringBytes, reading: 'texts' });
    this.#definitions = new EventDefinitions(tracefs, name);
    this.#passed = new PassedEvents(options, this.#instance, this.#definitions);
    this.ring = { tracefs, name, pageBytes: this.#instance.pageBytes, ringBytes, without };
    try {
      this.#instance.watch(options.watched);
      const isHidden = options.watched.only !== undefined || this.#instance.leavesOut;
      this.#meter = isHidden ? new PriceMeter(tracefs, name, this.#definitions) : undefined;
    } catch (error) {
      this.#instance.remove();
      throw error;
    }
  }

  /** Adds threads to those that are watched. */
  addTasks(tids: readonly number[]): void {
    this.#instance.addTasks(tids);
    this.#passed.addTasks(tids);
  }

  /** Where a consumer that was added is found; undefined for one that was not. */
  placeOf(consumer: number): KernelPlace | undefined {
    return this.#consumers.get(consumer)?.place;
  }

  add(requests: readonly KernelRequest[]): FailedKernelRequest[] {
    const probes = new Map<number, KernelRequest[]>();
    for (const request of requests) {
      const same = probes.get(request.probe) ?? [];
      same.push(request);
      probes.set(request.probe, same);
    }
    return [...probes.values()].flatMap((same) => this.#install(same));
  }

  remove(consumers: ReadonlySet<number>): string[] {
    // Switched off, and kept until all is read: the kernel empties the rings when it removes an event.
    const leaving = this.#events.filter(({ requests }) =>
      requests.some(({ consumer }) => consumers.has(consumer)),
    );
    this.#measure(leaving);
    this.#events = this.#events.filter((event) => !leaving.includes(event));
    return leaving.flatMap(({ name }) => [
      ...tried(() => this.#definitions.turn(this.#instance, name, false)),
      ...tried(() => this.#passed.end(name)),
    ]);
  }

  leave(): string[] {
    const requests = this.#events.flatMap((event) => event.requests);
    return this.remove(new Set(requests.map(({ consumer }) => consumer)));
  }

  /** What a hit of a consumer costs; undefined where that is not known. */
  priceOf(consumer: number): HitPrice | undefined {
    this.#measure(this.#events);
    const known = this.#consumers.get(consumer);
    const price = known && this.#prices.get(known.place.event);
    return price && this.#meter?.priceAt(price, known.kind);
  }

  release(): string[] {
    if (this.#isGone) return [];
    this.#isGone = true;
    const { tracefs, name } = this.#options;
    const kept = [...this.leave(), ...removeSession(tracefs, name).kept];
    this.#meter?.[Symbol.dispose]();
    return kept;
  }

  [Symbol.dispose](): void {
    for (const problem of this.release()) log('%s', problem);
  }

  /** Makes one event of places with the same program, and switches it on. */
  #install(requests: readonly KernelRequest[]): FailedKernelRequest[] {
    const [first] = requests;
    if (first === undefined) return [];
    const plan = planEvent(first.program);
    const unfit = refusePlan(plan);
    if (unfit !== undefined) return requests.map((request) => ({ request, reason: unfit }));
    const name = `${this.#options.name}_${this.#nextEvent++}`;
    const failed: FailedKernelRequest[] = [];
    const defined: KernelRequest[] = [];
    for (const request of requests) {
      const place = { ...request, site: request.consumer };
      const reason = this.#definitions.define(name, plan, place);
      if (reason === undefined) defined.push(request);
      else failed.push({ request, reason });
    }
    if (defined.length === 0) return failed;
    return [...failed, ...this.#begin(name, plan, defined)];
  }

  /** Switches on an event whose places are defined. @returns those at which it is not on. */
  #begin(name: string, plan: EventPlan, requests: readonly KernelRequest[]): FailedKernelRequest[] {
    const refuseAll = (error: TraplineError): FailedKernelRequest[] => {
      this.#abandon(name, error);
      return requests.map((request) => ({ request, reason: reasonOf(error) }));
    };
    const kinds = new Set(requests.map(({ kind }) => kind));
    const scratch = this.#defineScratch(name, plan, kinds);
    let format: KernelFormat;
    try {
      format = this.#definitions.describe(this.#instance, name, plan);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      return refuseAll(error);
    }
    const theirs = requests.map((request) => ({ ...request, site: request.consumer }));
    const ours = scratch === undefined ? [] : [scratch.nop, ...scratch.kinds];
    const passed = this.#passed.begin(name, plan.program, [...theirs, ...ours]);
    try {
      this.#definitions.turn(this.#instance, name, true);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      this.#passed.abandon(name);
      if (requests.length === 1) return refuseAll(error);
      this.#abandon(name, error);
      // One place that the kernel can't probe spoils all: halves find it.
      const middle = requests.length >>> 1;
      return [requests.slice(0, middle), requests.slice(middle)].flatMap((half) =>
        this.#install(half),
      );
    }
    const texts = passedSince(passed);
    requests.forEach(({ consumer, kind }, line) => {
      const place = { event: name, line, format, ...(texts && { texts }) };
      this.#consumers.set(consumer, { place, kind });
    });
    this.#events.push({ name, requests, scratch });
    return [];
  }

  /** Gives an event its places in the file of ours, as far as the kernel takes them: what the others cost stays unknown. */
  #defineScratch(
    name: string,
    plan: EventPlan,
    kinds: ReadonlySet<StandIn>,
  ): ScratchPlaces | undefined {
    const places = this.#meter?.placesFor(name, kinds);
    if (places === undefined) return undefined;
    const isTaken = (place: ScratchPlace): boolean => {
      const reason = this.#definitions.define(name, plan, place);
      if (reason !== undefined)
        log('what a %s of %s costs is unknown: %s', place.kind, name, reason);
      return reason === undefined;
    };
    if (isTaken(places.nop)) return { nop: places.nop, kinds: places.kinds.filter(isTaken) };
    this.#meter?.giveBack(name);
    return undefined;
  }

  /** Measures hits of events that are on, each event once. */
  #measure(events: readonly KernelEvent[]): void {
    const unpriced = events.filter(({ name }) => !this.#prices.has(name));
    const priced = unpriced.flatMap(({ name, scratch }) =>
      scratch === undefined
        ? []
        : [{ name, names: [name, ...this.#passed.eventsOf(name)], scratch }],
    );
    this.#meter?.measure(priced)?.forEach((price, at) => {
      const event = priced[at];
      if (event !== undefined) this.#prices.set(event.name, price);
    });
  }

  /** Takes an event away that never was on. */
  #abandon(event: string, error: TraplineError): void {
    log('%s is not switched on: %s', event, error.message);
    this.#meter?.giveBack(event);
    for (const problem of tried(() => this.#definitions.undefine(event))) log('%s', problem);
  }
}

/** @returns what went wrong, for people; nothing if nothing did. */
function tried(action: () => void): string[] {
  try {
    action();
    return [];
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    return [messageOf(error)];
  }
}
