/** A consumer as a line of `uprobe_events`. */

import { hex, type FileOffset } from '../../base/brand.ts';
import { printArgument } from '../../probe/arguments.ts';
import { printFilter } from '../../probe/filter-text.ts';
import { valuesOf, type ProgramFilter } from '../../probe/filter.ts';
import type { Program, ProgramArgument } from '../../probe/program.ts';

/** The most arguments of a kernel event (MAX_TRACE_ARGS); we need two of them. */
const MAX_ARGUMENTS = 128;

/** Arguments of our own in every event: which place it was, and the task's name at that moment. */
export interface OwnArguments {
  readonly site: string;
  /** Undefined where nobody sees the events. */
  readonly comm: string | undefined;
}

/**
 * What an event fetches for a program: its arguments, and behind them what its filter looks at besides, as
 * the kernel filters by fields of the event.
 */
export function fetchedArguments({ arguments: given, filter }: Program): ProgramArgument[] {
  const fetched = new Map(given.map((argument) => [argument.name, argument]));
  for (const value of filter === undefined ? [] : valuesOf(filter)) {
    if (value.kind === 'argument') fetched.set(value.argument.name, value.argument);
  }
  return [...fetched.values()];
}

/** An event filter as the kernel's `filter` files take it; undefined where nothing is filtered. */
export function printEventFilter(filter: ProgramFilter | undefined): string | undefined {
  if (filter === undefined) return undefined;
  if (filter.kind !== 'both') return filter.kind === 'tasks' ? undefined : printFilter(filter);
  const parts = filter.filters.flatMap((part) => printEventFilter(part) ?? []);
  return parts.map((part) => `(${part})`).join(' && ');
}

/** Names for our own arguments that the program's don't have. */
export function ownArguments(program: Program): OwnArguments {
  const { action } = program;
  const taken = new Set(fetchedArguments(program).map(({ name }) => name));
  const free = (name: string): string => (taken.has(name) ? free(`${name}_`) : name);
  return {
    site: free('trapline_site'),
    comm: action === 'record' ? free('trapline_comm') : undefined,
  };
}

/** Why the kernel can't have a program; undefined where it can. */
export function refuseProgram(program: Program): string | undefined {
  const most = MAX_ARGUMENTS - 2;
  if (fetchedArguments(program).length <= most) return undefined;
  return `the kernel engine takes ${most} arguments at most: two of the kernel's ${MAX_ARGUMENTS} are its own`;
}

/**
 * The command that defines one place of an event. Places with the same arguments are one event for the
 * kernel (append_trace_uprobe, kernel/trace/trace_uprobe.c), told apart by a constant: so it lets go of all of
 * them in the time that it needs for one.
 * @param path as the kernel is to look it up for us, without white space
 */
export function printCommand(
  { group, event }: { readonly group: string; readonly event: string },
  path: string,
  offset: FileOffset,
  program: Program,
  site: number,
): string {
  const own = ownArguments(program);
  return [
    `p:${group}/${event}`,
    `${path}:${hex(offset)}`,
    // First: behind a text of more than a page the kernel has no room for another (fetch_store_strlen).
    `${own.site}=\\${site}:u32`,
    ...(own.comm === undefined ? [] : [`${own.comm}=$comm`]),
    ...fetchedArguments(program).map(printArgument),
  ].join(' ');
}
