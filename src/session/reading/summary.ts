/** The account of a session: every hit explained, and the bill. */

import { addAccounts } from '../../events/account.ts';
import type { SegmentLoss } from '../../events/segment.ts';
import type { HitCost } from '../../probe/engine.ts';
import type { CollectedAccount, Collector } from './collector.ts';
import { costOfHits, lostIn, UNKNOWN_COST, type MeasuredConsumer } from './cost.ts';
import type { TargetWatch } from '../targets/target-watch.ts';
import type { TracerClient } from '../tracer-client.ts';
import type { EventSummary, Stops, Summary } from '../types.ts';

/** What a summary is made from. */
interface SummaryParts {
  readonly accounts: readonly CollectedAccount[];
  /** Of each of them. */
  readonly costs: readonly HitCost[];
  readonly loss: SegmentLoss;
  readonly stops: Stops;
  readonly targetNanoseconds: number;
  readonly kept: readonly string[];
}

/** Who is asked for what a summary is made from. */
export interface SummarySources {
  readonly client: TracerClient;
  readonly collector: Collector;
  readonly watch: TargetWatch;
}

/** Asks for all that a session's summary is made from. @param isFinal nobody writes any more, and all was read */
export async function summaryOf(
  { client, collector, watch }: SummarySources,
  kept: readonly string[],
  isFinal: boolean,
): Promise<Summary> {
  const accounts = collector.accounts(isFinal);
  const costs = await client.call('measure', measuredOf(accounts));
  const loss = collector.loss();
  const stops = await client.call('stops');
  return summarise({ accounts, costs, loss, stops, targetNanoseconds: watch.cpuNanoseconds, kept });
}

/** The consumers of some accounts, as far as an engine has to know them to tell their costs. */
function measuredOf(accounts: readonly CollectedAccount[]): MeasuredConsumer[] {
  return accounts.map(({ consumer: { source, consumer, program }, account }) => ({
    source,
    consumer,
    program,
    lost: lostIn(account),
  }));
}

/** Adds up the consumers of each event, in the order in which the events were added. */
function summarise(parts: SummaryParts): Summary {
  const events = new Map<string, EventSummary>();
  let stubNanoseconds = 0;
  for (const [at, { consumer, account }] of parts.accounts.entries()) {
    const { contextless: _billed, ...counts } = account;
    const { hits } = counts;
    const cost = parts.costs[at] ?? UNKNOWN_COST;
    const total = costOfHits(cost, account);
    stubNanoseconds += total;
    const { event, definition } = consumer;
    const known = events.get(event);
    const sum = {
      event,
      definition,
      costNanoseconds: hits > 0 ? total / hits : cost.passed,
      ...counts,
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
  const hits = one.hits + other.hits;
  const cost = one.costNanoseconds * one.hits + other.costNanoseconds * other.hits;
  return {
    ...one,
    ...addAccounts(one, other),
    costNanoseconds: hits > 0 ? cost / hits : one.costNanoseconds,
  };
}
