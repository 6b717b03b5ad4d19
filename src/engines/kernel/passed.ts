/**
 * Hits that were to become records with texts. The kernel drops a record whose texts have more than a page
 * together, and counts it nowhere (ring_buffer_lock_reserve, kernel/trace/ring_buffer.c). So each event with texts
 * has a second one at the same places, with the same filter and without texts, whose records are counted only: in
 * an instance of their own, so that what is lost of them is not taken for a loss of events.
 */

import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import type { Program } from '../../probe/program.ts';
import { monotonicNanoseconds } from '../../sys/clock.ts';
import { planEvent } from './command.ts';
import type { EventDefinitions, NumberedPlace } from './definitions.ts';
import type { KernelFormat } from './format.ts';
import { TracingInstance, type WatchedTasks } from './instance.ts';

const log = debugLog('kernel');

/** One part of a session's rings in so many is for them: their records are small. */
const SHARE = 4;
const LEAST_BYTES = 65_536;

/** How the hits of an event with texts are counted. Survives a message between threads. */
export interface PassedHits {
  readonly format: KernelFormat;
  /** CLOCK_MONOTONIC in nanoseconds: from then on both events were on. */
  readonly since: number;
}

/** The instance in which a session's hits are counted so. */
export function passedInstance(session: string): string {
  return `${session}_passed`;
}

/** The second events of a session. All that it has in the kernel goes with the session's. */
export class PassedEvents {
  readonly #tracefs: string;
  readonly #session: string;
  readonly #ringBytes: number;
  readonly #watched: WatchedTasks;
  readonly #main: TracingInstance;
  readonly #definitions: EventDefinitions;
  readonly #events = new Set<string>();
  #instance: TracingInstance | undefined;

  /** @param main the session's own instance */
  constructor(
    options: { tracefs: string; name: string; ringBytes: number; watched: WatchedTasks },
    main: TracingInstance,
    definitions: EventDefinitions,
  ) {
    this.#tracefs = options.tracefs;
    this.#session = options.name;
    this.#ringBytes = Math.max(LEAST_BYTES, options.ringBytes / SHARE);
    this.#watched = options.watched;
    this.#main = main;
    this.#definitions = definitions;
  }

  /** Threads that are watched from now on, too. */
  addTasks(tids: readonly number[]): void {
    this.#instance?.addTasks(tids);
  }

  /**
   * Switches the second event of an event on, before that one is.
   * @returns how its records are read; undefined where none is needed, or the kernel does not take it
   */
  begin(
    event: string,
    program: Program,
    places: readonly NumberedPlace[],
  ): KernelFormat | undefined {
    if (!holdsTexts(program)) return undefined;
    const plan = planEvent({ arguments: [], filter: program.filter, action: 'count' });
    const name = `${event}_passed`;
    this.#events.add(event);
    try {
      for (const place of places) {
        const reason = this.#definitions.define(name, plan, place);
        if (reason !== undefined) throw new TraplineError({ code: 'refused', message: reason });
      }
      const instance = this.#begin();
      const format = this.#definitions.describe(instance, name, plan);
      this.#definitions.turn(instance, name, true);
      return format;
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      log('texts of %s that are too long pass for filtered: %s', event, error.message);
      this.abandon(event);
      return undefined;
    }
  }

  /** The second event of an event, if it has one. */
  eventsOf(event: string): string[] {
    return this.#events.has(event) ? [`${event}_passed`] : [];
  }

  /** Switches the second event of an event off, if it has one. @throws TraplineError `system`. */
  end(event: string): void {
    if (this.#instance === undefined || !this.#events.delete(event)) return;
    this.#definitions.turn(this.#instance, `${event}_passed`, false);
  }

  /** Takes the second event of an event away, which was not switched on itself. */
  abandon(event: string): void {
    if (!this.#events.has(event)) return;
    try {
      this.end(event);
      this.#definitions.undefine(`${event}_passed`);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      log('%s', error.message); // it goes with the session
    }
  }

  #begin(): TracingInstance {
    if (this.#instance !== undefined) return this.#instance;
    const use = { ringBytes: this.#ringBytes, reading: 'numbers' } as const; // the literal
    const instance = new TracingInstance(this.#tracefs, passedInstance(this.#session), use);
    this.#instance = instance;
    instance.watchAs(this.#main, this.#watched);
    return instance;
  }
}

/** From when on hits are counted twice: now. */
export function passedSince(format: KernelFormat | undefined): PassedHits | undefined {
  return format && { format, since: Number(monotonicNanoseconds()) };
}

/** Whether records of a program hold texts that the kernel copies out of memory. */
function holdsTexts({ action, arguments: given }: Program): boolean {
  return (
    action === 'record' &&
    given.some(
      ({ type, fetch }) => type === 'string' && fetch.kind !== 'text' && fetch.kind !== 'comm',
    )
  );
}
