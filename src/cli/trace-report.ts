/** What is said when probes are in: how many, where, and what was refused. */

import { hex } from '../base/brand.ts';
import type {
  AddedProbe,
  ProbedSite,
  ProcessFacts,
  RefusedSite,
  Stops,
  TargetInfo,
} from '../index.ts';
import { PLAIN, type Painter } from '../screen/colour.ts';
import { formatCount } from '../screen/numbers.ts';
import { renderTable } from '../screen/table.ts';
import { printable } from '../base/text.ts';
import { notice } from './messages.ts';
import { processName } from './process-name.ts';
import { counted, renderStops } from './summary.ts';

const NAMES_SHOWN = 3;

/** What was attached. */
export interface Attached {
  readonly targets: readonly TargetInfo[];
  readonly probes: readonly AddedProbe[];
  readonly stops: Stops;
  /** The file of probes that is watched. */
  readonly file?: string;
  /** The task filters that were given. */
  readonly choosing?: readonly Choosing[];
}

/** A few lines: `24 probes in ls (4321), stopped for 0.8 ms, once`, and what each glob came to. */
export function renderAttached(attached: Attached, paint: Painter = PLAIN): string[] {
  const { targets, probes, file, choosing = [] } = attached;
  if (probes.length === 0 && file !== undefined) {
    return [
      notice(`${file} has no probes yet: it is watched, and those that come are put in`, paint),
    ];
  }
  const places = new Set(probes.flatMap(({ sites }) => sites.map(placeOf))).size;
  const pids = new Set(probes.flatMap(({ sites }) => sites.map(({ pid }) => pid)));
  const unchosen = unchosenOf(probes);
  const others = renderUnchosen([...unchosen.values()], choosing, paint);
  const chosen = targets.filter(({ pid }) => !unchosen.has(pid));
  if (chosen.length === 0 && targets.length > 0) return others;
  const where = whereabouts(chosen, pids);
  if (places === 0) return [notice(waitingFor(chosen, where), paint), ...others];
  const stops = attached.stops.stops > 0 ? `, ${renderStops(attached.stops)}` : '';
  const several = probes.flatMap((probe) => renderMatches(probe, paint));
  return [notice(`${counted(places, 'probe')} in ${where}${stops}`, paint), ...several, ...others];
}

/** Those that no probe's filter chooses, by number. */
function unchosenOf(probes: readonly AddedProbe[]): ReadonlyMap<number, ProcessFacts> {
  const all = probes.flatMap(({ unchosen = [] }) => unchosen);
  const isLeftOut = ({ pid }: ProcessFacts): boolean =>
    probes.every(({ unchosen = [] }) => unchosen.some((one) => one.pid === pid));
  return new Map(all.filter(isLeftOut).map((process) => [process.pid, process]));
}

/** An option that chooses among processes. */
export type Choosing = 'comm' | 'exe' | 'uid' | 'cgroup' | 'tree';

/** What each filter would have to be for a process. */
const CHOICES: Readonly<Record<Choosing, (process: ProcessFacts) => string>> = {
  comm: ({ comm }) => comm,
  exe: ({ executable }) => executable,
  uid: ({ uid }) => String(uid),
  cgroup: ({ cgroup }) => cgroup,
  tree: ({ pid }) => String(pid),
};

/** Those of some options that choose among processes. */
export function choosingOf(options: Readonly<Partial<Record<Choosing, unknown>>>): Choosing[] {
  const all: readonly Choosing[] = ['comm', 'exe', 'uid', 'cgroup', 'tree'];
  return all.filter((name) => options[name] !== undefined);
}

/** Why named processes have no probe: a line for each. */
function renderUnchosen(
  unchosen: readonly ProcessFacts[],
  choosing: readonly Choosing[],
  paint: Painter,
): string[] {
  const asked = choosing.map((name) => `--${name}`).join(' and ');
  const lines = unchosen.slice(0, NAMES_SHOWN).map((process) => {
    const would = choosing.map((name) => `--${name} ${CHOICES[name](process)}`).join(' ');
    return `${processName(process)} is not chosen by ${asked}, and has no probe: ${would} would choose it`;
  });
  const rest = unchosen.length - lines.length;
  const more =
    rest > 0 ? [`nor ${rest === 1 ? 'is 1 more' : `are ${rest} more`} of those named`] : [];
  return [...lines, ...more].map((line) => notice(line, paint));
}

/** That `--exclude` was of no use, if so: no glob would have taken what it leaves out. */
export function renderUseless(
  exclude: readonly string[],
  probes: readonly AddedProbe[],
  paint: Painter = PLAIN,
): string[] {
  const waits = probes.some(({ sites, refused }) => sites.length + refused.length === 0);
  if (exclude.length === 0 || waits || probes.some(({ excluded = 0 }) => excluded > 0)) return [];
  const words = exclude.map((glob) => `--exclude ${glob}`).join(' ');
  return [notice(`${words} leaves nothing out: no glob of a probe takes such a function`, paint)];
}

/** @param pids of the probes' sites */
function whereabouts(targets: readonly TargetInfo[], pids: ReadonlySet<number>): string {
  const [only] = targets;
  const isOne = only !== undefined && targets.length === 1;
  if (targets.length > 0 && pids.size === 1 && pids.has(0)) {
    const who = isOne ? `${processName(only)} has` : `the ${targets.length} processes have`;
    return `what ${who} not mapped yet`;
  }
  if (isOne) return processName(only);
  return pids.has(0) ? 'every process' : counted(pids.size, 'process');
}

function waitingFor({ length }: readonly TargetInfo[], where: string): string {
  if (length === 0) return 'no process has it yet: those that come are probed';
  const who = length === 1 ? `${where} has` : `the ${length} processes have`;
  return `${who} not loaded it yet: it is probed as soon as that happens`;
}

/** What a glob took and what it had to leave, the reasons grouped. Nothing for a single function. */
function renderMatches(probe: AddedProbe, paint: Painter): string[] {
  const taken = new Set(probe.sites.map(placeOf)).size;
  const left = new Set(probe.refused.map(({ name }) => name)).size;
  if (taken + left === 0) {
    return [notice(`${probe.definition}: not loaded yet, and probed as soon as it is`, paint)];
  }
  if (taken === 1 && left === 0 && probe.excluded === undefined) return [];
  const refused = left > 0 ? `, ${formatCount(left)} refused` : '';
  const { excluded = 0 } = probe;
  const without = excluded > 0 ? `, ${formatCount(excluded)} excluded` : '';
  const { definition } = probe;
  return [
    notice(`${definition}: ${counted(taken, 'function')} probed${refused}${without}`, paint),
    ...byReason(probe.refused).map(([reason, names]) => {
      const rest = names.length - NAMES_SHOWN;
      const shown = names.slice(0, rest === 1 ? names.length : NAMES_SHOWN).join(', ');
      const more = rest > 1 ? ` and ${formatCount(rest)} more` : '';
      return `  ${formatCount(names.length)} × ${printable(`${reason}: ${shown}${more}`)}`;
    }),
  ];
}

/** Reasons with the functions' names, the most frequent first. */
export function byReason(refused: readonly RefusedSite[]): [reason: string, names: string[]][] {
  const groups = new Map<string, Set<string>>();
  for (const { reason, name } of refused) {
    const names = groups.get(reason) ?? new Set<string>();
    groups.set(reason, names.add(name));
  }
  return [...groups]
    .map(([reason, names]): [string, string[]] => [reason, [...names]])
    .toSorted(([, some], [, others]) => others.length - some.length);
}

/** For `-v`: every site, then every place that was refused. */
export function renderSites(probes: readonly AddedProbe[], paint: Painter = PLAIN): string[] {
  const sites = probes.flatMap((probe) => probe.sites);
  const refused = probes.flatMap((probe) => probe.refused);
  const style = { indent: '  ', paintHeading: paint.dim };
  const columns = ['pid', 'event', 'place', 'address', 'method', 'file'];
  const table = renderTable(
    columns.map((heading) => ({ heading })),
    sites.map((site) => [
      site.pid === 0 ? 'every' : String(site.pid),
      site.event,
      site.name,
      site.pid === 0 ? '' : hex(site.address),
      methodOf(site),
      `${site.file}:${hex(site.offset)}`,
    ]),
    style,
  );
  const rows = refused.map(({ pid, name, reason }) => [String(pid), name, reason]);
  const headings = [{ heading: 'pid' }, { heading: 'refused' }, { heading: 'why' }];
  return [...table, ...(rows.length > 0 ? renderTable(headings, rows, style) : [])];
}

function placeOf(site: { readonly file: string; readonly offset: number | bigint }): string {
  return `${site.file}:${site.offset}`;
}

function methodOf({ method, displacedBytes }: ProbedSite): string {
  return method === 'jump' ? `jump over ${displacedBytes} bytes` : method;
}
