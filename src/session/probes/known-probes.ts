/** The main thread's side of a session's probes: what became of each, who gets it, and what is told of it. */

import type { ProcessFacts, TaskFilter } from '../../probe/task-filter.ts';
import { Description, type ConsumerOf } from '../reports/description.ts';
import type { TracerClient } from '../tracer-client.ts';
import type { AddedProbe, RefusedSite } from '../types.ts';
import { acceptanceOf } from '../walks/wanted.ts';

interface KnownProbe {
  readonly probe: AddedProbe;
  /** Whether a process that is found later gets it. */
  readonly accepts: (process: ProcessFacts) => boolean;
}

/** The probes that are in now, by their numbers. Disposing it ends what the session tells of itself. */
export class KnownProbes implements Disposable {
  readonly #probes = new Map<number, KnownProbe>();
  readonly #description: Description;

  /** @param tracer the number of the tracer's thread */
  constructor(client: TracerClient, tracer: number, consumerOf: ConsumerOf) {
    this.#description = new Description(client, tracer, () => this.all, consumerOf);
  }

  get all(): readonly AddedProbe[] {
    return Array.from(this.#probes.values(), ({ probe }) => probe);
  }

  /** @throws TraplineError `usage` for a filter that makes no sense. */
  add(probe: AddedProbe, filter: TaskFilter | undefined): void {
    this.#probes.set(probe.id, { probe, accepts: acceptanceOf(filter) });
    this.#description.changed();
  }

  /**
   * A probe is in other places now; one that was taken out meanwhile stays out.
   * @returns what it was refused that was not known before.
   */
  update(probe: AddedProbe): readonly RefusedSite[] {
    const known = this.#probes.get(probe.id);
    if (known === undefined) return [];
    this.#probes.set(probe.id, { ...known, probe });
    this.#description.changed();
    const told = new Set(known.probe.refused.map(keyOf));
    return probe.refused.filter((one) => !told.has(keyOf(one)));
  }

  remove(id: number): void {
    this.#probes.delete(id);
    this.#description.changed();
  }

  /** Whether a process is to get a probe. */
  accepts(id: number, process: ProcessFacts): boolean {
    return this.#probes.get(id)?.accepts(process) === true;
  }

  [Symbol.dispose](): void {
    this.#description[Symbol.dispose]();
  }
}

function keyOf({ pid, file, name, reason }: RefusedSite): string {
  return `${pid} ${file} ${name} ${reason}`;
}
