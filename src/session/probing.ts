/** Adding a probe to targets: resolve, plan, install, and say what became of every place. */

import type { Pid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import type { ConsumerRequest } from '../engines/jump/prepare.ts';
import { readProcessMaps } from '../engines/jump/spaces.ts';
import type { FailedRequest, JumpTarget } from '../engines/jump/target.ts';
import { parseDefinition, type ProbeDefinition } from '../probe/definition.ts';
import { parseFilter } from '../probe/filter-text.ts';
import type { ProgramFilter } from '../probe/filter.ts';
import { generateEventName, type EventName, type EventNames } from '../probe/names.ts';
import { layoutOf, type Program } from '../probe/program.ts';
import { splitDeviceText, type FileCache } from './files.ts';
import { notMapped } from './not-mapped.ts';
import { CONSUMER_CAPACITY } from './options.ts';
import type { ConsumerHandle } from './protocol.ts';
import { resolveDefinition, type ResolvedPlace } from './resolve.ts';
import type { AddedProbe, ProbedSite, ProbeRequest, RefusedSite } from './types.ts';

/** A process that probes are added to. */
export interface ProbeTarget {
  readonly pid: Pid;
  readonly jump: JumpTarget;
  /** Tasks whose hits are events, as the target's pid namespace numbers them; all if undefined. */
  readonly tids: readonly number[] | undefined;
  /** The next free index in its segment. */
  nextConsumer: number;
}

/**
 * Adds probes to a target, all in one stop.
 * @returns those whose file the target does not map; nothing was done about them.
 * @throws TraplineError as resolving and stopping do.
 */
export function addToTarget(
  target: ProbeTarget,
  additions: readonly ProbeAddition[],
): ProbeAddition[] {
  const prepared = additions.map((addition) => ({ addition, requests: addition.prepare(target) }));
  const all = prepared.flatMap(({ requests }) => [...(requests?.keys() ?? [])]);
  const failed = all.length > 0 ? target.jump.add(all) : [];
  return prepared.flatMap(({ addition, requests }) => {
    if (requests === undefined) return [addition];
    addition.settle(target, requests, failed);
    return [];
  });
}

/** A request, parsed, while it is added to one target after another. */
export class ProbeAddition {
  readonly id: number;
  readonly definition: ProbeDefinition;
  readonly consumers: ConsumerHandle[] = [];
  readonly #request: ProbeRequest;
  /** The event filters, which hold all together. */
  readonly #filters: readonly ProgramFilter[];
  readonly #files: FileCache;
  readonly #names: EventNames;
  /** One event for one place of a file, in whatever process. */
  readonly #events = new Map<string, EventName>();
  readonly #sites: ProbedSite[] = [];
  readonly #refused: RefusedSite[] = [];
  #isMapped = false;

  /** @throws TraplineError `bad-definition`. */
  constructor(id: number, request: ProbeRequest, files: FileCache, names: EventNames) {
    this.id = id;
    this.definition = parseDefinition(request.definition);
    refuseLater(this.definition);
    this.#filters = filtersOf(this.definition, request.filter);
    this.#request = request;
    this.#files = files;
    this.#names = names;
  }

  /** Whether some target maps the file. */
  get isMapped(): boolean {
    return this.#isMapped;
  }

  /** The names of the events that were made. */
  get events(): readonly EventName[] {
    return [...this.#events.values()];
  }

  /**
   * Works out what the probe means in a target.
   * @returns the consumers to be added, each with its place; undefined if the target does not map the file.
   * @throws TraplineError as resolving does.
   */
  prepare(target: ProbeTarget): Map<ConsumerRequest, ResolvedPlace> | undefined {
    const maps = readProcessMaps(target.pid);
    const exclude = this.#request.exclude ?? [];
    const resolution = resolveDefinition(target.pid, maps, this.definition, exclude, this.#files);
    if (resolution === undefined) return undefined;
    this.#isMapped = true;
    for (const { file, name, reason } of resolution.unresolved) {
      this.#refused.push({ pid: target.pid, name, file: file.path, reason });
    }
    return this.#plan(target, resolution.places);
  }

  /** Notes what became of the consumers of {@link prepare}. */
  settle(
    target: ProbeTarget,
    requests: ReadonlyMap<ConsumerRequest, ResolvedPlace>,
    failed: readonly FailedRequest[],
  ): void {
    const reasons = new Map(failed.map(({ request, reason }) => [request, reason]));
    for (const [request, place] of requests) {
      const reason = reasons.get(request);
      if (reason === undefined) this.#note(target, request, place);
      else this.#refuse(target, place, reason);
    }
  }

  /**
   * What became of it.
   * @throws TraplineError `no-file` when no target maps the file, `refused` when no place could be probed.
   */
  result(pids: readonly Pid[]): AddedProbe {
    if (!this.#isMapped) throw notMapped(this.definition, pids);
    if (this.#sites.length === 0) throw this.#allRefused();
    return {
      id: this.id,
      definition: this.definition.text,
      sites: this.#sites,
      refused: this.#refused,
    };
  }

  #programFor(target: ProbeTarget): Program {
    const filters: readonly ProgramFilter[] = [
      ...(target.tids === undefined ? [] : [{ kind: 'tasks' as const, tids: target.tids }]), // the literal
      ...this.#filters,
    ];
    return {
      arguments: this.#request.action === 'count' ? [] : this.definition.arguments,
      filter: filters.length > 1 ? { kind: 'both', filters } : filters[0],
      action: this.#request.action ?? 'record',
    };
  }

  /** Plans the places of each file together: its text is searched once. */
  #plan(
    target: ProbeTarget,
    places: readonly ResolvedPlace[],
  ): Map<ConsumerRequest, ResolvedPlace> {
    const program = this.#programFor(target);
    const requests = new Map<ConsumerRequest, ResolvedPlace>();
    for (const file of new Set(places.map((place) => place.file))) {
      const inFile = places.filter((place) => place.file === file);
      const plans = file.planner.plan(inFile.map(({ offset }) => offset));
      inFile.forEach((place, index) => {
        const plan = plans[index];
        if (plan === undefined || plan.kind === 'refused') {
          this.#refuse(target, place, plan?.reason ?? 'it was not planned');
          return;
        }
        // A stub's counter behind the last one would lie in a ring.
        if (target.nextConsumer >= CONSUMER_CAPACITY) {
          const limit = `a session can have ${CONSUMER_CAPACITY} places in one process`;
          this.#refuse(target, place, `${limit}, removed ones included: begin another session`);
          return;
        }
        requests.set(
          {
            plan,
            address: place.address,
            program,
            probe: this.id,
            file: {
              ...splitDeviceText(file.device),
              inode: file.inode,
            },
            consumer: target.nextConsumer++,
          },
          place,
        );
      });
    }
    return requests;
  }

  #note(target: ProbeTarget, request: ConsumerRequest, place: ResolvedPlace): void {
    const { group, event } = this.#eventFor(place);
    const { consumer, program } = request;
    const layout = layoutOf(program);
    const name = `${group}:${event}`;
    this.consumers.push({
      pid: target.pid,
      consumer,
      probe: this.id,
      event: name,
      layout,
      program,
      definition: this.definition.text,
      address: place.address,
    });
    this.#sites.push({
      pid: target.pid,
      event: name,
      name: place.name,
      file: place.file.path,
      offset: place.offset,
      address: place.address,
      displacedBytes: request.plan.displaced.byteLength,
    });
  }

  #refuse(target: ProbeTarget, place: ResolvedPlace, reason: string): void {
    this.#refused.push({ pid: target.pid, name: place.name, file: place.file.path, reason });
  }

  #eventFor(place: ResolvedPlace): EventName {
    const key = `${place.file.device}:${place.file.inode}:${place.offset}`;
    const known = this.#events.get(key);
    if (known !== undefined) return known;
    const { location, group, event } = this.definition;
    const named =
      location.kind === 'function' && place.eventName !== undefined
        ? { ...location, name: place.eventName, isGlob: false }
        : location;
    const generated = generateEventName(named);
    const wanted = { group: group ?? generated.group, event: event ?? generated.event };
    const name = this.#names.take(wanted);
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

/**
 * The filter of the definition and that of the request.
 * @throws TraplineError `bad-definition`.
 */
function filtersOf(definition: ProbeDefinition, filter: string | undefined): ProgramFilter[] {
  const own = definition.filter === undefined ? [] : [definition.filter];
  if (filter === undefined) return own;
  return [...own, parseFilter(filter, { text: filter, column: 0 }, definition.arguments)];
}

/** @throws TraplineError `unsupported` for what is understood, but can't be done yet. */
function refuseLater({ isReturn, reference, text }: ProbeDefinition): void {
  if (isReturn === true) {
    throw new TraplineError({
      code: 'unsupported',
      message: `${text}: return probes are understood, but this version can't make them yet`,
      hint: 'Probe the entry of the function, or the places at which it returns (FUNC+OFFSET@FILE).',
    });
  }
  if (reference === undefined) return;
  throw new TraplineError({
    code: 'unsupported',
    message: `${text}: a reference counter is understood, but this version can't raise it yet`,
    hint: 'Leave the (REF_CTR) away if the code behind the counter runs without it.',
  });
}

/** The reasons of refusals, each once, the commonest first, with how often it came. */
function groupReasons(refused: readonly RefusedSite[]): string[] {
  if (refused.length === 1) return refused.map(({ reason }) => reason);
  const counts = new Map<string, { count: number; example: string }>();
  for (const { reason, name } of refused) {
    const general = reason.replace(/0x[0-9a-f]+/g, '0x…');
    const known = counts.get(general);
    if (known === undefined) counts.set(general, { count: 1, example: name });
    else known.count++;
  }
  return [...counts]
    .sort(([, a], [, b]) => b.count - a.count)
    .map(([reason, { count, example }]) => `${count} × ${reason} (${example})`);
}
