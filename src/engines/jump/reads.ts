/**
 * What a program reads of the target's memory, as data: each place once, in rounds, since a pointer must have
 * arrived before what it leads to can be asked for. Those of the late filter come first.
 */

import { ensure } from '../../base/errors.ts';
import type { RecordField, RecordLayout } from '../../events/layout.ts';
import { printFetch } from '../../probe/fetch.ts';
import { elementBits, valuesOf, type FilterValue, type ProgramFilter } from '../../probe/filter.ts';
import {
  fieldsOf,
  MAX_STRING_BYTES,
  type Fetch,
  type Program,
  type ProgramArgument,
} from '../../probe/program.ts';
import { pointerOf, type Read } from './read.ts';
import { GAP_BYTES, groupReads, type ReadGroup } from './read-groups.ts';

/** TASK_COMM_LEN. */
const COMM_BYTES = 16;

/** An integer, or an array of them, that arrives in a field's slot. */
export interface IntegerPlace {
  readonly argument: ProgramArgument;
  readonly field: RecordField;
  readonly read: Read;
}

/** Text in the record, before it is moved together. */
export interface TextPlace {
  readonly argument: ProgramArgument;
  readonly field: RecordField;
  /** Of an array. */
  readonly element: number;
  readonly at: number;
  readonly capacity: number;
  /** Undefined for the task's name and constants, which always arrive. */
  readonly read: Read | undefined;
}

/** Where a term of the late filter finds its value. */
export interface FilterPlace {
  readonly at: number;
  readonly bytes: number;
  /** Undefined for the task's name. */
  readonly read: Read | undefined;
}

/** Everything that a program reads. */
export class ReadPlan {
  readonly integers: IntegerPlace[] = [];
  /** In the order of their places. */
  readonly texts: TextPlace[] = [];
  /** For the late filter, in rounds. */
  readonly filterGroups: readonly ReadGroup[];
  /** For the record, in rounds. */
  readonly recordGroups: readonly ReadGroup[];
  /** Where what nobody asked for may go, and behind it, {@link GAP_BYTES} on, an iovec. */
  readonly spare: number;
  /** Where the task's name goes for the late filter. */
  readonly filterName: number | undefined;
  readonly #record: RecordLayout;
  readonly #reads = new Map<string, Read>();
  readonly #pointers = new Map<string, Read>();
  readonly #values = new Map<FilterValue, FilterPlace>();
  #work: number;

  constructor(program: Program, record: RecordLayout, late: ProgramFilter | undefined) {
    this.#record = record;
    this.#work = record.scratchOffset;
    this.#placeFields(program);
    const values = late === undefined ? [] : valuesOf(late);
    this.filterName = values.some(isTaskName) ? this.#take(COMM_BYTES) : undefined;
    const wanted = new Set<Read>();
    for (const value of values) {
      const place = this.#values.get(value) ?? this.#placeValue(value);
      if (place === undefined) continue;
      this.#values.set(value, place);
      for (let read = place.read; read !== undefined; read = pointerOf(read)?.read)
        wanted.add(read);
    }
    const all = [...this.#reads.values()];
    const take = (bytes: number): number => this.#take(bytes);
    const ofFilter = all.filter((read) => wanted.has(read));
    const ofRecord = all.filter((read) => !wanted.has(read));
    this.filterGroups = groupReads(ofFilter, take);
    this.recordGroups = groupReads(ofRecord, take);
    this.spare = take(all.length > 0 ? GAP_BYTES + 16 : 0);
    ensure(this.#work <= record.maxBytes, 'the working area holds what is read');
  }

  /** Where the late filter finds a value; undefined for what is no memory. */
  placeOf(value: FilterValue): FilterPlace | undefined {
    return this.#values.get(value);
  }

  #take(bytes: number): number {
    const at = this.#work;
    this.#work += (bytes + 7) & ~7;
    return at;
  }

  #placeFields(program: Program): void {
    let textAt = this.#record.fixedBytes;
    const rooms = fieldsOf(program);
    program.arguments.forEach((argument, index) => {
      const field = this.#record.fields[index];
      ensure(field !== undefined, `argument ${argument.name} has no field`);
      if (argument.type === 'string') {
        const capacity = rooms[index]?.maxLength ?? 0;
        for (let element = 0; element < (argument.count ?? 1); element++) {
          const read = this.#textRead(argument, element, textAt, capacity);
          this.texts.push({ argument, field, element, at: textAt, capacity, read });
          textAt += capacity;
        }
      } else if (isMemory(argument.fetch)) {
        const bytes = (elementBits(argument.type) / 8) * (argument.count ?? 1);
        const read = this.#read(asLoad(argument.fetch), bytes, field.offset);
        this.integers.push({ argument, field, read });
      }
    });
  }

  /** The read of one string; of an array, through the pointers that lie side by side. */
  #textRead(
    { fetch, count }: ProgramArgument,
    element: number,
    at: number,
    capacity: number,
  ): Read | undefined {
    if (fetch.kind !== 'load') return undefined;
    if (count === undefined) return this.#text(fetch, at, capacity);
    const pointers = this.#pointer(fetch, count);
    const pointer = {
      read: pointers,
      at: pointers.arrivesAt + element * 8,
      needs: (element + 1) * 8,
    };
    const key = `${printFetch(fetch)}:${element}:${at}`;
    return this.#add(key, {
      base: { pointer },
      offset: 0n,
      bytes: capacity,
      isPartial: true,
      isText: true,
      arrivesAt: at,
      local: 0,
    });
  }

  #text(fetch: Load, at: number, capacity: number): Read {
    const { base, offset } = fetch;
    const key = `${printFetch(fetch)}:text:${at}`;
    return this.#add(key, {
      base: this.#baseOf(base),
      offset,
      bytes: capacity,
      isPartial: true,
      isText: true,
      arrivesAt: at,
      local: 0,
    });
  }

  #read(fetch: Load, bytes: number, at: number): Read {
    const { base, offset } = fetch;
    const key = `${printFetch(fetch)}:${bytes}:${at}`;
    return this.#add(key, {
      base: this.#baseOf(base),
      offset,
      bytes,
      isPartial: false,
      isText: false,
      arrivesAt: at,
      local: 0,
    });
  }

  /** Pointers side by side: fewer than all may arrive. */
  #pointer(fetch: Load, count: number): Read {
    const name = `${printFetch(fetch)}*${count}`;
    const known = this.#pointers.get(name);
    if (known !== undefined) return known;
    const { base, offset } = fetch;
    const bytes = count * 8;
    const read = this.#add(name, {
      base: this.#baseOf(base),
      offset,
      bytes,
      isPartial: count > 1,
      isText: false,
      arrivesAt: this.#take(bytes),
      local: 0,
    });
    this.#pointers.set(name, read);
    return read;
  }

  #baseOf(fetch: Fetch): Read['base'] {
    if (!isMemory(fetch)) return { fetch };
    const read = this.#pointer(asLoad(fetch), 1);
    return { pointer: { read, at: read.arrivesAt, needs: 8 } };
  }

  #placeValue(value: FilterValue): FilterPlace | undefined {
    if (isTaskName(value)) {
      ensure(this.filterName !== undefined, 'the name has its place');
      return { at: this.filterName, bytes: COMM_BYTES, read: undefined };
    }
    if (value.kind !== 'argument' || !isMemory(value.argument.fetch)) return undefined;
    const { argument } = value;
    const fetch = asLoad(argument.fetch);
    const read = this.#fieldRead(argument) ?? this.#valueRead(argument, fetch);
    return { at: read.arrivesAt, bytes: read.bytes, read };
  }

  /** What a field reads anyway. */
  #fieldRead({ fetch, type, count }: ProgramArgument): Read | undefined {
    const key = printFetch(fetch);
    const isSame = (other: ProgramArgument): boolean =>
      other.type === type && other.count === count && printFetch(other.fetch) === key;
    return (
      this.integers.find(({ argument }) => isSame(argument))?.read ??
      this.texts.find(({ argument }) => isSame(argument))?.read
    );
  }

  #valueRead({ type, count }: ProgramArgument, fetch: Load): Read {
    if (type !== 'string') {
      return this.#read(fetch, (elementBits(type) / 8) * (count ?? 1), this.#take(8));
    }
    const text = count === undefined ? fetch : ({ kind: 'load', base: fetch, offset: 0n } as const); // the literal
    return this.#text(text, this.#take(MAX_STRING_BYTES), MAX_STRING_BYTES);
  }

  #add(key: string, read: Read): Read {
    const known = this.#reads.get(key);
    if (known !== undefined) return known;
    this.#reads.set(key, read);
    return read;
  }
}

/** Whether a fetch reads memory. */
export function isMemory(fetch: Fetch): boolean {
  return fetch.kind === 'load' || fetch.kind === 'stack';
}

/** Whether a term is about the task's name. */
export function isTaskName(value: FilterValue): boolean {
  return (
    value.kind === 'comm' || (value.kind === 'argument' && value.argument.fetch.kind === 'comm')
  );
}

type Load = Extract<Fetch, { readonly kind: 'load' }>;

function asLoad(fetch: Fetch): Load {
  if (fetch.kind === 'load') return fetch;
  ensure(fetch.kind === 'stack', `a ${fetch.kind} is not read through a pointer`);
  const base = { kind: 'register', register: 'rsp' } as const; // the literals
  return { kind: 'load', base, offset: BigInt(fetch.index) * 8n };
}
