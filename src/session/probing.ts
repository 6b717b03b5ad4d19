/** A probe while it is added: what it means in each target, and what became of every place. */

import { pid as brandPid, type Pid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { readProcessMaps } from '../engines/jump/spaces.ts';
import {
  joinRefusal,
  parseDefinition,
  shapeOf,
  type ProbeDefinition,
} from '../probe/definition.ts';
import type { ProgramFilter } from '../probe/filter.ts';
import {
  generateEventName,
  type EventName,
  type EventNames,
  type EventShape,
} from '../probe/names.ts';
import type { Program } from '../probe/program.ts';
import type { MemoryMapping } from '../process/maps.ts';
import type { FileCache } from './files.ts';
import { notMapped } from './not-mapped.ts';
import type { ConsumerHandle, WantedProbe } from './protocol.ts';
import { filtersOf, refuseLater } from './requested.ts';
import { groupReasons } from './refusals.ts';
import { resolveDefinition, type ResolvedPlace } from './resolve.ts';
import type { AddedProbe, ProbedSite, RefusedSite } from './types.ts';

/** What an engine knows of a consumer that is in. */
export type NotedConsumer = Omit<ConsumerHandle, 'probe' | 'event' | 'definition'>;

/** Stands for a process where every one is meant. */
export const EVERY_PROCESS = 0;

/** An event that a definition names. */
interface NamedEvent {
  readonly name: EventName;
  readonly shape: EventShape;
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
  readonly #names: EventNames;
  /** The event that the definition names, for all its places. */
  readonly #named: NamedEvent | undefined;
  /** One event for one place of a file, in whatever process. */
  readonly #events = new Map<string, EventName>();
  #sites: ProbedSite[] = [];
  #refused: RefusedSite[] = [];
  #isMapped = false;
  #isExpected = false;
  #failure: TraplineError | undefined;

  /** @throws TraplineError `bad-definition`. */
  constructor(id: number, request: WantedProbe, files: FileCache, names: EventNames) {
    this.id = id;
    this.definition = parseDefinition(request.definition);
    refuseLater(this.definition);
    this.#filters = filtersOf(this.definition, request.filter);
    this.#request = request;
    this.#pids = request.pids && new Set(request.pids);
    this.#files = files;
    this.#names = names;
    this.#named = this.#join();
  }

  /** Its consumers, in every process. */
  get consumers(): readonly ConsumerHandle[] {
    return this.#consumers;
  }

  /** The processes that are to get it by name: none where every target is. */
  get pids(): readonly Pid[] {
    return [...(this.#pids ?? [])].map((pid) => brandPid(pid));
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
   * @throws TraplineError as resolving does: `no-symbol`, `bad-elf`.
   */
  expect(pid: Pid, maps: readonly MemoryMapping[]): readonly ResolvedPlace[] {
    const exclude = this.#request.exclude ?? [];
    const found = resolveDefinition(pid, maps, this.definition, exclude, this.#files);
    this.#isExpected = found !== undefined;
    return found?.places ?? [];
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
    this.#consumers = this.#consumers.filter((consumer) => consumer.source !== source);
  }

  /** Gives the names of its events back. */
  releaseNames(): void {
    if (this.#named !== undefined) this.#names.release(this.#named.name, this.#named.shape);
    for (const name of this.#events.values()) {
      if (name !== this.#named?.name) this.#names.release(name);
    }
    this.#events.clear();
  }

  /**
   * Works out what the probe means in a process.
   * @param maps what to take for its mappings, if not those that it has
   * @returns the places; undefined if the process does not map the file.
   * @throws TraplineError as resolving does.
   */
  resolve(
    pid: Pid,
    maps: readonly MemoryMapping[] = readProcessMaps(pid),
  ): readonly ResolvedPlace[] | undefined {
    const exclude = this.#request.exclude ?? [];
    const resolution = resolveDefinition(pid, maps, this.definition, exclude, this.#files);
    if (resolution === undefined) return undefined;
    this.#isMapped = true;
    for (const { file, name, reason } of resolution.unresolved) {
      this.#refused.push({ pid, name, file: file.path, reason });
    }
    return resolution.places;
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
      event: this.#nameOf(place),
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
      event: this.#nameOf(place),
      name: place.name,
      file: place.file.path,
      offset: place.offset,
      address: place.address,
      method,
      displacedBytes,
    });
  }

  /** A place is not probed in a process. */
  refuse(pid: number, place: ResolvedPlace, reason: string): void {
    this.#refused.push({ pid, name: place.name, file: place.file.path, reason });
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
    if (!this.#isMapped && !this.#isExpected) throw notMapped(this.definition, pids);
    if (this.#sites.length > 0 || (this.#isExpected && this.#refused.length === 0)) return;
    throw this.#allRefused();
  }

  /** What became of it so far. */
  get result(): AddedProbe {
    return {
      id: this.id,
      definition: this.definition.text,
      sites: this.#sites,
      refused: this.#refused,
    };
  }

  /**
   * Joins the event that the definition names, which others may have named.
   * @throws TraplineError `bad-definition`.
   */
  #join(): NamedEvent | undefined {
    const { location, group, event } = this.definition;
    if (event === undefined) return undefined;
    const name = { group: group ?? generateEventName(location).group, event };
    const shape = shapeOf(this.definition);
    const problem = this.#names.join(name, shape);
    if (problem !== undefined) throw joinRefusal(this.definition, problem);
    return { name, shape };
  }

  #nameOf(place: ResolvedPlace): string {
    const { group, event } = this.#eventFor(place);
    return `${group}:${event}`;
  }

  #eventFor(place: ResolvedPlace): EventName {
    const key = `${place.file.device}:${place.file.inode}:${place.offset}`;
    const known = this.#events.get(key);
    if (known !== undefined) return known;
    if (this.#named !== undefined) {
      this.#events.set(key, this.#named.name);
      return this.#named.name;
    }
    const { location, group } = this.definition;
    const named =
      location.kind === 'function' && place.eventName !== undefined
        ? { ...location, name: place.eventName, isGlob: false }
        : location;
    const generated = generateEventName(named);
    const name = this.#names.take({ group: group ?? generated.group, event: generated.event });
    this.#events.set(key, name);
    return name;
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
