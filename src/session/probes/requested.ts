/** What a request says beside its place: filters, and what can't be done yet. */

import { TraplineError } from '../../base/errors.ts';
import type { ProbeDefinition } from '../../probe/definition.ts';
import { parseFilter } from '../../probe/filter-text.ts';
import type { ProgramFilter } from '../../probe/filter.ts';
import type { ProbeRequest } from '../types.ts';

/**
 * The filter of the definition and those of the request, all of which are to hold.
 * @throws TraplineError `bad-definition`.
 */
export function filtersOf(
  definition: ProbeDefinition,
  asked: ProbeRequest['filter'],
): ProgramFilter[] {
  const own = definition.filter === undefined ? [] : [definition.filter];
  const others = textsOf(asked).map((text) =>
    parseFilter(text, { text, column: 0 }, definition.arguments),
  );
  return [...own, ...others];
}

/** The filters of a request as one; undefined where there is none. */
export function filterText(asked: ProbeRequest['filter']): string | undefined {
  const texts = textsOf(asked);
  return texts.length > 1 ? texts.map((text) => `(${text})`).join(' && ') : texts[0];
}

function textsOf(asked: ProbeRequest['filter']): readonly string[] {
  return typeof asked === 'string' ? [asked] : (asked ?? []);
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
