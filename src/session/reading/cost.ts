/** What the hits of a filtered program cost: those that pass cost more than those that are refused. */

import type { HitCost } from '../../probe/engine.ts';
import type { ProgramFilter } from '../../probe/filter.ts';
import type { Program } from '../../probe/program.ts';

/** Of a hit that nobody can measure. */
export const UNKNOWN_COST: HitCost = { passed: 0, refused: 0 };

/** A consumer, as far as what its hits cost depends on it. */
export interface MeasuredConsumer {
  /** See `ConsumerHandle`. */
  readonly source: number;
  readonly consumer: number;
  readonly program: Program;
}

/**
 * The costs of hits that depend on nothing but the program. Programs that do the same are measured once.
 * @param measure nanoseconds of one hit of a program
 */
export function costsOf(
  programs: readonly Program[],
  measure: (program: Program) => number,
): HitCost[] {
  const known = new Map<string, number>();
  const costOf = (program: Program): number => {
    const key = keyOf(program);
    const cost = known.get(key) ?? measure(program);
    known.set(key, cost);
    return cost;
  };
  return programs.map((program) => {
    const { passing, refusing } = pricedPrograms(program);
    return { passed: costOf(passing), refused: costOf(refusing) };
  });
}

/** Two programs that can be measured: the filter of one lets every hit pass, that of the other none. */
interface PricedPrograms {
  readonly passing: Program;
  readonly refusing: Program;
}

/** Equal for programs that do the same: they cost the same. */
function keyOf(program: Program): string {
  return JSON.stringify(program, (_key, value: unknown) =>
    typeof value === 'bigint' ? `${value}n` : value,
  );
}

/** The programs whose costs are those of a program's hits. Both look at what the filter looks at. */
function pricedPrograms(program: Program): PricedPrograms {
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
