/** What a request says beside its place: filters, and what can't be done yet. */

import { inspect } from 'node:util';

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

/**
 * What somebody asked for, as a request.
 * @throws TraplineError `usage` for what is none: who writes JavaScript has no compiler that says so.
 */
export function requestOf(asked: string | ProbeRequest): ProbeRequest {
  const request: unknown = typeof asked === 'string' ? { definition: asked } : asked;
  if (!isRequest(request)) {
    throw new TraplineError({
      code: 'usage',
      message: `${inspect(request, { depth: 1, breakLength: Infinity })} is no request of a probe`,
      hint: "Write its definition, 'zfree@zsh', or an object that has it: { definition: 'zfree@zsh' }.",
    });
  }
  return request;
}

function isRequest(request: unknown): request is ProbeRequest {
  if (typeof request !== 'object' || request === null) return false;
  if (!('definition' in request) || typeof request.definition !== 'string') return false;
  if ('exclude' in request && !isTexts(request.exclude)) return false;
  const filter = 'filter' in request ? request.filter : undefined;
  return typeof filter === 'string' || isTexts(filter);
}

function isTexts(value: unknown): boolean {
  if (value === undefined) return true;
  return Array.isArray(value) && value.every((each) => typeof each === 'string');
}
