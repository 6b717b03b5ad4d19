/** Files of probes: one definition a line, comments, removals. */

import { TraplineError } from '../../base/errors.ts';
import { parseLine } from '../../probe/definition.ts';
import { generateEventName } from '../../probe/names.ts';
import { tokenize } from '../../probe/tokens.ts';

/**
 * The definitions of a file of probes, in order. A line is empty, a definition, or `-:GROUP/EVENT`, which takes
 * the event of earlier lines away; `#` begins a comment, at a line's start or where an argument could begin.
 * @param name the file's, for errors.
 * @throws TraplineError `bad-definition` that names the line.
 */
export function parseProbes(text: string, name: string): string[] {
  const found = new Map<string, { readonly group: string; readonly event: string }>();
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

function takeLine(
  line: string,
  found: Map<string, { readonly group: string; readonly event: string }>,
): void {
  const parsed = parseLine(line);
  if ('location' in parsed) {
    if (found.has(line)) throw repeated(line);
    const generated = generateEventName(parsed.location);
    const group = parsed.group ?? generated.group;
    found.set(line, { group, event: parsed.event ?? generated.event });
    return;
  }
  const gone = [...found].filter(([, { group, event }]) => {
    const isGroup = parsed.group === undefined || parsed.group === group;
    return isGroup && (parsed.event === undefined || parsed.event === event);
  });
  if (gone.length === 0) {
    throw new TraplineError({
      code: 'bad-definition',
      message: 'no line before this one defines that event',
      position: { text: line, column: line.indexOf(':') + 1 },
    });
  }
  for (const [definition] of gone) found.delete(definition);
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
