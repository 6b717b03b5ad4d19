/** A probe while it is added: what it means in each target, and what became of every place. */

import { pid as brandPid, type Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { mapsIfReadable } from '../../engines/jump/spaces.ts';
import { listDefinition, parseDefinition, type ProbeDefinition } from '../../probe/definition.ts';
import type { ProgramFilter } from '../../probe/filter.ts';
import type { EventNames } from '../../probe/names.ts';
import type { Program } from '../../probe/program.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import type { FileCache, MappedFile } from '../files/files.ts';
import { notMapped } from './not-mapped.ts';
import type { Written } from './origin.ts';
import type { PlaceRegistry, ResolvedPlace } from './place-registry.ts';
import { ProbeEvents } from './probe-events.ts';
import type { ConsumerHandle, WantedProbe } from '../protocol.ts';
import { filterText, filtersOf, refuseLater } from './requested.ts';
import { groupReasons } from './refusals.ts';
import {
  filesMeant,
  namePlaces,
  notShown,
  type NamedPlace,
  type UnresolvedPlace,
} from './resolve.ts';
import type { AddedProbe, ProbedSite, RefusedSite } from '../types.ts';

/** What an engine knows of a consumer that is in. */
export type NotedConsumer = Omit<ConsumerHandle, 'probe' | 'event' | 'definition'>;

/** Stands for a process where every one is meant. */
export const EVERY_PROCESS = 0;

/** What the probes of a session share. */
export interface SessionKnowledge {
  readonly files: FileCache;
  readonly names: EventNames;
  readonly registry: PlaceRegistry<ProbeAddition>;
}

/** A request, parsed, while it is added to one target after another. */
export class ProbeAddition {
  readonly id: number;
  readonly definition: ProbeDefinition;
  #consumers: ConsumerHandle[] = [];
  /** Those that nobody was told of yet. */
  #fresh: ConsumerHandle[] = [];
  readonly #request: WantedProbe;
  /** The processes that get it; every target if undefined. */
  readonly #pids: Set<number> | undefined;
  /** The event filters, which hold all together. */
  readonly #filters: readonly ProgramFilter[];
  readonly #files: FileCache;
  readonly #registry: PlaceRegistry<ProbeAddition>;
  readonly #events: ProbeEvents;
  #sites: ProbedSite[] = [];
  #refused: RefusedSite[] = [];
  /** By process, what was told of {@link #refused}. */
  readonly #refusals = new Map<number, Set<string>>();
  /** By file. */
  readonly #excluded = new Map<MappedFile, number>();
  #isMapped = false;
  /** Its places in a file that is there, if it waits for that. */
  #expected = 0;
  #untold: string | undefined;
  #failure: TraplineError | undefined;

  /** @throws TraplineError `bad-definition`. */
  constructor(id: number, request: WantedProbe, known: SessionKnowledge) {
    this.id = id;
    this.definition = parseDefinition(request.definition);
    refuseLater(this.definition);
    this.#filters = filtersOf(this.definition, request.filter);
    this.#request = request;
    this.#pids = request.pids && new Set(request.pids);
    this.#files = known.files;
    this.#registry = known.registry;
    this.#events = new ProbeEvents(this.definition, known.names);
  }

  /** Its consumers, in every process. */
  get consumers(): readonly ConsumerHandle[] {
    return this.#consumers;
  }

  /** The processes that are to get it by name: none where every target is. */
  get pids(): readonly Pid[] {
    return [...(this.#pids ?? [])].map((pid) => brandPid(pid));
  }

  /** What errors about it say. */
  get written(): Written {
    return this.#request;
  }

  /** Whether a process is to get it. */
  wants(pid: Pid): boolean {
    return this.#pids === undefined || this.#pids.has(pid);
  }

  /** One more process is to get it. */
  admit(pid: Pid): void {
    this.#pids?.add(pid);
  }

  /**
   * Its file is there, and processes may come to map it: none has to now.
   * @param maps of a process that has it, real or not
   * @returns its places
   * @throws TraplineError as {@link resolve}.
   */
  expect(pid: Pid, maps: readonly MemoryMapping[]): readonly ResolvedPlace[] {
    const files = this.register(pid, maps);
    if (files.length === 0) return [];
    const places = this.#registry.placesIn(pid, maps).get(this) ?? [];
    this.#expected = this.#compare(
      EVERY_PROCESS,
      this.#registry.placesOf(this, files, pid),
      places,
    );
    return places;
  }

  /** No target can tell when it maps the file: it is not waited for. */
  notTold(reason: string): void {
    this.#expected = 0;
    this.#untold = reason;
  }

  /** The consumers that came since the last call. */
  takeNewConsumers(): readonly ConsumerHandle[] {
    const fresh = this.#fresh;
    this.#fresh = [];
    return fresh;
  }

  /** A process has ended, or runs another program now, and so its source of events: nothing is said of them any more. */
  forget(pid: number, source: number): void {
    const isOther = (one: { readonly pid: number }): boolean => one.pid !== pid;
    this.#sites = this.#sites.filter(isOther);
    this.#refused = this.#refused.filter(isOther);
    this.#refusals.delete(pid);
    this.#consumers = this.#consumers.filter((consumer) => consumer.source !== source);
  }

  /** Gives the names of its events back, and its part of each probe. */
  release(): void {
    this.#registry.unregister(this);
    this.#events.release();
  }

  /**
   * Works out what it means in the files that a process maps, as far as that is not known, and registers it.
   * @param maps what to take for its mappings
   * @returns the files; none while the process does not map them.
   * @throws TraplineError `no-symbol`, `no-file`, `bad-elf`, `refused`; nothing is registered then.
   */
  register(pid: Pid, maps: readonly MemoryMapping[]): readonly MappedFile[] {
    const { location } = this.definition;
    const meant = filesMeant(pid, maps, location, this.#files);
    const view = { pid, maps, files: this.#files };
    const exclude = this.#request.exclude ?? [];
    const named = meant
      .filter((file) => !this.#registry.knows(this, file))
      .map((file) => ({ file, named: namePlaces(view, file, this.definition, exclude) }));
    const at = location.kind === 'address' ? location.address : undefined;
    for (const one of named) {
      this.#registry.register(this, one.file, one.named, pid, at);
      this.#excluded.set(one.file, one.named.excluded);
      for (const unresolved of one.named.unresolved)
        this.refuse(pid, unresolved, unresolved.reason);
    }
    return meant;
  }

  /**
   * Notes what of it a process shows.
   * @param files those that it means there
   * @param found its places in the process's mappings
   * @throws TraplineError `refused` for an offset that is not mapped executable.
   */
  locate(pid: Pid, files: readonly MappedFile[], found: readonly ResolvedPlace[]): void {
    this.#isMapped = true;
    this.#compare(pid, this.#registry.placesOf(this, files, pid), found);
  }

  /** Refuses what is not among the places that were found. @returns how many places there are */
  #compare(pid: number, named: readonly NamedPlace[], found: readonly ResolvedPlace[]): number {
    for (const place of notShown(this.definition, named, found)) {
      this.refuse(pid, place, place.reason);
    }
    return named.length;
  }

  /** What is to be done at its places. @param tids tasks whose hits act; all if undefined */
  program(tids: readonly number[] | undefined): Program {
    const filters: readonly ProgramFilter[] = [
      ...(tids === undefined ? [] : [{ kind: 'tasks' as const, tids }]), // the literal
      ...this.#filters,
    ];
    return {
      arguments: this.#request.action === 'count' ? [] : this.definition.arguments,
      filter: filters.length > 1 ? { kind: 'both', filters } : filters[0],
      action: this.#request.action ?? 'record',
    };
  }

  /** A consumer is in. */
  note(place: ResolvedPlace, consumer: NotedConsumer): void {
    const handle = {
      ...consumer,
      probe: this.id,
      event: this.#events.nameOf(place),
      definition: this.definition.text,
    };
    this.#consumers.push(handle);
    this.#fresh.push(handle);
  }

  /** A place is probed in a process, or in {@link EVERY_PROCESS}. */
  noteSite(
    pid: number,
    place: ResolvedPlace,
    method: ProbedSite['method'],
    displacedBytes: number,
  ): void {
    this.#sites.push({
      pid,
      event: this.#events.nameOf(place),
      name: place.name,
      file: place.file.path,
      offset: place.offset,
      address: place.address,
      method,
      displacedBytes,
    });
  }

  /** A place is not probed in a process: told once, however often it is looked at. */
  refuse(pid: number, { name, file }: Omit<UnresolvedPlace, 'reason'>, reason: string): void {
    const told = this.#refusals.get(pid) ?? new Set();
    this.#refusals.set(pid, told);
    const key = `${file.path} ${name} ${reason}`;
    if (told.has(key)) return;
    told.add(key);
    this.#refused.push({ pid, name, file: file.path, reason });
  }

  /** It can't be added to a process at all. */
  refuseProcess(pid: Pid, error: TraplineError): void {
    const { location, text } = this.definition;
    const file = 'file' in location ? location.file : '';
    this.#refused.push({ pid, name: text, file, reason: error.message });
    this.#failure ??= error;
  }

  /**
   * Makes sure that something came of it, or still can.
   * @throws TraplineError `no-file` when no target maps the file, `refused` when no place could be probed.
   */
  ensureUse(pids: readonly Pid[]): void {
    // Of several processes the first tells for all.
    if (this.#failure !== undefined && this.#sites.length === 0) throw this.#failure;
    if (!this.#isMapped && this.#expected === 0) {
      if (this.#isUnwantedIn(pids)) return;
      throw notMapped(this.definition, pids, this.#untold);
    }
    if (this.#sites.length > 0 || this.#refused.length < this.#expected) return;
    throw this.#allRefused();
  }

  /** Whether a process maps its file and is not to get it. */
  #isUnwantedIn(pids: readonly Pid[]): boolean {
    const { location } = this.definition;
    const isMapped = (pid: Pid): boolean =>
      filesMeant(pid, mapsIfReadable(pid), location, this.#files).length > 0;
    return pids.some((pid) => !this.wants(pid) && isMapped(pid));
  }

  /** Whether it was asked for in some processes alone. */
  get isChoosy(): boolean {
    return this.#pids !== undefined;
  }

  /** What became of it so far. */
  get result(): AddedProbe {
    const { action = 'record' } = this.#request;
    const excluded = [...this.#excluded.values()].reduce((sum, count) => sum + count, 0);
    const filter = filterText(this.#request.filter);
    return {
      id: this.id,
      definition: this.definition.text,
      listing: listDefinition(this.definition, this.#events.single),
      action,
      ...(filter === undefined ? {} : { filter }),
      sites: this.#sites,
      refused: this.#refused,
      ...(excluded > 0 && { excluded }),
    };
  }

  #allRefused(): TraplineError {
    const [first] = this.#refused;
    const count = this.#refused.length;
    const what = count === 1 && first !== undefined ? first.name : `all ${count} places`;
    return new TraplineError({
      code: 'refused',
      message: `${this.definition.text}: ${what} can't be probed safely`,
      hint: groupReasons(this.#refused).slice(0, 5).join('\n'),
    });
  }
}
