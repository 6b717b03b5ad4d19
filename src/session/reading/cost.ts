/** What hits cost: those that pass more than those that a filter refuses, and lost ones what they came to. */

import type { BilledAccount } from '../../events/account.ts';
import type { HitCost, LostHit } from '../../probe/engine.ts';
import type { ProgramFilter } from '../../probe/filter.ts';
import type { Program } from '../../probe/program.ts';

/** Of a hit that nobody can measure. */
export const UNKNOWN_COST: HitCost = { passed: 0, refused: 0, lost: {} };

const LOST = ['ringFull', 'noContext', 'tracerGone'] as const;

/** A consumer, as far as what its hits cost depends on it. */
export interface MeasuredConsumer {
  /** See `ConsumerHandle`. */
  readonly source: number;
  readonly consumer: number;
  readonly program: Program;
  /** What of its hits is to be known beside those that pass and those that are refused. */
  readonly lost: readonly LostHit[];
}

/**
 * The costs of hits that depend on nothing but the program. Programs that do the same are measured once.
 * @param measure nanoseconds of one hit of a program, which is lost where that is said
 */
export function costsOf(
  consumers: readonly Pick<MeasuredConsumer, 'program' | 'lost'>[],
  measure: (program: Program, lost?: LostHit) => number,
): HitCost[] {
  const known = new Map<string, number>();
  const costOf = (program: Program, lost?: LostHit): number => {
    const key = `${lost} ${keyOf(program)}`;
    const cost = known.get(key) ?? measure(program, lost);
    known.set(key, cost);
    return cost;
  };
  return consumers.map(({ program, lost }) => {
    const { passing, refusing } = pricedPrograms(program);
    return {
      passed: costOf(passing),
      refused: costOf(refusing),
      lost: Object.fromEntries(lost.map((why) => [why, costOf(passing, why)])),
    };
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

/** Hits of an account, by what they went through. */
function lostHits({ missed, contextless }: BilledAccount): Record<LostHit, number> {
  return {
    // What was left unfinished had found room; texts that were too long had not. Neither costs less than that.
    ringFull: missed.ringFull + missed.abandoned + missed.textsTooLong,
    noContext: missed.noContext + contextless.filtered + contextless.aggregated,
    tracerGone: missed.tracerGone,
  };
}

/** What of the hits of an account has to be measured beside those that pass and those that are refused. */
export function lostIn(account: BilledAccount): LostHit[] {
  const hits = lostHits(account);
  return LOST.filter((why) => hits[why] > 0);
}

/** What all hits of an account cost. */
export function costOfHits(cost: HitCost, account: BilledAccount): number {
  const hits = lostHits(account);
  const refused = account.filtered - account.contextless.filtered;
  let passed = account.hits - refused;
  let sum = refused * cost.refused;
  for (const why of LOST) {
    passed -= hits[why];
    sum += hits[why] * (cost.lost[why] ?? 0);
  }
  // Those whose records are still to be read are among them.
  return sum + passed * cost.passed;
}
