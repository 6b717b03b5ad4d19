/** The summary at a trace's end: what became of every hit, and the bill. */

import type { EventSummary, Stops, Summary } from '../index.ts';
import { PLAIN, type Painter } from '../screen/colour.ts';
import { formatCount, formatDuration, formatPercent } from '../screen/numbers.ts';
import { renderTable, type Cell, type Column } from '../screen/table.ts';
import { printable } from '../base/text.ts';

/** The columns that there are besides the event and its hits, shown only where one isn't 0. */
const OPTIONAL: readonly (readonly [heading: string, of: (event: EventSummary) => number])[] = [
  ['counted', (event) => event.aggregated],
  ['filtered', (event) => event.filtered],
  ['missed', missedBy],
];

const REASONS: readonly (readonly [keyof EventSummary['missed'], string])[] = [
  ['ringFull', 'ring full'],
  ['noContext', 'no ring'],
  ['tracerGone', 'tracer gone'],
  ['abandoned', 'abandoned'],
  ['textsTooLong', 'texts too long'],
];

/** The summary as lines. */
export function renderSummary(summary: Summary, paint: Painter = PLAIN): string[] {
  return [
    ...renderEvents(summary.events, paint),
    ...renderLoss(summary.loss),
    ...renderBill(summary).map((line) => paint.dim(line)),
    ...summary.kept.map((what) => `${paint.yellow('kept:')} ${printable(what)}`),
  ];
}

function renderEvents(events: readonly EventSummary[], paint: Painter): string[] {
  const counting = events.some((event) => event.aggregated > 0);
  const shown = OPTIONAL.filter(([, of]) => events.some((event) => of(event) > 0));
  const missed = events.some((event) => missedBy(event) > 0);
  const recording = !counting || events.some((event) => event.recorded > 0);
  const columns: Column[] = [
    { heading: 'event', paint: paint.bold },
    { heading: 'hits' },
    ...(recording ? [{ heading: 'recorded' }] : []),
    ...shown.map(([heading]) =>
      heading === 'missed' ? { heading, paint: paint.yellow } : { heading },
    ),
    ...(missed ? [{ heading: 'why' }] : []),
    { heading: 'each', align: 'right' },
  ];
  const rows = events.map((event): Cell[] => [
    event.event,
    event.hits,
    ...(recording ? [event.recorded] : []),
    ...shown.map(([, of]) => of(event)),
    ...(missed ? [reasonsOf(event)] : []),
    event.costNanoseconds > 0 ? formatCost(event.costNanoseconds) : '–',
  ]);
  return renderTable(columns, rows, { paintHeading: paint.dim });
}

function renderLoss(loss: Summary['loss']): string[] {
  const lines: readonly (readonly [number, string])[] = [
    [loss.abandoned, 'left unfinished by a task that ended or jumped away'],
    [loss.corrupt, 'damaged: the target wrote over its rings'],
    [loss.overrun, 'overrun: the target moved the end of a ring'],
  ];
  return lines
    .filter(([count]) => count > 0)
    .map(([count, what]) => `${counted(count, 'record')} ${what}`);
}

/** DESIGN 6: hits × the measured cost, as a share of the target's time; and how long it stood still. */
function renderBill({ events, bill }: Summary): string[] {
  const hits = events.reduce((sum, event) => sum + event.hits, 0);
  if (hits > 0 && bill.stubNanoseconds === 0) {
    return [`bill: ${counted(hits, 'hit')}, whose cost was not measured`];
  }
  const each = events.length === 1 ? (events[0]?.costNanoseconds ?? 0) : 0;
  const product = each > 0 ? ` × ${formatCost(each)}` : '';
  const lines = [
    `bill: ${counted(hits, 'hit')}${product} = ${formatDuration(bill.stubNanoseconds)}${shareOf(bill)}`,
  ];
  // A part is no more than its whole: here they are not measured in the same place.
  if (bill.targetNanoseconds > 0 && bill.stubNanoseconds > bill.targetNanoseconds) {
    lines.push(
      '      more, since what a hit costs is measured elsewhere, or hits of other processes are there',
    );
  }
  if (bill.stops > 0) lines.push(`      ${renderStops(bill)}`);
  return lines;
}

function shareOf({ stubNanoseconds, targetNanoseconds }: Summary['bill']): string {
  if (targetNanoseconds <= 0) return '';
  const isPart = stubNanoseconds <= targetNanoseconds;
  const share = isPart ? formatPercent(stubNanoseconds, targetNanoseconds) : 'over 100 %';
  return `, ${share} of the ${formatDuration(targetNanoseconds)} that the target computed`;
}

/** `stopped for 1.2 ms in 2 stops, the longest 0.8 ms`. */
export function renderStops(bill: Stops): string {
  const total = `stopped for ${formatDuration(bill.stoppedNanoseconds)}`;
  if (bill.stops === 1) return `${total}, once`;
  const longest = formatDuration(bill.longestStopNanoseconds);
  return `${total} in ${counted(bill.stops, 'stop')}, the longest ${longest}`;
}

/** `1 hit`, `1,234 hits`. */
export function counted(count: number, what: string): string {
  return `${formatCount(count)} ${what}${count === 1 ? '' : what.endsWith('s') ? 'es' : 's'}`;
}

/** What one hit costs: tenths count here. */
function formatCost(nanoseconds: number): string {
  return nanoseconds < 100 ? `${nanoseconds.toFixed(1)} ns` : formatDuration(nanoseconds);
}

function missedBy(event: EventSummary): number {
  return Object.values(event.missed).reduce((sum, count) => sum + count, 0);
}

function reasonsOf(event: EventSummary): string {
  return REASONS.filter(([reason]) => event.missed[reason] > 0)
    .map(([reason, text]) => `${text} ${formatCount(event.missed[reason])}`)
    .join(', ');
}
