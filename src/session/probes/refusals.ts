/** What is said when probes are refused. */

import { TraplineError } from '../../base/errors.ts';
import type { AddedProbe, RefusedSite } from '../types.ts';

/** Refusals that are shown; there may be thousands. */
const MOST_SHOWN = 20;

/** One error for several probes that were refused. */
export function refusalOfAll(refusals: readonly TraplineError[], probes: number): TraplineError {
  const [first] = refusals;
  if (refusals.length === 1 && first !== undefined) return first;
  const shown = refusals
    .slice(0, MOST_SHOWN)
    .map((error) => `${error.message}: ${error.hint ?? ''}`);
  const more = refusals.length - shown.length;
  return new TraplineError({
    code: 'refused',
    message: `${refusals.length} of ${probes} probes can't be made, and so none is`,
    hint: [...shown, ...(more > 0 ? [`and ${more} more`] : [])].join('\n'),
  });
}

/** The reasons of refusals, each once, the commonest first, with how often it came. */
export function groupReasons(refused: readonly RefusedSite[]): string[] {
  if (refused.length === 1) return refused.map(({ reason }) => reason);
  const counts = new Map<string, { count: number; example: string }>();
  for (const { reason, name } of refused) {
    const general = generalReason(reason);
    const known = counts.get(general);
    if (known === undefined) counts.set(general, { count: 1, example: name });
    else known.count++;
  }
  return [...counts]
    .sort(([, a], [, b]) => b.count - a.count)
    .map(([reason, { count, example }]) => `${count} × ${reason} (${example})`);
}

/** A reason whatever the addresses in it: many places may have it. */
export function generalReason(reason: string): string {
  return reason.replace(/0x[0-9a-f]+/g, '0x…');
}

/**
 * What is said of places that were refused after a session has begun: a line for each process that has nothing of a probe; of
 * those that lack some places one for each reason.
 * @param told the reasons that were told; those that are new are added
 */
export function refusedLater(
  { definition, sites }: Pick<AddedProbe, 'definition' | 'sites'>,
  refused: readonly RefusedSite[],
  told: Set<string>,
): string[] {
  const pids = [...new Set(refused.map(({ pid }) => pid))];
  return pids.flatMap((pid) => {
    const mine = refused.filter((one) => one.pid === pid);
    const taken = sites.filter((site) => site.pid === pid).length;
    if (taken === 0) return [`${definition} is not in process ${pid}: ${shortly(mine)}`];
    const fresh = mine.filter(({ reason }) => !told.has(generalReason(reason)));
    for (const { reason } of fresh) told.add(generalReason(reason));
    if (fresh.length === 0) return [];
    const count = `${fresh.length} of ${taken + mine.length} places`;
    return [`${definition} lacks ${count} in process ${pid}: ${shortly(fresh)}`];
  });
}

function shortly(refused: readonly RefusedSite[]): string {
  return groupReasons(refused).slice(0, 3).join('; ');
}
