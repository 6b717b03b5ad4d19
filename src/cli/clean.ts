/** `trapline clean`: takes out what dead sessions left in processes. */

import { clean, cleanKernel, type CleanReport, type KernelCleanReport } from '../index.ts';
import { printable } from '../screen/text.ts';
import { ExitStatus, writeAll } from './messages.ts';
import { counted } from './summary.ts';
import { waitingFor } from './waiting.ts';

/**
 * Cleans the given processes, or all that may be changed, and says on standard output what was done.
 * @returns 1 when something had to stay, else 0.
 */
export async function cleanUp(pids: readonly number[] | undefined, json: boolean): Promise<number> {
  const processes = await waitingFor('cleaning', clean(pids));
  // What is in the kernel is no single process's.
  const kernel = pids === undefined ? await waitingFor('cleaning', cleanKernel()) : [];
  const reports = [...processes, ...kernel];
  const lines = json
    ? reports.map((each) => JSON.stringify(each))
    : renderReports(processes, kernel);
  if (lines.length > 0) writeAll(1, `${lines.join('\n')}\n`);
  return reports.some(({ kept }) => kept.length > 0) ? ExitStatus.error : ExitStatus.good;
}

/** The reports as lines. */
export function renderReports(
  reports: readonly CleanReport[],
  kernel: readonly KernelCleanReport[] = [],
): string[] {
  if (reports.length + kernel.length === 0) return ['nothing to clean'];
  return [...reports.flatMap(renderProcess), ...kernel.flatMap(renderKernel)];
}

function renderKernel({ name, eventsRemoved, kept }: KernelCleanReport): string[] {
  return [
    `kernel: dead session ${name} removed, ${counted(eventsRemoved, 'event')}`,
    ...kept.map((what) => `  kept: ${printable(what)}`),
  ];
}

function renderProcess({ pid, sessionsRemoved, sitesRestored, kept }: CleanReport): string[] {
  return [
    sessionsRemoved + sitesRestored + kept.length === 0
      ? `process ${pid}: nothing to clean`
      : `process ${pid}: ${counted(sessionsRemoved, 'dead session')} removed, ` +
        `${counted(sitesRestored, 'place')} restored`,
    ...kept.map((what) => `  kept: ${printable(what)}`),
  ];
}
