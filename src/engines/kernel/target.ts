/** What a session has in the kernel: one tracing instance, one group of events. */

import { closeSync, openSync } from 'node:fs';

import type { FileOffset } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import type {
  EngineConsumer,
  EngineTarget,
  FailedConsumer,
  StopAccount,
} from '../../probe/engine.ts';
import {
  planEvent,
  printCommand,
  printEventFilter,
  refusePlan,
  SCRATCH_SITE,
  type EventPlan,
} from './command.ts';
import { parseFormat, type KernelFormat } from './format.ts';
import { TracingInstance, type WatchedTasks } from './instance.ts';
import type { StandIn } from './instruction.ts';
import { removeSession } from './leftovers.ts';
import { PriceMeter, type HitPrice, type ScratchPlaces } from './price.ts';
import type { KernelRing } from './reader.ts';
import { attempt, lastError, NOT_SUPPORTED, writeCommand } from './tracefs.ts';

const log = debugLog('kernel');

/** One consumer at one place of a file, for all who map it. */
export interface KernelRequest extends EngineConsumer {
  /** Leads to the file, as we see it. */
  readonly path: string;
  readonly offset: FileOffset;
  /** Of the counter in the file that is to be raised meanwhile. */
  readonly reference: FileOffset | undefined;
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

/** A place as it is defined: one that was asked for, or one in a file of ours. */
type DefinedPlace = Pick<KernelRequest, 'path' | 'offset' | 'reference'>;

/** What is watched by the kernel for one session. Used by the tracer's thread only; the session owns it. */
export class KernelTarget implements EngineTarget<KernelRequest> {
  /** Nobody is ever stopped by us. */
  readonly stops: StopAccount = { stops: 0, stoppedNanoseconds: 0n, longestNanoseconds: 0n };
  readonly ring: KernelRing;
  readonly #options: KernelOptions;
  readonly #instance: TracingInstance;
  readonly #places = new Map<number, KernelPlace>();
  /** By event: what a hit at a nop costs. */
  readonly #prices = new Map<string, HitPrice>();
  readonly #kinds = new Map<number, StandIn>();
  /** Undefined where its hits would be events: where everybody's are, and we can not be left out. */
  readonly #meter: PriceMeter | undefined;
  #events: KernelEvent[] = [];
  #nextEvent = 0;
  #isGone = false;

  /** @throws TraplineError as {@link TracingInstance} does. */
  constructor(options: KernelOptions) {
    const { tracefs, name, ringBytes, without } = options;
    this.#options = options;
    this.#instance = new TracingInstance(tracefs, name, { ringBytes, isRead: true });
    this.ring = { tracefs, name, pageBytes: this.#instance.pageBytes, ringBytes, without };
    try {
      this.#instance.watch(options.watched);
      const isHidden = options.watched.only !== undefined || this.#instance.leavesOut;
      this.#meter = isHidden ? new PriceMeter(tracefs, name) : undefined;
    } catch (error) {
      this.#instance.remove();
      throw error;
    }
  }

  /** Adds threads to those that are watched. */
  addTasks(tids: readonly number[]): void {
    this.#instance.addTasks(tids);
  }

  /** Where a consumer that was added is found; undefined for one that was not. */
  placeOf(consumer: number): KernelPlace | undefined {
    return this.#places.get(consumer);
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
    return leaving.flatMap(({ name }) => tried(() => this.#switch(name, false)));
  }

  leave(): string[] {
    const requests = this.#events.flatMap((event) => event.requests);
    return this.remove(new Set(requests.map(({ consumer }) => consumer)));
  }

  /** What a hit of a consumer costs; undefined where that is not known. */
  priceOf(consumer: number): HitPrice | undefined {
    this.#measure(this.#events);
    const place = this.#places.get(consumer);
    const price = place && this.#prices.get(place.event);
    const kind = this.#kinds.get(consumer);
    return price && kind && this.#meter?.priceAt(price, kind);
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
      const reason = this.#define(name, plan, request, request.consumer);
      if (reason === undefined) defined.push(request);
      else failed.push({ request, reason });
    }
    const refuseAll = (error: TraplineError): FailedKernelRequest[] => {
      this.#abandon(name, error);
      return [...failed, ...defined.map((request) => ({ request, reason: reasonOf(error) }))];
    };
    if (defined.length === 0) return failed;
    const scratch = this.#defineScratch(name, plan, defined);
    try {
      this.#describe(name, plan, defined);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      return refuseAll(error);
    }
    try {
      this.#switch(name, true);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      if (defined.length === 1) return refuseAll(error);
      this.#abandon(name, error);
      // One place that the kernel can't probe spoils all: halves find it.
      const middle = defined.length >>> 1;
      failed.push(...this.#install(defined.slice(0, middle)));
      failed.push(...this.#install(defined.slice(middle)));
      return failed;
    }
    this.#events.push({ name, requests: defined, scratch });
    return failed;
  }

  /** Gives an event its places in the file of ours. */
  #defineScratch(
    name: string,
    plan: EventPlan,
    requests: readonly KernelRequest[],
  ): ScratchPlaces | undefined {
    const meter = this.#meter;
    const places = meter?.placesFor(name, new Set(requests.map(({ kind }) => kind)));
    if (meter === undefined || places === undefined) return undefined;
    for (const { offset } of [places.nop, ...places.kinds]) {
      const place = { path: meter.file.path, offset, reference: undefined };
      const problem = this.#define(name, plan, place, SCRATCH_SITE);
      if (problem !== undefined) log('hits of %s are not measured: %s', name, problem);
    }
    return places;
  }

  /** Measures hits of events that are on, each event once. */
  #measure(events: readonly KernelEvent[]): void {
    const priced = events.flatMap(({ name, scratch }) =>
      scratch === undefined || this.#prices.has(name) ? [] : [{ name, scratch }],
    );
    this.#meter?.measure(priced)?.forEach((price, at) => {
      const event = priced[at];
      if (event !== undefined) this.#prices.set(event.name, price);
    });
  }

  /** Notes how an event's records are read, and gives it its filter. */
  #describe(name: string, plan: EventPlan, requests: readonly KernelRequest[]): void {
    const file = `events/${this.#options.name}/${name}/format`;
    const format = parseFormat(this.#instance.read(file), plan);
    this.#filter(name, plan);
    requests.forEach(({ consumer, kind }, line) => {
      this.#places.set(consumer, { event: name, line, format });
      this.#kinds.set(consumer, kind);
    });
  }

  /** Gives an event its filter. @throws TraplineError with the kernel's own words where it takes another one. */
  #filter(event: string, plan: EventPlan): void {
    const text = printEventFilter(plan);
    if (text === undefined) return;
    const file = `events/${this.#options.name}/${event}/filter`;
    try {
      this.#instance.write(file, text);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      const said = lastError(this.#options.tracefs, text);
      if (said === undefined) throw error;
      throw new TraplineError({
        code: 'refused',
        message: `the kernel says of the filter: ${said.message}\n  ${text}\n  ${' '.repeat(said.column)}^`,
        cause: error,
      });
    }
  }

  /** Defines one place of an event. @returns why the kernel refuses it, undefined if it doesn't. */
  #define(event: string, plan: EventPlan, place: DefinedPlace, site: number): string | undefined {
    const { tracefs, name: group } = this.#options;
    const { path, offset, reference } = place;
    // A path with white space can't be said, and one through /proc/PID may be gone soon: a file of ours can.
    const isPlain = /^[\w./+,=@~-]+$/.test(path) && !/^\/proc\/(?!self\/fd\/)/.test(path);
    let file: number | undefined;
    let command = '';
    try {
      file = isPlain ? undefined : attempt(`open ${path}`, () => openSync(path, 'r'));
      const shown = file === undefined ? path : `/proc/self/fd/${file}`;
      command = printCommand({ group, event }, { path: shown, offset, reference }, plan, site);
      writeCommand(`${tracefs}/uprobe_events`, command);
      return undefined;
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      const said = lastError(tracefs, command);
      if (said === undefined) return reasonOf(error);
      return `the kernel says: ${said.message}\n  ${command}\n  ${' '.repeat(said.column)}^`;
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }

  #switch(event: string, on: boolean): void {
    this.#instance.write(`events/${this.#options.name}/${event}/enable`, on ? '1' : '0');
  }

  /** Takes an event away that never was on. */
  #abandon(event: string, error: TraplineError): void {
    const { tracefs, name } = this.#options;
    log('%s is not switched on: %s', event, error.message);
    this.#meter?.giveBack(event);
    const undefine = `-:${name}/${event}`;
    for (const problem of tried(() => writeCommand(`${tracefs}/uprobe_events`, undefine))) {
      log('%s', problem);
    }
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

function reasonOf({ code, errno, message }: TraplineError): string {
  if (code === 'refused') return message;
  if (errno === NOT_SUPPORTED) return 'the kernel can not probe this instruction';
  return `the kernel refuses it: ${message}`;
}
