/**
 * What a living session tells of itself to whoever asks for the status of processes: its definitions, what they cost, what
 * was refused. A file in memory that the session's process has open; readers find it by its name (`described.ts`).
 * Control blocks have what is needed to take a session out of a process, and no more than that.
 */

import { ftruncateSync, writeSync } from 'node:fs';

import { closeMemoryFile, createMemoryFile } from '../../sys/memfd.ts';
import type { ConsumerHandle } from '../protocol.ts';
import type { TracerClient } from '../tracer-client.ts';
import type { DescribedProbe } from './held.ts';
import type { AddedProbe } from '../types.ts';

/** Of the file in memory. */
export const DESCRIPTION_NAME = 'trapline-description';
/** Grows with every change of what is written. */
export const DESCRIPTION_VERSION = 2;

/** Changes are written this long after the first of them, in milliseconds. */
const DELAY = 100;
/** What new probes cost is measured when the session has begun, and not while it begins. */
const MEASURE_DELAY = 1000;
/** Refused places that are told of one probe. */
const MOST_REFUSED = 100;

/** What is written. The generation comes first and last: who reads while we write sees two. */
export interface SessionDescription {
  readonly generation: number;
  readonly version: number;
  /** The number of the tracer's thread, as control blocks have it. */
  readonly tracer: number;
  readonly probes: readonly DescribedProbe[];
  readonly end: number;
}

/** A consumer of a probe, wherever it is: all of them have the same program, or nearly. */
export type ConsumerOf = (probe: number) => ConsumerHandle | undefined;

/** Writes the description of one session. Disposing it takes it away. */
export class Description implements Disposable {
  readonly #client: TracerClient;
  readonly #tracer: number;
  readonly #probes: () => readonly AddedProbe[];
  readonly #consumerOf: ConsumerOf;
  readonly #fd = createMemoryFile(DESCRIPTION_NAME, 0);
  /** By probe. */
  readonly #costs = new Map<number, number>();
  #generation = 0;
  #timer: NodeJS.Timeout | undefined;
  #measuring: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(
    client: TracerClient,
    tracer: number,
    probes: () => readonly AddedProbe[],
    consumerOf: ConsumerOf,
  ) {
    this.#client = client;
    this.#tracer = tracer;
    this.#probes = probes;
    this.#consumerOf = consumerOf;
  }

  /** There are other probes now, or other places. */
  changed(): void {
    if (this.#isClosed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#write();
    }, DELAY).unref();
    this.#measuring ??= setTimeout(() => {
      this.#measuring = undefined;
      // Who asks sees no costs, then: the session's own summary says what went wrong.
      this.#measure().catch(() => undefined);
    }, MEASURE_DELAY).unref();
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#measuring);
    closeMemoryFile(this.#fd);
  }

  async #measure(): Promise<void> {
    const unknown = this.#probes().flatMap(({ id }) => {
      const consumer = this.#costs.has(id) ? undefined : this.#consumerOf(id);
      return consumer === undefined ? [] : [{ id, consumer }];
    });
    if (unknown.length === 0 || this.#isClosed) return;
    const consumers = unknown.map(({ consumer: { source, consumer, program } }) => {
      return { source, consumer, program, lost: [] };
    });
    const costs = await this.#client.call('measure', consumers);
    unknown.forEach(({ id }, at) => {
      const cost = costs[at]?.passed ?? 0;
      this.#costs.set(id, cost);
    });
    if (!this.#isClosed) this.#write();
  }

  #write(): void {
    const generation = ++this.#generation;
    const probes = this.#probes().map((probe) => this.#describe(probe));
    const described: SessionDescription = {
      generation,
      version: DESCRIPTION_VERSION,
      tracer: this.#tracer,
      probes,
      end: generation,
    };
    const bytes = Buffer.from(JSON.stringify(described));
    for (let at = 0; at < bytes.byteLength;) at += writeSync(this.#fd, bytes, at, undefined, at);
    ftruncateSync(this.#fd, bytes.byteLength);
  }

  #describe({ id, definition, listing, action, filter, refused }: AddedProbe): DescribedProbe {
    const costNanoseconds = this.#costs.get(id);
    return {
      id,
      definition,
      listing,
      action,
      ...(filter === undefined ? {} : { filter }),
      ...(costNanoseconds === undefined ? {} : { costNanoseconds }),
      refused: refused.slice(0, MOST_REFUSED),
    };
  }
}
