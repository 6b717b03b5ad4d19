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
  /** Where its records hold texts. */
  readonly texts: TextCount | undefined;
}

/** The same hits counted twice, in the time in which both counts went on. */
export interface TextCount {
  /** Hits that were to become records: counted by records without texts (passed.ts). */
  readonly passed: number;
  /** Records that were read. */
  readonly shown: number;
}

/**
 * Draws up the accounts. Once all is read, a hit without a record was lost (`lost` of them, exactly), came
 * too late, had texts that were too long, or was filtered: of another process that maps the file, or by the event
 * filter. Where several events share a loss that filters hide, it is divided by what each lacks; the sums stay
 * exact.
 * @param isFinal nothing more is recorded, and all was read
 */
export function accountFor(
  counts: readonly KernelCount[],
  lost: number,
  isFinal: boolean,
): ConsumerAccount[] {
  // An older kernel counts hits without a lock, and may have missed some that it recorded.
  const lacking = counts.map(({ hits, seen }) => Math.max(0, hits - seen));
  const expected = counts.map(({ texts }, at) => {
    const all = lacking[at] ?? 0;
    return texts === undefined ? all : Math.max(0, Math.min(all, texts.passed - texts.shown));
  });
  const first = divide(lost, expected);
  // What was lost in moments in which texts were not counted.
  const others = lacking.map((all, at) => all - (expected[at] ?? 0));
  const second = divide(lost - sumOf(first), others);
  return counts.map((count, at) => {
    const ringFull = (first[at] ?? 0) + (second[at] ?? 0);
    const unread = count.texts === undefined ? 0 : (expected[at] ?? 0) - (first[at] ?? 0);
    const textsTooLong = isFinal ? unread : 0;
    const rest = isFinal ? (lacking[at] ?? 0) - ringFull - textsTooLong : 0;
    // Where others hit the place too, nobody knows whose the last hits were.
    const tracerGone = rest <= count.ending ? rest : 0;
    return {
      hits: Math.max(count.hits, count.seen),
      recorded: count.isCounted ? 0 : count.seen,
      aggregated: count.isCounted ? count.seen : 0,
      filtered: rest - tracerGone,
      missed: { ringFull, noContext: 0, tracerGone, abandoned: 0, textsTooLong },
    };
  });
}

/**
 * Counts with what was lost of the records that tell how many hits passed: it is divided among those that have
 * such records, in proportion to the hits of which nothing is known.
 */
export function withUnread(counts: readonly KernelCount[], unread: number): KernelCount[] {
  const unknown = counts.map(({ hits, texts }) =>
    texts === undefined ? 0 : Math.max(0, hits - texts.passed),
  );
  const shares = divide(unread, unknown);
  return counts.map((count, at) => {
    const { texts } = count;
    if (texts === undefined) return count;
    return { ...count, texts: { ...texts, passed: texts.passed + (shares[at] ?? 0) } };
  });
}

/** Divides a number among places in proportion to their weights, none getting more than its weight. */
function divide(amount: number, weights: readonly number[]): number[] {
  const total = sumOf(weights);
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

function sumOf(numbers: readonly number[]): number {
  return numbers.reduce((sum, number) => sum + number, 0);
}
