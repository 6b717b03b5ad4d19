/** What the hits of a filtered program cost: those that pass cost more than those that are refused. */

import type { ProgramFilter } from '../probe/filter.ts';
import type { Program } from '../probe/program.ts';

/** Nanoseconds of one hit. */
export interface HitCost {
  readonly passed: number;
  readonly refused: number;
}

/** Two programs that can be measured: the filter of one lets every hit pass, that of the other none. */
export interface PricedPrograms {
  readonly passing: Program;
  readonly refusing: Program;
}

/** The programs whose costs are those of a program's hits. Both look at what the filter looks at. */
export function pricedPrograms(program: Program): PricedPrograms {
  if (program.filter === undefined) return { passing: program, refusing: program };
  return {
    passing: { ...program, filter: decided(program.filter, true) },
    refusing: { ...program, filter: decided(program.filter, false) },
  };
}

function decided(filter: ProgramFilter, holds: boolean): ProgramFilter | undefined {
  if (filter.kind === 'tasks') return holds ? undefined : { ...filter, tids: [] };
  if (filter.kind === 'both') {
    const parts = filter.filters.map((part) => decided(part, holds));
    return { kind: 'both', filters: parts.filter((part) => part !== undefined) };
  }
  return { kind: holds ? 'any' : 'all', terms: [filter, { kind: 'not', term: filter }] };
}

/** Of so many hits, of which so many were refused. */
export function costOfHits(cost: HitCost, hits: number, refused: number): number {
  return (hits - refused) * cost.passed + refused * cost.refused;
}
