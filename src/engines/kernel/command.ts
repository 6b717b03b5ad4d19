/** A consumer as a line of `uprobe_events`. */

import { hex, type FileOffset } from '../../base/brand.ts';
import { printArgument } from '../../probe/arguments.ts';
import { printFilter } from '../../probe/filter-text.ts';
import { valuesOf, type ProgramFilter } from '../../probe/filter.ts';
import type { Fetch, Program, ProgramArgument } from '../../probe/program.ts';
import { GuardPlan, guardFilter, type Guard } from './guards.ts';

/** The most arguments of a kernel event (MAX_TRACE_ARGS). */
const MAX_ARGUMENTS = 128;

/** What an event of the kernel fetches for a program: its arguments, and some of our own. */
export interface EventPlan {
  readonly program: Program;
  /** The argument that says which place it was. */
  readonly site: string;
  /** The one with the task's name at that moment; undefined where nobody sees the events. */
  readonly comm: string | undefined;
  /**
   * What is fetched behind these two. Constant texts are not: the kernel looks for them in the target. What a
   * filter looks at is: the kernel filters by fields of the event.
   */
  readonly fetched: readonly ProgramArgument[];
  /** Those of them that nobody asked for: pointers on the way to others. */
  readonly own: readonly ProgramArgument[];
  /** By argument, the pointers on the way to it. */
  readonly guards: ReadonlyMap<string, readonly Guard[]>;
}

/** The event filter of a plan as the kernel's `filter` files take it; undefined where nothing is filtered. */
export function printEventFilter({ program, guards }: EventPlan): string | undefined {
  const { filter } = program;
  return filter && printPart(guardFilter(filter, (name) => guards.get(name) ?? []));
}

function printPart(filter: ProgramFilter): string | undefined {
  if (filter.kind !== 'both') return filter.kind === 'tasks' ? undefined : printFilter(filter);
  const parts = filter.filters.flatMap((part) => printPart(part) ?? []);
  return parts.map((part) => `(${part})`).join(' && ');
}

/** A place's number from here on is none of the session's: hits are measured there (scratch.ts). */
export const SCRATCH_SITE: number = 1 << 16;

/** Whether a line of `uprobe_events` is a place of ours at which hits are measured. */
export function isScratch(line: string): boolean {
  return Number(/ trapline_site_*=\\(\d+):u32/.exec(line)?.[1] ?? 0) >= SCRATCH_SITE;
}

/** Decides what an event fetches for a program. */
export function planEvent(program: Program): EventPlan {
  const { arguments: given, filter, action } = program;
  const fetched = new Map(
    given.filter(({ fetch }) => fetch.kind !== 'text').map((one) => [one.name, one]),
  );
  for (const value of filter === undefined ? [] : valuesOf(filter)) {
    if (value.kind === 'argument') fetched.set(value.argument.name, value.argument);
  }
  const taken = new Set([...given.map(({ name }) => name), ...fetched.keys()]);
  const free = (name: string): string => {
    if (taken.has(name)) return free(`${name}_`);
    taken.add(name);
    return name;
  };
  const site = free('trapline_site');
  const comm = action === 'record' ? free('trapline_comm') : undefined;
  const plan = new GuardPlan(free);
  const guards = new Map(
    [...given, ...fetched.values()].map(({ name, fetch }) => [name, plan.guard(fetch)] as const),
  );
  const own = plan.fetched;
  return { program, site, comm, fetched: [...fetched.values(), ...own], own, guards };
}

/** What is added to addresses on the way to a value (fetch_insn.offset, an int). */
function offsetsOf(fetch: Fetch): bigint[] {
  return fetch.kind === 'load' ? [fetch.offset, ...offsetsOf(fetch.base)] : [];
}

/** Why the kernel can't have a program; undefined where it can. */
export function refusePlan({ program, comm, fetched, own }: EventPlan): string | undefined {
  const values = program.filter === undefined ? [] : valuesOf(program.filter);
  if (values.some((value) => value.kind === 'argument' && value.argument.fetch.kind === 'text')) {
    return 'the kernel can not filter by a constant text';
  }
  const far = fetched.find(({ fetch }) =>
    offsetsOf(fetch).some((at) => BigInt.asIntN(32, at) !== at),
  );
  if (far !== undefined) {
    return `the kernel keeps 32 bits of the offset of a dereference, and would read ${far.name} from elsewhere`;
  }
  // Which place it was, and whose task.
  const ours = comm === undefined ? 1 : 2;
  if (ours + fetched.length <= MAX_ARGUMENTS) return undefined;
  const pointers = own.length === 0 ? '' : `, and ${own.length} are pointers on the way to them`;
  return (
    `the kernel has room for ${MAX_ARGUMENTS} arguments of an event, and Trapline needs ${ours} of them for itself ` +
    `(which place it was, the task's name): these are ${fetched.length - own.length}${pointers}`
  );
}

/** A place of a file, as a command names it. */
interface CommandPlace {
  /** As the kernel is to look it up for us, without white space. */
  readonly path: string;
  readonly offset: FileOffset;
  /** Of the counter that the kernel is to raise while the event is on. */
  readonly reference: FileOffset | undefined;
}

/**
 * The command that defines one place of an event. Places with the same arguments are one event for the
 * kernel (append_trace_uprobe, kernel/trace/trace_uprobe.c), told apart by a constant: so it lets go of all of
 * them in the time that it needs for one.
 */
export function printCommand(
  { group, event }: { readonly group: string; readonly event: string },
  { path, offset, reference }: CommandPlace,
  plan: EventPlan,
  site: number,
): string {
  const counter = reference === undefined ? '' : `(${hex(reference)})`;
  return [
    `p:${group}/${event}`,
    `${path}:${hex(offset)}${counter}`,
    // First: behind a text of more than a page the kernel has no room for another (fetch_store_strlen).
    `${plan.site}=\\${site}:u32`,
    ...(plan.comm === undefined ? [] : [`${plan.comm}=$comm`]),
    ...plan.fetched.map(printArgument),
  ].join(' ');
}
