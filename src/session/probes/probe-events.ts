/** The names of the events of one probe request. */

import { joinRefusal, shapeOf, type ProbeDefinition } from '../../probe/definition.ts';
import {
  generateEventName,
  type EventName,
  type EventNames,
  type EventShape,
} from '../../probe/names.ts';
import type { MappedFile } from '../files/files.ts';
import type { NamedPlace } from './resolve.ts';

/** An event that a definition names. */
interface NamedEvent {
  readonly name: EventName;
  readonly shape: EventShape;
}

/**
 * One event for one place of a file, in whatever process; or the one that the definition names, for all its places.
 * Files with the same path are one in this: versions of it after an upgrade, and those of containers.
 */
export class ProbeEvents {
  readonly #definition: ProbeDefinition;
  readonly #names: EventNames;
  readonly #named: NamedEvent | undefined;
  /** By place. */
  readonly #events = new Map<string, EventName>();
  /** By path and name of a place: the events of all places so called in a file, and which of them each file has. */
  readonly #generated = new Map<string, { names: EventName[]; used: Map<MappedFile, number> }>();

  /**
   * Joins the event that the definition names, which others may have named.
   * @throws TraplineError `bad-definition`.
   */
  constructor(definition: ProbeDefinition, names: EventNames) {
    this.#definition = definition;
    this.#names = names;
    this.#named = this.#join();
  }

  /** `GROUP:EVENT` of a place. */
  nameOf(place: NamedPlace): string {
    const { group, event } = this.#eventOf(place);
    return `${group}:${event}`;
  }

  /** The event of all its places; undefined where it has several, or none yet that nobody named. */
  get single(): EventName | undefined {
    const names = new Set(this.#events.values());
    const [first] = names;
    return this.#named?.name ?? (names.size === 1 ? first : undefined);
  }

  /** Gives the names back. */
  release(): void {
    if (this.#named !== undefined) this.#names.release(this.#named.name, this.#named.shape);
    for (const { names } of this.#generated.values()) {
      for (const name of names) this.#names.release(name);
    }
    this.#events.clear();
    this.#generated.clear();
  }

  #join(): NamedEvent | undefined {
    const { location, group, event } = this.#definition;
    if (event === undefined) return undefined;
    const name = { group: group ?? generateEventName(location).group, event };
    const shape = shapeOf(this.#definition);
    const problem = this.#names.join(name, shape);
    if (problem !== undefined) throw joinRefusal(this.#definition, problem);
    return { name, shape };
  }

  #eventOf({ file, offset, eventName }: NamedPlace): EventName {
    const key = `${file.device}:${file.inode}:${offset}`;
    const known = this.#events.get(key);
    if (known !== undefined) return known;
    const name = this.#named?.name ?? this.#shared(file, eventName);
    this.#events.set(key, name);
    return name;
  }

  /** The event that another file of this path has for the place, else a new one. */
  #shared(file: MappedFile, eventName: string | undefined): EventName {
    const key = `${file.path}\0${eventName ?? ''}`;
    const known = this.#generated.get(key) ?? { names: [], used: new Map<MappedFile, number>() };
    this.#generated.set(key, known);
    // Several functions of a file may have one name (overloads): they are told apart by their order.
    const at = known.used.get(file) ?? 0;
    known.used.set(file, at + 1);
    return (known.names[at] ??= this.#generate(eventName));
  }

  #generate(eventName: string | undefined): EventName {
    const { location, group } = this.#definition;
    const named =
      location.kind === 'function' && eventName !== undefined
        ? { ...location, name: eventName, isGlob: false }
        : location;
    const generated = generateEventName(named);
    return this.#names.take({ group: group ?? generated.group, event: generated.event });
  }
}
