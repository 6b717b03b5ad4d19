/** The account of a session: every hit explained, and the bill. */

import type { SegmentLoss } from '../events/segment.ts';
import type { Program } from '../probe/program.ts';
import type { CollectedAccount } from './collector.ts';
import { costOfHits, type HitCost } from './cost.ts';
import type { EventSummary, Stops, Summary } from './types.ts';

/** What a summary is made from. */
export interface SummaryParts {
  readonly accounts: readonly CollectedAccount[];
  readonly costOf: (program: Program) => HitCost;
  readonly loss: SegmentLoss;
  readonly stops: Stops;
  readonly targetNanoseconds: number;
  readonly kept: readonly string[];
}

/** Adds up the consumers of each event, in the order in which the events were added. */
export function summarise(parts: SummaryParts): Summary {
  const events = new Map<string, EventSummary>();
  let stubNanoseconds = 0;
  for (const { consumer, account } of parts.accounts) {
    const { hits, filtered } = account;
    const cost = parts.costOf(consumer.program);
    const total = costOfHits(cost, hits, filtered);
    stubNanoseconds += total;
    const { event, definition } = consumer;
    const known = events.get(event);
    const sum = {
      event,
      definition,
      costNanoseconds: hits > 0 ? total / hits : cost.passed,
      ...account,
    };
    events.set(event, known === undefined ? sum : addUp(known, sum));
  }
  return {
    events: [...events.values()],
    bill: {
      stubNanoseconds,
      targetNanoseconds: parts.targetNanoseconds,
      ...parts.stops,
    },
    loss: parts.loss,
    kept: parts.kept,
  };
}

function addUp(one: EventSummary, other: EventSummary): EventSummary {
  return {
    ...one,
    hits: one.hits + other.hits,
    recorded: one.recorded + other.recorded,
    aggregated: one.aggregated + other.aggregated,
    filtered: one.filtered + other.filtered,
    missed: {
      ringFull: one.missed.ringFull + other.missed.ringFull,
      noContext: one.missed.noContext + other.missed.noContext,
      tracerGone: one.missed.tracerGone + other.missed.tracerGone,
      abandoned: one.missed.abandoned + other.missed.abandoned,
    },
  };
}
