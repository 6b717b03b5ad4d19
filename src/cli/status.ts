/** `trapline status`: what sessions, living and dead, hold in processes. */

import { hex } from '../base/brand.ts';
import {
  kernelStatus,
  status,
  type HeldSession,
  type KernelStatus,
  type ProcessStatus,
} from '../index.ts';
import { PLAIN, painterFor, type Painter } from '../screen/colour.ts';
import { formatCount, formatDuration } from '../screen/numbers.ts';
import { renderTable } from '../screen/table.ts';
import { printable } from '../screen/text.ts';
import { ExitStatus, writeAll } from './messages.ts';
import { counted } from './summary.ts';
import { waitingFor } from './waiting.ts';

/** Shows the state of the given processes, or of all that may be read, on standard output. */
export async function showStatus(
  pids: readonly number[] | undefined,
  json: boolean,
): Promise<number> {
  const processes = await waitingFor('reading processes', status(pids));
  // What is in the kernel is no single process's.
  const kernel = pids === undefined ? await kernelStatus() : [];
  const lines = json
    ? [...processes.map(toJson), ...kernel.map((each) => JSON.stringify(each))]
    : renderStatus(processes, Date.now() / 1000, painterFor(process.stdout), kernel);
  if (lines.length > 0) writeAll(1, `${lines.join('\n')}\n`);
  return ExitStatus.good;
}

/**
 * The state as lines.
 * @param now Unix time in seconds.
 */
export function renderStatus(
  processes: readonly ProcessStatus[],
  now: number,
  paint: Painter = PLAIN,
  kernel: readonly KernelStatus[] = [],
): string[] {
  if (processes.length + kernel.length === 0) return ['no process holds anything of Trapline'];
  const lines = [
    ...processes.flatMap((each) => renderProcess(each, now, paint)),
    ...kernel.map((each) => renderKernel(each, paint)),
  ];
  const live = processes.some(({ sites }) => sites.some(({ state }) => state === 'live'));
  const dead =
    processes.some(({ sessions }) => sessions.some(({ alive }) => !alive)) ||
    kernel.some(({ alive }) => !alive);
  return [
    ...lines,
    ...(dead ? ['', 'Dead sessions do no harm; `trapline clean` takes them out.'] : []),
    ...(live
      ? ['', 'No kernel uprobe and no breakpoint may be set on these places meanwhile.']
      : []),
  ];
}

function renderProcess(each: ProcessStatus, now: number, paint: Painter): string[] {
  const { sessions, sites, mappedBytes, unreadable } = each;
  if (sessions.length + sites.length + mappedBytes === 0 && unreadable === undefined) {
    return [`${paint.bold(`${printable(each.comm)} (${each.pid})`)}: nothing of Trapline`];
  }
  const size = `${formatCount(Math.ceil(mappedBytes / 1024))} KiB mapped`;
  const name = paint.bold(`${printable(each.comm)} (${each.pid})`);
  const places = counted(sites.length, 'place');
  const style = { indent: '  ', paintHeading: paint.dim };
  const broken = unreadable === undefined ? [] : [`  ${printable(unreadable)}`];
  const columns = ['place', 'address', 'state', 'method', 'in memory', 'sessions'];
  const rows = sites.map((site) => [
    site.name,
    hex(site.address),
    site.state,
    site.method,
    site.found,
    site.tracers.join(', '),
  ]);
  return [
    `${name}: ${places}, ${size}${punsOf(each)}`,
    ...broken,
    ...sessions.map((session) => `  ${sessionLine(session, now, paint)}`),
    ...(rows.length === 0
      ? []
      : renderTable(
          columns.map((heading) => ({ heading })),
          rows,
          style,
        )),
  ];
}

function punsOf({ puns }: ProcessStatus): string {
  if (puns === undefined || puns.mappings === 0) return '';
  const size = `${formatCount(Math.ceil(puns.mappedBytes / 1024))} KiB`;
  return `, ${size} of it in ${counted(puns.mappings, 'mapping')} for puns`;
}

function renderKernel({ name, pid, alive, places }: KernelStatus, paint: Painter): string {
  const state = alive ? paint.green('alive') : paint.yellow('dead');
  return `${paint.bold('kernel')}: ${counted(places, 'place')}, session ${name} of process ${pid}, ${state}`;
}

function sessionLine(session: HeldSession, now: number, paint: Painter): string {
  const state = session.alive ? paint.green('alive') : paint.yellow('dead');
  const age = formatDuration(Math.max(0, now - session.began) * 1e9);
  return `session of tracer ${session.tracer}, ${state}, began ${age} ago, ${counted(session.programs, 'program')}`;
}

function toJson(each: ProcessStatus): string {
  const sites = each.sites.map((site) => ({
    ...site,
    address: hex(site.address),
    offset: hex(site.offset),
  }));
  return JSON.stringify({ ...each, sites });
}
