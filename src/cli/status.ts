/** `trapline status`: what sessions, living and dead, hold in processes. */

import { hex } from '../base/brand.ts';
import {
  kernelStatus,
  status,
  type DescribedProbe,
  type HeldSession,
  type HeldSite,
  type KernelStatus,
  type ProcessStatus,
} from '../index.ts';
import { PLAIN, painterFor, type Painter } from '../screen/colour.ts';
import { formatCount, formatDuration } from '../screen/numbers.ts';
import { renderTable, type Column } from '../screen/table.ts';
import { jsonText, printable } from '../base/text.ts';
import { ExitStatus, writeAll } from './messages.ts';
import { processName } from './process-name.ts';
import { counted } from './summary.ts';
import { waitingFor } from './waiting.ts';

/** Probes, and refused places, of one session that are shown of a process. */
const MOST_SHOWN = 20;

/** Shows the state of the given processes, or of all that may be read, on standard output. */
export async function showStatus(
  pids: readonly number[] | undefined,
  json: boolean,
): Promise<number> {
  const processes = await waitingFor('reading processes', status(pids));
  // What is in the kernel is no single process's.
  const kernel = pids === undefined ? await kernelStatus() : [];
  const lines = json
    ? [...processes.map(toJson), ...kernel.map((each) => jsonText(each))]
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
  const live = processes.some(({ sites, hooks = [] }) =>
    [...sites, ...hooks].some(({ state }) => state === 'live'),
  );
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
  const { sessions, sites, hooks = [], mappedBytes, unreadable } = each;
  if (sessions.length + sites.length + mappedBytes === 0 && unreadable === undefined) {
    return [`${paint.bold(processName(each))}: nothing of Trapline`];
  }
  const size = `${formatCount(Math.ceil(mappedBytes / 1024))} KiB mapped`;
  const name = paint.bold(processName(each));
  const places = counted(sites.length, 'place');
  const style = { indent: '  ', paintHeading: paint.dim };
  const broken = unreadable === undefined ? [] : [`  ${printable(unreadable)}`];
  const rows = [...sites, ...hooks].flatMap((site) => siteRows(site, sessions));
  return [
    `${name}: ${places}, ${size}${punsOf(each)}`,
    ...broken,
    ...sessions.flatMap((session) => sessionLines(session, each, now, paint)),
    ...(rows.length === 0 ? [] : renderTable(COLUMNS, rows, style)),
  ];
}

const COLUMNS: readonly Column[] = [
  { heading: 'place' },
  { heading: 'address' },
  { heading: 'state' },
  { heading: 'method' },
  { heading: 'in memory' },
  { heading: 'session' },
  { heading: 'probe' },
  { heading: 'hits', align: 'right' },
  { heading: 'a hit', align: 'right' },
];

/** Stands for a probe where a session has a program of its own. */
const OWN = "the session's own";

/** One row for each program at a place; what is the same for all stands in the first. */
function siteRows(site: HeldSite, sessions: readonly HeldSession[]): string[][] {
  const where = [site.name, hex(site.address), site.state, site.method, site.found];
  if (site.programs.length === 0) return [[...where, '', '', '', '']];
  return site.programs.map(({ tracer, probe, hits }, at) => {
    const owner = sessions.find((session) => session.tracer === tracer)?.owner;
    const known = owner?.probes.find(({ id }) => id === probe);
    const cost = known?.costNanoseconds;
    return [
      ...(at === 0 ? where : where.map(() => '')),
      String(tracer),
      probe === 0 ? OWN : known === undefined ? String(probe) : probeText(known),
      hits === undefined ? '' : formatCount(hits),
      cost === undefined ? '' : formatDuration(cost),
    ];
  });
}

function probeText({ definition, action, filter }: DescribedProbe): string {
  const condition = filter === undefined ? '' : ` if ${filter}`;
  return printable(`${definition}${condition}${action === 'count' ? ' (counts)' : ''}`);
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

function sessionLines(
  session: HeldSession,
  { pid, sites }: ProcessStatus,
  now: number,
  paint: Painter,
): string[] {
  const { owner, tracer } = session;
  const state = session.alive ? paint.green('alive') : paint.yellow('dead');
  const age = formatDuration(Math.max(0, now - session.began) * 1e9);
  const whose = owner === undefined ? '' : ` of process ${owner.pid} (${printable(owner.command)})`;
  const probes = owner?.probes ?? [];
  const programs = sites.flatMap((site) => site.programs);
  const here = new Set(programs.filter((one) => one.tracer === tracer).map(({ probe }) => probe));
  const listed = probes
    .filter(({ id }) => here.has(id))
    .map(({ listing }) => `    ${printable(listing)}`);
  const refused = probes.flatMap((probe) =>
    probe.refused
      .filter((place) => place.pid === pid || place.pid === 0)
      .map(
        ({ name, reason }) =>
          `    ${paint.yellow('refused')} ${printable(name)}: ${printable(reason)}`,
      ),
  );
  const count = counted(session.programs, 'program');
  return [
    `  session of tracer ${tracer}${whose}, ${state}, began ${age} ago, ${count}`,
    ...firstOf(listed, 'more'),
    ...firstOf(refused, 'more refused'),
  ];
}

/** @param rest what the lines are that are left out */
function firstOf(lines: readonly string[], rest: string): string[] {
  const left = lines.length - MOST_SHOWN;
  return [...lines.slice(0, MOST_SHOWN), ...(left > 0 ? [`    and ${left} ${rest}`] : [])];
}

function toJson(each: ProcessStatus): string {
  const { hooks } = each;
  const sites = each.sites.map(siteToJson);
  return jsonText({ ...each, sites, ...(hooks && { hooks: hooks.map(siteToJson) }) });
}

function siteToJson(site: HeldSite): object {
  return { ...site, address: hex(site.address), offset: hex(site.offset) };
}
