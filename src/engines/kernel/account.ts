/**
 * The sums of a session's events under the kernel. Hits are counted by the kernel at the place, by whomever;
 * records by us; losses by the kernel, for all events of a ring together.
 */

import type { ConsumerAccount } from '../../events/account.ts';

/** What is known of one consumer. */
export interface KernelCount {
  readonly hits: number;
  /** Of those, hits in the moment in which recording was switched off. */
  readonly ending: number;
  /** Its records, as far as they were read. */
  readonly seen: number;
  /** Whether its records are counted and shown to nobody. */
  readonly isCounted: boolean;
}

/**
 * Draws up the accounts. Once all is read, a hit without a record was lost (`lost` of them, exactly), came
 * too late, or was filtered: of another process that maps the file, or by the event filter. Where several
 * events share a loss that filters hide, it is divided by what each lacks; the sums stay exact.
 * @param isFinal nothing more is recorded, and all was read
 */
export function accountFor(
  counts: readonly KernelCount[],
  lost: number,
  isFinal: boolean,
): ConsumerAccount[] {
  // An older kernel counts hits without a lock, and may have missed some that it recorded.
  const lacking = counts.map(({ hits, seen }) => Math.max(0, hits - seen));
  const shares = divide(lost, lacking);
  return counts.map(({ hits, ending, seen, isCounted }, at) => {
    const ringFull = shares[at] ?? 0;
    const rest = isFinal ? (lacking[at] ?? 0) - ringFull : 0;
    // Where others hit the place too, nobody knows whose the last hits were.
    const tracerGone = rest <= ending ? rest : 0;
    return {
      hits: Math.max(hits, seen),
      recorded: isCounted ? 0 : seen,
      aggregated: isCounted ? seen : 0,
      filtered: rest - tracerGone,
      missed: { ringFull, noContext: 0, tracerGone, abandoned: 0 },
    };
  });
}

/** Divides a number among places in proportion to their weights, none getting more than its weight. */
function divide(amount: number, weights: readonly number[]): number[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const whole = Math.min(amount, total);
  let given = 0;
  let before = 0;
  return weights.map((weight) => {
    before += weight;
    // Rounded sums, so that what is given away is the whole at the end.
    const share = total === 0 ? 0 : Math.round((whole * before) / total) - given;
    given += share;
    return share;
  });
}
