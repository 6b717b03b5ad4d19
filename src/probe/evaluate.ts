/**
 * Programs evaluated directly, for engines that stop a task at its hit and can look at it: the second back
 * end, equal in every value to the machine code of the jump engine.
 */

import { TraplineError, unreachable } from '../base/errors.ts';
import { FAULT, type EventValue, type SingleValue } from '../events/event.ts';
import { elementBytes } from '../events/layout.ts';
import { narrow, widthOf } from '../events/view.ts';
import {
  elementBits,
  integerTypeOf,
  isTextValue,
  withinType,
  type FilterTree,
  type FilterValue,
  type ProgramFilter,
} from './filter.ts';
import { matchesPattern } from './pattern.ts';
import {
  fieldsOf,
  MAX_STRING_BYTES,
  type Fetch,
  type Program,
  type ProgramArgument,
  type RegisterName,
} from './program.ts';

/** A task at its hit. */
export interface HitState {
  /** A register as it was, from 0 to 2^64 - 1. */
  register(name: RegisterName): bigint;
  /** Reads memory: the first of `length` bytes from an address on, as many as can be read. */
  read(address: bigint, length: number): Uint8Array;
  /** The task's name. */
  readonly comm: string;
  /** As its own pid namespace numbers it. */
  readonly tid: number;
  readonly processor: number;
  /** The address of the site. */
  readonly site: bigint;
  /** Where the site is in its file. */
  readonly fileOffset: bigint;
  /** What the function returned, at a return. */
  readonly returned?: bigint;
}

/** What a program makes of a hit. */
export interface Evaluation {
  /** Whether the filter let it pass. */
  readonly passes: boolean;
  /** Of the arguments, in their order; none where it did not pass. */
  readonly values: readonly EventValue[];
}

/** Evaluates a program: its filter first, then what it fetches. */
export function evaluate(program: Program, state: HitState): Evaluation {
  const evaluator = new Evaluator(program, state);
  if (program.filter !== undefined && !evaluator.holds(program.filter)) {
    return { passes: false, values: [] };
  }
  return { passes: true, values: program.arguments.map((argument) => evaluator.value(argument)) };
}

class Evaluator {
  readonly #state: HitState;
  readonly #capacities: ReadonlyMap<ProgramArgument, number>;

  constructor(program: Program, state: HitState) {
    this.#state = state;
    const fields = fieldsOf(program);
    this.#capacities = new Map(
      program.arguments.map((argument, at) => [argument, fields[at]?.maxLength ?? 0]),
    );
  }

  /** An argument as an event shows it. */
  value(argument: ProgramArgument): EventValue {
    const { type, count } = argument;
    if (type === 'string') {
      if (count === undefined) return textOf(this.#text(argument, 0));
      return Array.from({ length: count }, (_, at) => textOf(this.#text(argument, at)));
    }
    const bytes = this.#bytes(argument);
    if (bytes === undefined) return FAULT;
    const size = elementBytes(type);
    const values = Array.from({ length: count ?? 1 }, (_, at) =>
      shown(argument, integerIn(bytes, at * size, size)),
    );
    return count === undefined ? (values[0] ?? FAULT) : values;
  }

  holds(filter: ProgramFilter): boolean {
    switch (filter.kind) {
      case 'both':
        return filter.filters.every((part) => this.holds(part));
      case 'all':
        return filter.terms.every((term) => this.holds(term));
      case 'any':
        return filter.terms.some((term) => this.holds(term));
      case 'not':
        return !this.holds(filter.term);
      case 'tasks':
        return filter.tids.includes(this.#state.tid);
      case 'match': {
        const text = this.#filterText(filter.value);
        return text !== undefined && matchesPattern(filter.pattern, text) !== filter.isNegated;
      }
      case 'compare':
        return this.#compares(filter);
      default:
        return unreachable(filter);
    }
  }

  #compares({
    value,
    operator,
    operand,
  }: Extract<FilterTree, { readonly kind: 'compare' }>): boolean {
    const found = this.#filterInteger(value);
    if (found === undefined) return false;
    switch (operator) {
      case '==':
        return found === operand;
      case '!=':
        return found !== operand;
      case '<':
        return found < operand;
      case '<=':
        return found <= operand;
      case '>':
        return found > operand;
      case '>=':
        return found >= operand;
      case '&':
        return (found & operand) !== 0n;
      default:
        return unreachable(operator);
    }
  }

  #filterInteger(value: FilterValue): bigint | undefined {
    const type = integerTypeOf(value);
    if (type === undefined) return undefined;
    switch (value.kind) {
      case 'task':
        return BigInt(this.#state.tid);
      case 'processor':
        return BigInt(this.#state.processor);
      case 'site':
        return this.#state.site;
      case 'comm':
        return undefined;
      case 'argument': {
        const { argument } = value;
        const bytes = this.#bytes(argument);
        if (bytes === undefined) return undefined;
        const size = elementBytes(argument.type);
        let whole = 0n;
        for (let at = 0; at * size < bytes.length; at++) {
          const element = bitsOf(argument, integerIn(bytes, at * size, size));
          whole |= element << BigInt(at * size * 8);
        }
        return withinType(whole, type);
      }
      default:
        return unreachable(value);
    }
  }

  #filterText(value: FilterValue): Uint8Array | undefined {
    if (!isTextValue(value)) return undefined;
    if (value.kind !== 'argument') return Buffer.from(this.#state.comm);
    return this.#text(value.argument, 0);
  }

  /** The bytes of an integer, or of an array of them; undefined where not all could be read. */
  #bytes({ fetch, type, count = 1 }: ProgramArgument): Uint8Array | undefined {
    const length = (elementBits(type) / 8) * count;
    const at = this.#placeOf(fetch);
    if (at === 'none') {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64LE(this.#word(fetch) ?? 0n);
      return bytes.subarray(0, length);
    }
    const bytes = at === undefined ? undefined : this.#state.read(at, length);
    return bytes?.length === length ? bytes : undefined;
  }

  /** A string's bytes up to its NUL; undefined where its end is not known. */
  #text(argument: ProgramArgument, element: number): Uint8Array | undefined {
    const { fetch, count } = argument;
    if (fetch.kind === 'comm') return Buffer.from(this.#state.comm);
    if (fetch.kind === 'text') return Buffer.from(fetch.text);
    let at = this.#placeOf(fetch);
    if (count !== undefined && typeof at === 'bigint') {
      const bytes = this.#state.read(wrapped(at + BigInt(element * 8)), 8);
      at = bytes.length === 8 ? integerIn(bytes, 0, 8) : undefined;
    }
    if (typeof at !== 'bigint') return undefined;
    const capacity = this.#capacities.get(argument) ?? MAX_STRING_BYTES;
    const bytes = this.#state.read(at, capacity);
    const end = bytes.indexOf(0);
    if (end >= 0) return bytes.subarray(0, end);
    return bytes.length === capacity ? bytes : undefined;
  }

  /** Where a fetch's memory is: `none` for what is no memory, undefined behind a pointer that can't be read. */
  #placeOf(fetch: Fetch): bigint | 'none' | undefined {
    if (fetch.kind === 'stack') {
      return wrapped(this.#state.register('rsp') + BigInt(fetch.index) * 8n);
    }
    if (fetch.kind !== 'load') return 'none';
    const base = this.#word(fetch.base);
    return base === undefined ? undefined : wrapped(base + fetch.offset);
  }

  /** A fetch as a 64-bit word. */
  #word(fetch: Fetch): bigint | undefined {
    switch (fetch.kind) {
      case 'register':
        return this.#state.register(fetch.register);
      case 'immediate':
        return fetch.value;
      case 'file':
        return wrapped(this.#state.site - this.#state.fileOffset + fetch.offset);
      case 'return-value':
        return this.#state.returned;
      case 'load':
      case 'stack': {
        const at = this.#placeOf(fetch);
        const bytes = typeof at === 'bigint' ? this.#state.read(at, 8) : undefined;
        return bytes?.length === 8 ? integerIn(bytes, 0, 8) : undefined;
      }
      case 'comm':
      case 'text':
        throw new TraplineError({ code: 'internal', message: `a ${fetch.kind} is no word` });
      default:
        return unreachable(fetch);
    }
  }
}

function wrapped(value: bigint): bigint {
  return BigInt.asUintN(64, value);
}

function integerIn(bytes: Uint8Array, at: number, size: number): bigint {
  let value = 0n;
  for (let byte = size - 1; byte >= 0; byte--)
    value = (value << 8n) | BigInt(bytes[at + byte] ?? 0);
  return value;
}

function bitsOf({ bits }: ProgramArgument, value: bigint): bigint {
  if (bits === undefined) return value;
  return BigInt.asUintN(bits.width, value >> BigInt(bits.offset));
}

/** One integer as an event shows it. */
function shown(argument: ProgramArgument, raw: bigint): SingleValue {
  const { type } = argument;
  const value = bitsOf(argument, raw);
  if (type === 'char') return String.fromCharCode(Number(value));
  if (widthOf(type) === 64) return type === 's64' ? BigInt.asIntN(64, value) : value;
  return narrow(type, Number(value));
}

function textOf(bytes: Uint8Array | undefined): SingleValue {
  return bytes === undefined ? FAULT : Buffer.from(bytes).toString('utf8');
}
