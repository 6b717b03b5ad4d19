/**
 * Probe definitions: one tree, two texts for it. Ours is `LOCATION [ARGUMENT…] [if FILTER]`, the kernel's
 * `p[:[GROUP/]EVENT] LOCATION [ARGUMENT…]` of `uprobe_events`. `docs/probes.md` is the written grammar.
 */

import { hex, type FileOffset } from '../base/brand.ts';
import { unreachable, type TraplineError } from '../base/errors.ts';
import { listArgument, parseArguments, printArgument } from './arguments.ts';
import { parseCommand, printCommand } from './command.ts';
import { parseFilter, printFilter } from './filter-text.ts';
import type { FilterTree } from './filter.ts';
import { parseLocation, printLocation, type ProbeLocation } from './location.ts';
import { generateEventName, type EventName, type EventShape, type JoinProblem } from './names.ts';
import { fitsRecord, MAX_STRING_BYTES, type ProgramArgument } from './program.ts';
import { refusal } from './refusals.ts';
import { tokenize, type DefinitionTokens } from './tokens.ts';
import { printType } from './types.ts';

/** What somebody asked for, before anything of it was looked up. */
export interface ProbeDefinition {
  readonly location: ProbeLocation;
  readonly arguments: readonly ProgramArgument[];
  /** As it was written, for messages. */
  readonly text: string;
  /** Which hits act. */
  readonly filter?: FilterTree;
  /** The event's group, where it was named. */
  readonly group?: string;
  /** The event's name, where it was named. */
  readonly event?: string;
  /** A return probe: its hits are the returns of the function. */
  readonly isReturn?: true;
  /** Returns that may be awaited at the same time, where that was said. */
  readonly maxActive?: number;
  /** Where the file has a counter that is to be raised while the probe is in. */
  readonly reference?: FileOffset;
}

/** `-:[GROUP/][EVENT] [PLACE [ARGUMENT…]]`: an event that is not wanted any more, or some of its probes. */
export interface ProbeRemoval {
  readonly group?: string;
  readonly event?: string;
  /** The place and arguments of the probes that are meant, as {@link listDefinition} has them; all where there is none. */
  readonly listed?: string;
  readonly text: string;
}

/**
 * Parses a definition.
 * @throws TraplineError `bad-definition`, its position the first offending character of `text`.
 */
export function parseDefinition(text: string): ProbeDefinition {
  const line = parseLine(text);
  if ('location' in line) return line;
  throw refusal(text, text.indexOf('-'), 'noLocation', 'a removal is no probe');
}

/**
 * Parses a line of a file of probes: a definition, or a removal.
 * @throws TraplineError `bad-definition`, its position the first offending character of `text`.
 */
export function parseLine(text: string): ProbeDefinition | ProbeRemoval {
  const tokens = tokenize(text);
  const word = tokens.command;
  if (word?.text.startsWith('-') === true)
    return parseRemoval(text, tokens, parseCommand(text, word));
  const isAsked = word?.text.startsWith('r') === true;
  // The kernel looks at the place before the names.
  const place = parseLocation(text, tokens.location, tokens.locationEnd, isAsked);
  const command = word && parseCommand(text, word);
  const isReturn = place.isReturn || isAsked;
  const fetched = parseArguments({ text, isReturn }, tokens.arguments);
  const filter =
    tokens.filter === undefined ? undefined : parseFilter(text, tokens.filter, fetched);
  refuseTooBig(text, tokens, fetched, filter);
  return {
    location: place.location,
    arguments: fetched,
    text,
    ...(filter === undefined ? {} : { filter }),
    ...(command?.group === undefined ? {} : { group: command.group }),
    ...(command?.event === undefined ? {} : { event: command.event }),
    ...(isReturn ? { isReturn } : {}),
    ...(command?.maxActive === undefined ? {} : { maxActive: command.maxActive }),
    ...(place.reference === undefined ? {} : { reference: place.reference }),
  };
}

/** The kernel's refusal of too many fields; and ours of a filter that reads too many texts. */
function refuseTooBig(
  text: string,
  tokens: DefinitionTokens,
  fetched: readonly ProgramArgument[],
  filter: FilterTree | undefined,
): void {
  const [first] = tokens.arguments;
  if (first === undefined || fitsRecord(fetched, filter)) return;
  if (tokens.filter === undefined || !fitsRecord(fetched, undefined))
    throw refusal(text, first.column, 'eventTooBig');
  throw refusal(
    text,
    tokens.filter.column,
    'eventTooBig',
    `each term on a text of the target takes ${MAX_STRING_BYTES} bytes of the event's room: compare fewer`,
  );
}

function parseRemoval(
  text: string,
  tokens: DefinitionTokens,
  { group, event }: { readonly group?: string; readonly event?: string },
): ProbeRemoval {
  if (group === undefined && event === undefined) throw refusal(text, text.length, 'noEvent');
  const { column, text: command } = tokens.command ?? { column: 0, text: '' };
  const listed = wordsOf(text.slice(column + command.length, tokens.end));
  return {
    text,
    ...(listed === '' ? {} : { listed }),
    ...(group === undefined ? {} : { group }),
    ...(event === undefined ? {} : { event }),
  };
}

/** Words as a listing has them: one space between two. */
function wordsOf(text: string): string {
  return text.trim().replace(/[ \t\n\v\f\r]+/g, ' ');
}

/**
 * Whether a removal means a probe. What stands behind the event is compared as the kernel does it: each word with
 * that of the listing, of which the last ones may be missing (trace_uprobe_match, kernel/trace/trace_uprobe.c).
 */
export function isMeant(removal: ProbeRemoval, definition: ProbeDefinition): boolean {
  const { group, event } = namesOf(definition);
  if (removal.group !== undefined && removal.group !== group) return false;
  if (removal.event !== undefined && removal.event !== event) return false;
  return (
    removal.listed === undefined || `${listPlace(definition)} `.startsWith(`${removal.listed} `)
  );
}

/**
 * Writes a definition so that {@link parseDefinition} reads the same one, every argument with its name and
 * its canonical form; with the kernel's command word where something needs it.
 */
export function printDefinition(definition: ProbeDefinition): string {
  const { location, group, event, maxActive, reference, filter } = definition;
  const isReturn = definition.isReturn === true;
  const isNamed = group !== undefined || event !== undefined || maxActive !== undefined;
  const kind = maxActive === undefined ? 'probe' : 'return';
  const names = {
    ...(group === undefined ? {} : { group }),
    ...(event === undefined ? {} : { event }),
    ...(maxActive === undefined ? {} : { maxActive }),
  };
  const place = printLocation({
    location,
    isReturn: isReturn && kind === 'probe',
    reference,
  });
  return [
    ...(isNamed ? [printCommand({ kind, ...names })] : []),
    place,
    ...definition.arguments.map(printArgument),
    ...(filter === undefined ? [] : ['if', printFilter(filter)]),
  ].join(' ');
}

/** What a probe must have in common with the others of its event. */
export function shapeOf(definition: ProbeDefinition): EventShape {
  return {
    isReturn: definition.isReturn === true,
    fields: definition.arguments.map((argument) => `${argument.name}:${printType(argument)}`),
    definition: printDefinition(definition),
  };
}

/** The refusal of a probe that can't join the event that it names. */
export function joinRefusal({ text }: ProbeDefinition, problem: JoinProblem): TraplineError {
  if (problem.what !== 'differentArguments') return refusal(text, 0, problem.what);
  const column = tokenize(text).arguments[problem.argument]?.column ?? text.length;
  return refusal(text, column, problem.what);
}

/**
 * A definition as the kernel's `uprobe_events` lists it: `p:uprobes/p_zsh_0x4245c0 /bin/zsh:0x…45c0
 * arg1=%di`. What the kernel's language has no form for (functions, files by name) stands as it was
 * written, a filter is left out.
 * @param name of its event, where a session has given it another than would be generated
 */
export function listDefinition(definition: ProbeDefinition, name?: EventName): string {
  const { group, event } = namesOf(definition, name);
  const letter = definition.isReturn === true ? 'r' : 'p';
  return `${letter}:${group}/${event} ${listPlace(definition)}`;
}

/** A definition's event: as it was named, or as the session or the kernel would name it. */
function namesOf(
  { location, group, event }: ProbeDefinition,
  name?: EventName,
): { group: string; event: string } {
  const generated = name ?? generateEventName(location);
  return { group: group ?? generated.group, event: event ?? generated.event };
}

/**
 * The events that a definition's probes may have, as `GROUP/EVENT`; `GROUP/*` for a glob, each of whose functions has one of
 * its own.
 */
export function eventsOf(definition: ProbeDefinition): string {
  const { location } = definition;
  const { group, event } = namesOf(definition);
  const isAny = definition.event === undefined && location.kind === 'function' && location.isGlob;
  return `${group}/${isAny ? '*' : event}`;
}

/** What a listing has behind the event: a definition's place and arguments. */
export function listPlace(definition: ProbeDefinition): string {
  const { location, text, reference } = definition;
  const tokens = tokenize(text);
  const fetched = definition.arguments.map((argument, index) =>
    listArgument(argument, tokens.arguments[index]?.text ?? ''),
  );
  const counter = reference === undefined ? '' : `(${hex(reference)})`;
  return [`${listLocation(location)}${counter}`, ...fetched].join(' ');
}

function listLocation(location: ProbeLocation): string {
  switch (location.kind) {
    case 'offset':
      return `${location.file}:${padded(location.offset)}`;
    case 'address':
      return `${location.pid}:${padded(location.address)}`;
    case 'inode':
      return `${location.inode}:${padded(location.offset)}`;
    case 'function':
      return printLocation({ location, isReturn: false, reference: undefined });
    default:
      return unreachable(location);
  }
}

/** As the kernel prints a place: all 16 digits. */
function padded(value: number | bigint): string {
  return `0x${value.toString(16).padStart(16, '0')}`;
}
