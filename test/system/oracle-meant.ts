/** In which values the kernel and we differ on purpose: docs/probes.md has the same with all others. */

import { FAULT, type EventValue } from '../../src/index.ts';
import { isWhole, readable, type OracleArgument } from './oracle-definitions.ts';
import type { Case, Seen } from './oracle-support.ts';

/** One value as both have it. */
export interface Difference {
  readonly argument: OracleArgument;
  readonly one: Case;
  readonly theirs: EventValue;
  readonly ours: EventValue;
  /** Ours of the same argument where the pointer is that of another case. */
  readonly elsewhere: (name: string) => EventValue;
}

/** A difference that is meant. */
export interface MeantDifference {
  readonly reason: string;
  readonly applies: (difference: Difference) => boolean;
}

/** Each applies to some value of a round. */
export const MEANT: readonly MeantDifference[] = [
  {
    reason: 'an integer that can not be read is 0 for the kernel, or the part that can be read',
    applies: ({ argument, one, theirs, ours }) =>
      isWhole(argument, one) === false && ours === FAULT && isZeroOrPart(argument, one, theirs),
  },
  {
    reason:
      'the kernel shows, of a text that runs into memory that can not be read, as much as the texts behind it ' +
      'would have taken, and those as faults',
    applies: ({ argument, one, ours, elsewhere }) =>
      argument.reach === 'texts' &&
      one.name.startsWith('open') &&
      show(ours) === show(withoutOpen(elsewhere('short'), elsewhere('digits'))),
  },
  {
    reason: 'the kernel takes what it could read of a pointer for a pointer, or the text beside it',
    applies: ({ argument, one, ours }) =>
      argument.body.includes('(%si):string[') &&
      one.after < 8 &&
      Array.isArray(ours) &&
      ours.every((value) => value === FAULT),
  },
];

/** A value as text. */
export function show(value: EventValue): string {
  if (value === FAULT) return '(fault)';
  if (Array.isArray(value)) return `{${value.map(show).join(',')}}`;
  return typeof value === 'string' ? JSON.stringify(value) : `${typeof value} ${String(value)}`;
}

/** Whether a hit's value is a fault, in all its elements. */
export function isFault(value: Seen['args'][string]): boolean {
  return Array.isArray(value) ? value.every((one) => one === FAULT) : value === FAULT;
}

/** What depends on the pointer is a fault where its text has no end. */
function withoutOpen(one: EventValue, other: EventValue): EventValue {
  if (!Array.isArray(one) || !Array.isArray(other)) return show(one) === show(other) ? one : FAULT;
  return one.map((value, at) => (show(value) === show(other[at] ?? FAULT) ? value : FAULT));
}

function isZeroOrPart(argument: OracleArgument, one: Case, value: EventValue): boolean {
  const { reach, body } = argument;
  const values = Array.isArray(value) ? value : [value];
  // Elements of an array are read one by one: those behind a start are there.
  if (typeof reach === 'object' && reach.offset < -one.before && values.length > 1) return true;
  const size = typeof reach === 'object' ? reach.bytes / values.length : 8;
  const there = readable(argument, one) ?? 0;
  return values.every((element, at) => {
    const number = numberOf(element);
    const part = there - at * size;
    if (number === undefined) return false;
    if (part <= 0) return number === 0n;
    const isPlain = !/:(?:s|b)\d/.test(body);
    return part >= size || !isPlain || number < 1n << BigInt(8 * part);
  });
}

function numberOf(value: EventValue): bigint | undefined {
  if (typeof value === 'number' || typeof value === 'bigint') return BigInt(value);
  return typeof value === 'string' && value.length === 1 ? BigInt(value.charCodeAt(0)) : undefined;
}
