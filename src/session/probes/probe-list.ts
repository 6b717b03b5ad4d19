/** Files of probes: one definition a line, comments, removals. */

import { TraplineError } from '../../base/errors.ts';
import {
  eventsOf,
  isMeant,
  listPlace,
  parseLine,
  type ProbeDefinition,
  type ProbeRemoval,
} from '../../probe/definition.ts';
import { tokenize } from '../../probe/tokens.ts';
import { aboutWritten } from './origin.ts';

/** A line of a file of probes; a request that can be added as it is. */
export interface ListedProbe {
  readonly definition: string;
  /** Where it is: `FILE:LINE`. */
  readonly origin: string;
  /**
   * The events that it may have, as `GROUP/EVENT`; `GROUP/*` for a glob, each of whose functions has one of its own. Two
   * lines with the same are told apart by `_1` behind the second's, or are one event where both have named it.
   */
  readonly events: string;
}

/** Places that an error names at most. */
const MOST_NAMED = 3;

/**
 * The probes of a file of them, in order. A line is empty, a definition, or `-:GROUP/EVENT`, which takes
 * the event of earlier lines away, or those of its probes that have the place and arguments behind it; `#` begins a
 * comment, at a line's start or where an argument could begin.
 * @param name the file's, for errors.
 * @throws TraplineError `bad-definition` that names the line.
 */
export function parseProbes(text: string, name: string): ListedProbe[] {
  const found = new Map<string, FoundLine>();
  text.split('\n').forEach((whole, index) => {
    const line = whole.trim();
    if (line === '' || line.startsWith('#')) return;
    const origin = `${name}:${index + 1}`;
    aboutWritten({ definition: line, origin }, () => {
      takeLine(line.slice(0, tokenize(line).end), origin, found);
    });
  });
  return Array.from(found, ([definition, { parsed, origin }]) => {
    return { definition, origin, events: eventsOf(parsed) };
  });
}

interface FoundLine {
  readonly parsed: ProbeDefinition;
  readonly origin: string;
}

function takeLine(line: string, origin: string, found: Map<string, FoundLine>): void {
  const parsed = parseLine(line);
  if ('location' in parsed) {
    if (found.has(line)) throw repeated(line);
    found.set(line, { parsed, origin });
    return;
  }
  const known = Array.from(found.values(), (one) => one.parsed);
  const gone = [...found].filter(([, one]) => isMeant(parsed, one.parsed));
  if (gone.length === 0) throw nothingMeant(line, parsed, known);
  for (const [definition] of gone) found.delete(definition);
}

/** @param known what earlier lines define */
function nothingMeant(
  line: string,
  { listed, ...event }: ProbeRemoval,
  known: readonly ProbeDefinition[],
): TraplineError {
  const others = known.filter((definition) => isMeant(event, definition)).map(listPlace);
  const isElsewhere = listed !== undefined && others.length > 0;
  return new TraplineError({
    code: 'bad-definition',
    message: `no line before this one defines that event${isElsewhere ? ' there' : ''}`,
    ...(isElsewhere
      ? { hint: `it is listed as ${others.slice(0, MOST_NAMED).join(', and as ')}` }
      : {}),
    position: { text: line, column: isElsewhere ? placeOf(line) : line.indexOf(':') + 1 },
  });
}

/** Where what stands behind the event of a removal begins. */
function placeOf(line: string): number {
  return /^\S+\s+/.exec(line)?.[0].length ?? 0;
}

function repeated(line: string): TraplineError {
  return new TraplineError({
    code: 'bad-definition',
    message: 'There is already the exact same probe event',
    position: { text: line, column: 0 },
  });
}
