/** The processes of a session that are followed: what its engine, its probes and its reader have to do with them. */

import type { Pid } from '../../base/brand.ts';
import { mapsIfReadable } from '../../engines/jump/spaces.ts';
import { held } from '../../process/held.ts';
import type { SessionEngine } from '../engine.ts';
import type { FollowedSession } from './follower.ts';
import type { ProbeSet } from '../probes/probe-set.ts';
import type { ProbeAddition } from '../probes/probing.ts';
import type { ExecFunction } from '../../symbols/exec-functions.ts';
import { readProcessFacts } from '../targets/process-facts.ts';
import type { Following, Notice } from '../protocol.ts';
import type { StartWork } from './startup.ts';
import type { SessionWalks } from '../walks/walks.ts';

/** What {@link FollowedTargets} works with. */
export interface FollowedParts {
  readonly engine: SessionEngine;
  readonly walks: SessionWalks;
  readonly probes: ProbeSet;
  readonly following: Following;
  readonly notify: (notice: Notice) => void;
}

/** A session as its follower knows it. */
export class FollowedTargets implements FollowedSession {
  readonly #parts: FollowedParts;
  /** By process: the probes that were added to it and of which nobody was told. */
  readonly #added = new Map<Pid, Set<number>>();

  constructor(parts: FollowedParts) {
    this.#parts = parts;
  }

  get hasFilters(): boolean {
    return this.#parts.following.hasFilters;
  }

  get filtersChildren(): boolean {
    return this.#parts.following.filtersChildren;
  }

  ask(pid: Pid): void {
    const process = readProcessFacts(pid);
    if (process === undefined) return; // killed
    const candidate = { process, probes: [...this.#parts.probes.all.keys()] };
    const reply = { candidates: [candidate], ended: [], abandoned: [] };
    this.notify({ kind: 'walked', reply });
  }

  workFor(pid: Pid, probes: readonly number[] | undefined): StartWork {
    const { engine } = this.#parts;
    return {
      probe: () => {
        const isLacking = this.#probe(pid, probes);
        return engine.announced?.lacksExecs(pid) === true || isLacking;
      },
      get isProbed(): boolean {
        return engine.sourceOf(pid) !== undefined;
      },
      settled: () => engine.started(pid),
      foreign: () => this.#refuse(pid),
    };
  }

  born(pid: Pid, parent: Pid): void {
    this.#parts.engine.announced?.bear(pid, parent);
  }

  started(pid: Pid): void {
    this.#parts.engine.announced?.listen(pid);
    this.#tell(pid);
  }

  /** Probes were added wherever their files are: of those in programs that start up is told later. */
  added(additions: readonly ProbeAddition[]): void {
    for (const pid of this.#parts.engine.pids) if (held.isStarting(pid)) this.#note(pid, additions);
  }

  /** Adds new probes to a process that maps their files. @returns whether it does */
  offer(pid: Pid, additions: readonly ProbeAddition[]): boolean {
    const maps = mapsIfReadable(pid);
    const wanted = additions.filter((addition) => addition.wants(pid));
    const all = this.#parts.walks.mapped(wanted, { pid, maps });
    const mapped = additionsOf(all.filter(({ mappings }) => mappings.length > 0));
    if (mapped.length > 0) this.#parts.engine.extend(pid, mapped);
    return mapped.length > 0;
  }

  keepOnly(pid: Pid, source: number, wanted: readonly number[]): boolean {
    const unwanted = [...this.#parts.probes.all.values()].filter(({ id }) => !wanted.includes(id));
    const consumers = unwanted.flatMap((addition) =>
      addition.consumers.filter((one) => one.source === source).map(({ consumer }) => consumer),
    );
    const isLast = wanted.length === 0;
    const { isAll, problems } = this.#parts.engine.takeFrom(
      pid,
      source,
      new Set(consumers),
      isLast,
    );
    for (const problem of problems) this.notify({ kind: 'said', text: `left behind: ${problem}` });
    return isAll;
  }

  depart(pid: Pid): number | undefined {
    // What it has written can be read only by who knows of it.
    this.#tell(pid);
    const source = this.#parts.engine.depart(pid);
    if (source === undefined) return undefined;
    this.#parts.probes.forget(pid, source);
    return source;
  }

  sourceOf(inode: bigint): number | undefined {
    return this.#parts.engine.sourceAt(inode);
  }

  ownSource(pid: Pid): number | undefined {
    return this.#parts.engine.sourceOf(pid);
  }

  execOf(source: number, consumer: number): ExecFunction | undefined {
    return this.#parts.engine.announced?.execOf(source, consumer);
  }

  notify(notice: Notice): void {
    this.#parts.notify(notice);
  }

  /** Adds what can be. @returns whether a probe's file is not mapped yet. */
  #probe(pid: Pid, wanted: readonly number[] | undefined): boolean {
    const { engine, walks } = this.#parts;
    const chosen = wanted && new Set(wanted);
    const additions = [...this.#parts.probes.all.values()].filter((addition) => {
      // An address was one of the program before.
      const isPlace = addition.definition.location.kind !== 'address';
      return isPlace && (chosen?.has(addition.id) ?? addition.wants(pid));
    });
    if (additions.length === 0) return false;
    const maps = mapsIfReadable(pid);
    const mapped = walks.mapped(additions, { pid, maps });
    const fresh = mapped.filter(({ addition: { id }, mappings }) =>
      mappings.some((mapping) => !engine.has({ pid, maps }, id, mapping)),
    );
    if (fresh.length > 0) this.#extend(pid, fresh);
    const missing = mapped.filter(({ mappings }) => mappings.length === 0);
    const later = missing.filter(({ mayBeLoaded }) => mayBeLoaded());
    if (later.length > 0) this.#await(pid, later);
    return missing.length > 0;
  }

  /** Has a program tell of what it may load when it runs: nobody looks at it again otherwise. */
  #await(pid: Pid, later: readonly { readonly addition: ProbeAddition }[]): void {
    const { engine } = this.#parts;
    if (engine.sourceOf(pid) !== undefined) return;
    engine.begin(pid);
    if (engine.announced?.hook(pid) === true) this.#note(pid, additionsOf(later));
  }

  #extend(pid: Pid, found: readonly { readonly addition: ProbeAddition }[]): void {
    const additions = additionsOf(found);
    this.#parts.engine.extend(pid, additions);
    this.#note(pid, additions);
  }

  /** Who reads is to be told of these probes, and of the source. */
  #note(pid: Pid, additions: readonly ProbeAddition[]): void {
    const added = this.#added.get(pid) ?? new Set();
    for (const { id } of additions) added.add(id);
    this.#added.set(pid, added);
  }

  #tell(pid: Pid): void {
    const added = this.#added.get(pid);
    this.#added.delete(pid);
    if (added === undefined) return;
    const { probes, engine } = this.#parts;
    this.notify({ kind: 'extended', reply: probes.extended([pid], added, engine) });
  }

  #refuse(pid: Pid): void {
    const name = readProcessFacts(pid)?.executable ?? '';
    const text = `${name} (${pid}) is a 32-bit program: it has no probes, and runs on as it is`;
    this.notify({ kind: 'said', text });
  }
}

function additionsOf(found: readonly { readonly addition: ProbeAddition }[]): ProbeAddition[] {
  return found.map(({ addition }) => addition);
}
