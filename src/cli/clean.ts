/** `trapline clean`: takes out what dead sessions left in processes. */

import { clean, type CleanReport } from '../index.ts';
import { printable } from '../screen/text.ts';
import { ExitStatus, writeAll } from './messages.ts';
import { counted } from './summary.ts';
import { waitingFor } from './waiting.ts';

/**
 * Cleans the given processes, or all that may be changed, and says on standard output what was done.
 * @returns 1 when something had to stay, else 0.
 */
export async function cleanUp(pids: readonly number[] | undefined, json: boolean): Promise<number> {
  const reports = await waitingFor('cleaning', clean(pids));
  const lines = json ? reports.map((each) => JSON.stringify(each)) : renderReports(reports);
  if (lines.length > 0) writeAll(1, `${lines.join('\n')}\n`);
  return reports.some(({ kept }) => kept.length > 0) ? ExitStatus.error : ExitStatus.good;
}

/** The reports as lines. */
export function renderReports(reports: readonly CleanReport[]): string[] {
  if (reports.length === 0) return ['nothing to clean'];
  return reports.flatMap(({ pid, sessionsRemoved, sitesRestored, kept }) => [
    sessionsRemoved + sitesRestored + kept.length === 0
      ? `process ${pid}: nothing to clean`
      : `process ${pid}: ${counted(sessionsRemoved, 'dead session')} removed, ` +
        `${counted(sitesRestored, 'place')} restored`,
    ...kept.map((what) => `  kept: ${printable(what)}`),
  ]);
}
