/** The main thread's side of a session's probes: what became of each, who gets it, and what is told of it. */

import type { ProcessFacts, TaskFilter } from '../../probe/task-filter.ts';
import { Description, type ConsumerOf } from '../reports/description.ts';
import type { TracerClient } from '../tracer-client.ts';
import type { AddedProbe, RefusedSite } from '../types.ts';
import { generalReason, refusedLater } from './refusals.ts';
import { acceptanceOf } from '../walks/wanted.ts';

interface KnownProbe {
  readonly probe: AddedProbe;
  readonly filter: TaskFilter | undefined;
  /** Whether a process that is found later gets it. */
  readonly accepts: (process: ProcessFacts) => boolean;
  /** The reasons for which places of it were refused, as far as they were told. */
  readonly told: Set<string>;
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

  /**
   * Knows one more.
   * @returns it, as users see it
   * @throws TraplineError `usage` for a filter that makes no sense.
   */
  add(probe: AddedProbe, filter: TaskFilter | undefined): AddedProbe {
    const accepts = acceptanceOf(filter);
    const shown = withUnchosen(probe, filter, accepts);
    const told = new Set(probe.refused.map(({ reason }) => generalReason(reason)));
    this.#probes.set(probe.id, { probe: shown, filter, accepts, told });
    this.#description.changed();
    return shown;
  }

  /**
   * A probe is in other places now; one that was taken out meanwhile stays out.
   * @returns what is to be said of what it was refused that was not known before.
   */
  update(probe: AddedProbe): readonly string[] {
    const known = this.#probes.get(probe.id);
    if (known === undefined) return [];
    const shown = withUnchosen(probe, known.filter, known.accepts);
    this.#probes.set(probe.id, { ...known, probe: shown });
    this.#description.changed();
    const before = new Set(known.probe.refused.map(keyOf));
    const refused = probe.refused.filter((one) => !before.has(keyOf(one)));
    return refusedLater(probe, refused, known.told);
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

/** A probe with those of its unchosen targets that its filter refuses, not those that only do not map its file yet. */
function withUnchosen(
  { unchosen, ...probe }: AddedProbe,
  filter: TaskFilter | undefined,
  accepts: KnownProbe['accepts'],
): AddedProbe {
  // A predicate is asked only where its answer counts.
  if (unchosen === undefined || filter === undefined || filter.accepts !== undefined) return probe;
  const refused = unchosen.filter((process) => !accepts(process));
  return refused.length > 0 ? { ...probe, unchosen: refused } : probe;
}

function keyOf({ pid, file, name, reason }: RefusedSite): string {
  return `${pid} ${file} ${name} ${reason}`;
}
