/** What a request says beside its place: filters, and what can't be done yet. */

import { TraplineError } from '../../base/errors.ts';
import type { ProbeDefinition } from '../../probe/definition.ts';
import { parseFilter } from '../../probe/filter-text.ts';
import type { ProgramFilter } from '../../probe/filter.ts';

/**
 * The filter of the definition and that of the request.
 * @throws TraplineError `bad-definition`.
 */
export function filtersOf(
  definition: ProbeDefinition,
  filter: string | undefined,
): ProgramFilter[] {
  const own = definition.filter === undefined ? [] : [definition.filter];
  if (filter === undefined) return own;
  return [...own, parseFilter(filter, { text: filter, column: 0 }, definition.arguments)];
}

/** @throws TraplineError `unsupported` for what is understood, but can't be done yet by any engine. */
export function refuseLater({ isReturn, text }: ProbeDefinition): void {
  if (isReturn !== true) return;
  throw new TraplineError({
    code: 'unsupported',
    message: `${text}: return probes are understood, but this version can't make them yet`,
    hint: 'Probe the entry of the function, or the places at which it returns (FUNC+OFFSET@FILE).',
  });
}
