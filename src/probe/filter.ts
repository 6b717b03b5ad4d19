/** Event filters: which hits act. A typed tree, made from text by filter-text.ts, or by the session. */

import { unreachable } from '../base/errors.ts';
import type { BytePattern } from './pattern.ts';
import type { ProgramArgument } from './program.ts';

/** What a term of a filter looks at. */
export type FilterValue =
  | { readonly kind: 'argument'; readonly argument: ProgramArgument }
  /** `common_pid`: the task, as its own pid namespace numbers it. */
  | { readonly kind: 'task' }
  /** `cpu`: the processor. */
  | { readonly kind: 'processor' }
  /** `__probe_ip`: the address of the site. */
  | { readonly kind: 'site' }
  /** `comm`: the task's name. */
  | { readonly kind: 'comm' };

/** `&` holds where the two have a bit in common. */
export type FilterOperator = '==' | '!=' | '<' | '<=' | '>' | '>=' | '&';

/**
 * A filter as its text says it. A term about a value that could not be read does not hold, whatever its
 * operator.
 */
export type FilterTree =
  | { readonly kind: 'all' | 'any'; readonly terms: readonly FilterTree[] }
  | { readonly kind: 'not'; readonly term: FilterTree }
  | {
      readonly kind: 'compare';
      readonly value: FilterValue;
      readonly operator: FilterOperator;
      /** Within the type of the value. */
      readonly operand: bigint;
    }
  | {
      readonly kind: 'match';
      readonly value: FilterValue;
      readonly operator: '==' | '!=' | '~';
      /** As it was written, without its quotes. */
      readonly text: string;
      readonly pattern: BytePattern;
      /** Whether it holds where the pattern does not fit. */
      readonly isNegated: boolean;
    };

/** The event filter of a program. */
export type ProgramFilter =
  | FilterTree
  /** Hits of these tasks only, as the target's pid namespace numbers them. */
  | { readonly kind: 'tasks'; readonly tids: readonly number[] }
  /** Both hold, the task filter first. */
  | { readonly kind: 'both'; readonly filters: readonly ProgramFilter[] };

/** How an integer is compared. */
export interface IntegerType {
  /** 8, 16, 32 or 64. */
  readonly width: number;
  readonly isSigned: boolean;
}

/**
 * How a value is compared as an integer. An array of 1, 2, 4 or 8 bytes is one integer, as the kernel has it.
 * @returns undefined for text, and for what has no such size.
 */
export function integerTypeOf(value: FilterValue): IntegerType | undefined {
  switch (value.kind) {
    case 'task':
      return { width: 32, isSigned: true };
    case 'processor':
      return { width: 32, isSigned: true };
    case 'site':
      return { width: 64, isSigned: false };
    case 'comm':
      return undefined;
    case 'argument': {
      const { type, count = 1 } = value.argument;
      if (type === 'string') return undefined;
      const width = elementBits(type) * count;
      const isSigned = type.startsWith('s') && type !== 'symbol';
      return [8, 16, 32, 64].includes(width) ? { width, isSigned } : undefined;
    }
    default:
      return unreachable(value);
  }
}

/** Whether a value is text. Of an array of strings, the first. */
export function isTextValue(value: FilterValue): boolean {
  return value.kind === 'comm' || (value.kind === 'argument' && value.argument.type === 'string');
}

/** Bits of one element of an integer type. */
export function elementBits(type: ProgramArgument['type']): number {
  if (type === 'char') return 8;
  return type === 'symbol' || type === 'string' ? 64 : Number(type.slice(1));
}

/** A number within an integer type. */
export function withinType(value: bigint, { width, isSigned }: IntegerType): bigint {
  return isSigned ? BigInt.asIntN(width, value) : BigInt.asUintN(width, value);
}

/** Every value that a filter looks at, in the order of its text. */
export function valuesOf(filter: ProgramFilter): FilterValue[] {
  switch (filter.kind) {
    case 'tasks':
      return [{ kind: 'task' }];
    case 'both':
      return filter.filters.flatMap(valuesOf);
    case 'all':
    case 'any':
      return filter.terms.flatMap(valuesOf);
    case 'not':
      return valuesOf(filter.term);
    case 'compare':
    case 'match':
      return [filter.value];
    default:
      return unreachable(filter);
  }
}
