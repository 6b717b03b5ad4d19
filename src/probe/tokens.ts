/** Cuts a definition's text into the characters of its location and the words of its arguments. */

import { refusal } from './refusals.ts';

/** One character of a location, with what the grammar must know about it. */
export interface LocationCharacter {
  /** The character itself (one UTF-16 unit), without the quotes or backslash around it. */
  readonly value: string;
  /** Whether it stands for itself, because of quotes or a backslash. */
  readonly quoted: boolean;
  /** Its index in the definition's text. */
  readonly column: number;
}

/** A run of characters between white space. */
export interface Word {
  readonly text: string;
  /** Index of its first character in the definition's text. */
  readonly column: number;
}

/** A definition's text in pieces. */
export interface DefinitionTokens {
  /** Quotes removed; empty where the text holds nothing or an empty quoted name. */
  readonly location: readonly LocationCharacter[];
  /** Index of the first character behind the location. */
  readonly locationEnd: number;
  readonly arguments: readonly Word[];
}

const WHITE_SPACE = /[ \t\n\v\f\r]/;

/**
 * Cuts a definition's text into pieces. Quotes and backslashes have a meaning in the location only;
 * the arguments that follow are the kernel's, which splits at white space whatever stands around it.
 * @throws TraplineError `bad-definition` for an open quote, a final backslash, a NUL character or no
 * text at all.
 */
export function tokenize(text: string): DefinitionTokens {
  const nul = text.indexOf('\0');
  if (nul >= 0) throw refusal(text, nul, 'nulCharacter');
  const start = text.search(/[^ \t\n\v\f\r]/);
  if (start < 0) throw refusal(text, 0, 'empty', 'write FUNC@FILE or FILE:0xOFFSET');
  const location: LocationCharacter[] = [];
  let at = start;
  while (at < text.length && !WHITE_SPACE.test(text.charAt(at))) {
    at = takePiece(text, at, location);
  }
  return { location, locationEnd: at, arguments: words(text, at) };
}

/** Takes one bare character, one escaped character or one quoted run; returns where it ends. */
function takePiece(text: string, at: number, into: LocationCharacter[]): number {
  const first = text.charAt(at);
  if (first === "'" || first === '"') return takeQuoted(text, at, into);
  if (first !== '\\') {
    into.push({ value: first, quoted: false, column: at });
    return at + 1;
  }
  if (at + 1 >= text.length) throw refusal(text, at, 'escapeOpen');
  into.push({ value: text.charAt(at + 1), quoted: true, column: at });
  return at + 2;
}

function takeQuoted(text: string, start: number, into: LocationCharacter[]): number {
  const quote = text.charAt(start);
  for (let at = start + 1; at < text.length; at++) {
    const character = text.charAt(at);
    if (character === quote) return at + 1;
    const escapes = character === '\\' && quote === '"' && at + 1 < text.length;
    into.push({ value: escapes ? text.charAt(at + 1) : character, quoted: true, column: at });
    if (escapes) at++;
  }
  throw refusal(text, start, 'quoteOpen', `end it with another ${quote}`);
}

function words(text: string, from: number): Word[] {
  return Array.from(text.slice(from).matchAll(/[^ \t\n\v\f\r]+/g), (found) => ({
    text: found[0],
    column: from + found.index,
  }));
}
