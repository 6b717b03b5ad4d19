/** `trapline clean`: takes out what dead sessions left in processes. */

import { clean, cleanKernel, type CleanReport, type KernelCleanReport } from '../index.ts';
import { jsonText, printable } from '../base/text.ts';
import { formatCount } from '../screen/numbers.ts';
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
  show(json ? kernel.map((each) => jsonText(each)) : kernel.flatMap(renderKernel));
  const processes = await waitingFor('cleaning', clean(pids));
  if (json) show(processes.map((each) => jsonText(each)));
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

function renderProcess({ pid, kept, ...done }: CleanReport): string[] {
  const nothing = kept.length === 0 ? 'nothing to clean' : 'nothing was cleaned';
  return [
    `process ${pid}: ${whatWasDone(done) ?? nothing}`,
    ...kept.map((what) => `  kept: ${printable(what)}`),
  ];
}

function whatWasDone({
  sessionsRemoved,
  sitesRestored,
  bytesUnmapped,
}: Omit<CleanReport, 'pid' | 'kept'>): string | undefined {
  const size =
    bytesUnmapped === 0 ? [] : [`${formatCount(Math.ceil(bytesUnmapped / 1024))} KiB unmapped`];
  const done =
    sessionsRemoved + sitesRestored === 0
      ? size
      : [
          `${counted(sessionsRemoved, 'dead session')} removed`,
          `${counted(sitesRestored, 'place')} restored`,
          ...size,
        ];
  return done.length === 0 ? undefined : done.join(', ');
}
