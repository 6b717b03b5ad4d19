/** What the hits of a filtered program cost: those that pass cost more than those that are refused. */

import type { ProgramFilter } from '../probe/filter.ts';
import type { Program } from '../probe/program.ts';

/** Nanoseconds of one hit. */
export interface HitCost {
  readonly passed: number;
  readonly refused: number;
}

/** What is to be measured for some programs, each once. */
export class PriceList {
  readonly #indices = new Map<string, number>();
  readonly programs: readonly Program[];

  constructor(programs: readonly Program[]) {
    const all = new Map<string, Program>();
    for (const program of programs) {
      const { passing, refusing } = pricedPrograms(program);
      all.set(keyOf(passing), passing).set(keyOf(refusing), refusing);
    }
    this.programs = [...all.values()];
    for (const key of all.keys()) this.#indices.set(key, this.#indices.size);
  }

  /** The cost of a program's hits. @param measured nanoseconds of each of {@link programs} */
  costOf(program: Program, measured: readonly number[]): HitCost {
    const { passing, refusing } = pricedPrograms(program);
    const costs = [passing, refusing].map((one) => measured[this.#indices.get(keyOf(one)) ?? -1]);
    const [passed = 0, refused = 0] = costs;
    return { passed, refused };
  }
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
