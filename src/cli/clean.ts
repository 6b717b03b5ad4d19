/** `trapline clean`: takes out what dead sessions left in processes. */

import { clean, cleanKernel, type CleanReport, type KernelCleanReport } from '../index.ts';
import { printable } from '../base/text.ts';
import { ExitStatus, writeAll } from './messages.ts';
import { counted } from './summary.ts';
import { waitingFor } from './waiting.ts';

/**
 * Cleans the given processes, or all that may be changed, and says on standard output what was done.
 * @returns 1 when something had to stay, else 0.
 */
export async function cleanUp(pids: readonly number[] | undefined, json: boolean): Promise<number> {
  // First, and shown at once: what is in the kernel is no single process's, and none may keep it there.
  const kernel = pids === undefined ? await waitingFor('cleaning', cleanKernel()) : [];
  show(json ? kernel.map((each) => JSON.stringify(each)) : kernel.flatMap(renderKernel));
  const processes = await waitingFor('cleaning', clean(pids));
  if (json) show(processes.map((each) => JSON.stringify(each)));
  else if (processes.length > 0 || kernel.length === 0) show(renderReports(processes));
  const reports = [...processes, ...kernel];
  return reports.some(({ kept }) => kept.length > 0) ? ExitStatus.error : ExitStatus.good;
}

function show(lines: readonly string[]): void {
  if (lines.length > 0) writeAll(1, `${lines.join('\n')}\n`);
}

/** The reports as lines. */
export function renderReports(reports: readonly CleanReport[]): string[] {
  return reports.length === 0 ? ['nothing to clean'] : reports.flatMap(renderProcess);
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
