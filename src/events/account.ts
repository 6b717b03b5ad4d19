/** The sums: every hit of a consumer is recorded, aggregated, filtered or missed for a known reason. */

import type { ConsumerCounts, ContextlessCounts, SegmentReader } from './segment.ts';

/** Why hits were missed. */
export interface MissedCounts {
  readonly ringFull: number;
  readonly noContext: number;
  readonly tracerGone: number;
  /** Begun but never finished: the task died, or left the stub by a jump, inside the record. */
  readonly abandoned: number;
  /** Its texts were too long for the kernel, all together. Of the kernel engine only. */
  readonly textsTooLong: number;
}

/** The account of one consumer; in a quiet target `hits` is the sum of all the others. */
export interface ConsumerAccount {
  readonly hits: number;
  readonly recorded: number;
  readonly aggregated: number;
  readonly filtered: number;
  readonly missed: MissedCounts;
}

/** An account with what the bill has to know besides. */
export interface BilledAccount extends ConsumerAccount {
  /** What of `filtered` and `aggregated` cost more. */
  readonly contextless: ContextlessCounts;
}

/** Two billed accounts together. */
export function addBilled(one: BilledAccount, other: BilledAccount): BilledAccount {
  return {
    ...addAccounts(one, other),
    contextless: {
      filtered: one.contextless.filtered + other.contextless.filtered,
      aggregated: one.contextless.aggregated + other.contextless.aggregated,
    },
  };
}

/** The account of two consumers together, of one event in two processes, say. */
export function addAccounts(one: ConsumerAccount, other: ConsumerAccount): ConsumerAccount {
  return {
    hits: one.hits + other.hits,
    recorded: one.recorded + other.recorded,
    aggregated: one.aggregated + other.aggregated,
    filtered: one.filtered + other.filtered,
    missed: {
      ringFull: one.missed.ringFull + other.missed.ringFull,
      noContext: one.missed.noContext + other.missed.noContext,
      tracerGone: one.missed.tracerGone + other.missed.tracerGone,
      abandoned: one.missed.abandoned + other.missed.abandoned,
      textsTooLong: one.missed.textsTooLong + other.missed.textsTooLong,
    },
  };
}

/** The accounts of one segment, and whether they add up. */
export interface SegmentAccount {
  /** By event id, in the order asked. */
  readonly consumers: readonly BilledAccount[];
  /** Every hit is explained. True only of a quiet segment: a hit is counted before its record. */
  readonly exact: boolean;
}

/**
 * Draws up the accounts of a segment. An abandoned record does not say whose it was: what is missing
 * from a consumer's sum is taken for abandoned where the reader did pass over gaps.
 * @param isFinal nobody writes any more and all was read: a hit without a record, and without a gap,
 * ended between its count and its reservation.
 */
export function accountFor(
  segment: SegmentReader,
  eventIds: readonly number[],
  isFinal = false,
): SegmentAccount {
  const loss = segment.loss();
  const counts = eventIds.map((id) => segment.counts(id));
  const residues = counts.map(residueOf);
  const missing = residues.reduce((sum, residue) => sum + residue, 0);
  const gaps = loss.abandoned;
  // A gap holds at least one record, and records that were damaged are nobody's.
  const exact =
    residues.every((residue) => residue >= 0) &&
    (gaps === 0 && !isFinal ? missing === 0 : missing >= gaps) &&
    loss.corrupt === 0 &&
    loss.overrun === 0;
  const consumers = counts.map((count, at) => ({
    hits: count.hits,
    recorded: count.recorded,
    aggregated: count.aggregated,
    filtered: count.filtered,
    contextless: count.contextless,
    missed: {
      ringFull: count.ringFull,
      noContext: count.noContext,
      tracerGone: count.tracerGone,
      abandoned: gaps > 0 || isFinal ? Math.max(0, residues[at] ?? 0) : 0,
      textsTooLong: 0,
    },
  }));
  return { consumers, exact };
}

/** Hits that no reason explains. */
function residueOf(count: ConsumerCounts): number {
  const { recorded, aggregated, filtered, ringFull, noContext, tracerGone } = count;
  return count.hits - recorded - aggregated - filtered - ringFull - noContext - tracerGone;
}

/** Whether the sum of one account is exact. */
export function isExact(account: ConsumerAccount): boolean {
  const missed = Object.values(account.missed).reduce(
    (sum: number, count: number) => sum + count,
    0,
  );
  return account.hits === account.recorded + account.aggregated + account.filtered + missed;
}
