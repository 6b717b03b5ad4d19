/**
 * Probe definitions: the text `LOCATION [ARGUMENT…]` and its tree. `docs/probes.md` is the written
 * grammar. The kernel's `uprobe_events` commands will be a second text for the same tree.
 */

import { parseArguments, printArgument } from './arguments.ts';
import { parseLocation, printLocation, type ProbeLocation } from './location.ts';
import type { ProgramArgument } from './program.ts';
import { tokenize } from './tokens.ts';

/** What somebody asked for, before anything of it was looked up. */
export interface ProbeDefinition {
  readonly location: ProbeLocation;
  readonly arguments: readonly ProgramArgument[];
  /** As it was written, for messages. */
  readonly text: string;
  /** The event's group, where it was named. The text has no form for it yet. */
  readonly group?: string;
  /** The event's name, where it was named. The text has no form for it yet. */
  readonly event?: string;
}

/**
 * Parses a definition.
 * @throws TraplineError `bad-definition`, its position the first offending character of `text`.
 */
export function parseDefinition(text: string): ProbeDefinition {
  const tokens = tokenize(text);
  const location = parseLocation(text, tokens.location, tokens.locationEnd);
  return { location, arguments: parseArguments(text, tokens.arguments), text };
}

/**
 * Writes a definition so that {@link parseDefinition} reads the same location and arguments, every
 * argument with its name and its canonical form. Group and event have no place in this text.
 */
export function printDefinition(definition: ProbeDefinition): string {
  const location = printLocation(definition.location);
  return [location, ...definition.arguments.map(printArgument)].join(' ');
}
