/** Files of probes: one definition a line, comments, removals. */

import { TraplineError } from '../../base/errors.ts';
import {
  isMeant,
  listPlace,
  parseLine,
  type ProbeDefinition,
  type ProbeRemoval,
} from '../../probe/definition.ts';
import { tokenize } from '../../probe/tokens.ts';

/** Places that an error names at most. */
const MOST_NAMED = 3;

/**
 * The definitions of a file of probes, in order. A line is empty, a definition, or `-:GROUP/EVENT`, which takes
 * the event of earlier lines away, or those of its probes that have the place and arguments behind it; `#` begins a
 * comment, at a line's start or where an argument could begin.
 * @param name the file's, for errors.
 * @throws TraplineError `bad-definition` that names the line.
 */
export function parseProbes(text: string, name: string): string[] {
  const found = new Map<string, ProbeDefinition>();
  text.split('\n').forEach((whole, index) => {
    const line = whole.trim();
    if (line === '' || line.startsWith('#')) return;
    try {
      takeLine(line.slice(0, tokenize(line).end), found);
    } catch (error) {
      throw inLine(error, `${name}:${index + 1}`);
    }
  });
  return [...found.keys()];
}

function takeLine(line: string, found: Map<string, ProbeDefinition>): void {
  const parsed = parseLine(line);
  if ('location' in parsed) {
    if (found.has(line)) throw repeated(line);
    found.set(line, parsed);
    return;
  }
  const gone = [...found].filter(([, definition]) => isMeant(parsed, definition));
  if (gone.length === 0) throw nothingMeant(line, parsed, [...found.values()]);
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

function inLine(error: unknown, place: string): unknown {
  if (!(error instanceof TraplineError)) return error;
  const { code, message, hint, position } = error;
  return new TraplineError({
    code,
    message: `${place}: ${message}`,
    ...(hint === undefined ? {} : { hint }),
    ...(position === undefined ? {} : { position }),
    cause: error,
  });
}
