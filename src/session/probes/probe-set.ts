/** The probes of a session, by their numbers. */

import type { Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { EventNames } from '../../probe/names.ts';
import type { SessionEngine } from '../engine.ts';
import type { FileCache } from '../files/files.ts';
import { aboutWritten } from './origin.ts';
import { PlaceRegistry } from './place-registry.ts';
import { ProbeAddition } from './probing.ts';
import { readProcessFacts } from '../targets/process-facts.ts';
import { processorTimesOf } from '../targets/processor-time.ts';
import type { AddReply, ExtendReply, WantedProbe } from '../protocol.ts';
import type { AddedProbe } from '../types.ts';
import { refusalOfAll } from './refusals.ts';
import { describeTarget } from '../targets/selection.ts';

/** Probes while a session has them. */
export class ProbeSet {
  readonly registry: PlaceRegistry<ProbeAddition> = new PlaceRegistry<ProbeAddition>();
  readonly #files: FileCache;
  readonly #names = new EventNames();
  readonly #probes = new Map<number, ProbeAddition>();
  #next = 1;

  constructor(files: FileCache) {
    this.#files = files;
  }

  get all(): ReadonlyMap<number, ProbeAddition> {
    return this.#probes;
  }

  /** Takes requests, of which nothing is kept yet. @throws TraplineError `bad-definition`. */
  make(requests: readonly WantedProbe[]): ProbeAddition[] {
    const known = { files: this.#files, names: this.#names, registry: this.registry };
    const additions = requests.map((request) =>
      aboutWritten(request, () => new ProbeAddition(this.#next++, request, known)),
    );
    const fetched = additions.flatMap(({ definition }) => definition.arguments);
    if (fetched.some(({ type }) => type === 'symbol')) this.#files.mappings.want();
    return additions;
  }

  /**
   * Keeps what was added.
   * @throws TraplineError for all probes that can't be at once: whoever names hundreds asks once.
   */
  keep(additions: readonly ProbeAddition[], engine: SessionEngine): AddReply[] {
    const refusals: TraplineError[] = [];
    const replies = additions.flatMap((addition) => {
      try {
        aboutWritten(addition.written, () => addition.ensureUse(engine.pids));
        this.#probes.set(addition.id, addition);
        return [tell(addition, engine)];
      } catch (error) {
        if (!(error instanceof TraplineError) || error.code !== 'refused') throw error;
        refusals.push(error);
        return [];
      }
    });
    if (refusals.length > 0) throw refusalOfAll(refusals, additions.length);
    return replies;
  }

  /** What became of some probes in processes that came later. */
  extended(pids: readonly Pid[], probes: ReadonlySet<number>, engine: SessionEngine): ExtendReply {
    const added = [...probes].flatMap((id) => {
      const known = this.#probes.get(id);
      return known === undefined ? [] : [tell(known, engine)];
    });
    const targets = pids.filter((pid) => engine.pids.includes(pid));
    return {
      added,
      targets: targets.map((pid) => describeTarget(pid)),
      processorTimes: processorTimesOf(targets),
    };
  }

  /** Takes a probe out of the set. */
  take(id: number): ProbeAddition | undefined {
    const known = this.#probes.get(id);
    this.#probes.delete(id);
    known?.release();
    return known;
  }

  /** A process has ended, or runs another program now. @param source the source that it was */
  forget(pid: Pid, source: number): void {
    this.registry.forget(pid);
    for (const addition of this.#probes.values()) addition.forget(pid, source);
  }

  clear(): void {
    this.#probes.clear();
  }
}

/** What became of a probe since the last time that it was told. */
function tell(addition: ProbeAddition, engine: SessionEngine): AddReply {
  const probe = { ...addition.result, ...leftOut(addition, engine) };
  engine.note(probe);
  return { probe, sources: engine.newSources(), consumers: addition.takeNewConsumers() };
}

/** Named targets that do not get a probe; whether they could by their task filters is for who asks those. */
function leftOut(
  addition: ProbeAddition,
  { pids, isEndless }: SessionEngine,
): Pick<AddedProbe, 'unchosen'> {
  if (isEndless || !addition.isChoosy) return {};
  const unchosen = pids
    .filter((pid) => !addition.wants(pid))
    .flatMap((pid) => readProcessFacts(pid) ?? []);
  return unchosen.length > 0 ? { unchosen } : {};
}
