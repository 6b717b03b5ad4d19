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
  /** The kernel's command word, where the text begins with one: `p:GROUP/EVENT`. */
  readonly command: Word | undefined;
  /** Quotes removed; empty where the text holds nothing or an empty quoted name. */
  readonly location: readonly LocationCharacter[];
  /** Index of the first character behind the location. */
  readonly locationEnd: number;
  readonly arguments: readonly Word[];
  /** What follows a bare `if`, to the end. */
  readonly filter: Word | undefined;
  /** Index of a comment, with the white space before it, or of the end of the text. */
  readonly end: number;
}

const WHITE_SPACE = /[ \t\n\v\f\r]/;
/** `p`, `r`, `r8`, `-`, each with `:` and names behind it or not; `p::f` is a name of C++ or Rust. */
const COMMAND = /^(?:p|r\d*|-)(?::(?!:)|$)/;
/**
 * A path as the kernel takes it: all to the last colon, which a digit must follow. What begins with a quote is ours: no
 * path that somebody means begins so.
 */
const KERNEL_PLACE = /^(?!['"])[^]*\/[^]*:[0-9][^:'"\\]*$/;

/**
 * Cuts a definition's text into pieces. Quotes and backslashes have a meaning in the location only;
 * the arguments that follow are the kernel's, which splits at white space whatever stands around it.
 * @throws TraplineError `bad-definition` for an open quote, a final backslash, a NUL character or no
 * text at all.
 */
export function tokenize(text: string): DefinitionTokens {
  const nul = text.indexOf('\0');
  if (nul >= 0) throw refusal(text, nul, 'nulCharacter');
  const start = skipWhite(text, 0);
  if (start === text.length) throw refusal(text, 0, 'empty', 'write FUNC@FILE or FILE:0xOFFSET');
  const command = takeCommand(text, start);
  const location: LocationCharacter[] = [];
  let at = command === undefined ? start : skipWhite(text, command.column + command.text.length);
  const place = command === undefined ? '' : wordAt(text, at);
  if (KERNEL_PLACE.test(place)) {
    // No character of the path itself has a meaning there.
    const colon = at + place.lastIndexOf(':');
    for (; at < colon; at++) location.push({ value: text.charAt(at), quoted: true, column: at });
  }
  const limit = command !== undefined && text.charAt(at) === '#' ? at : text.length;
  while (at < limit && !WHITE_SPACE.test(text.charAt(at))) {
    at = takePiece(text, at, location);
  }
  const all = words(text, at);
  const last = all.findIndex((word) => word.text === 'if' || word.text.startsWith('#'));
  const fetched = last < 0 ? all : all.slice(0, last);
  const rest = all[last];
  const isFilter = rest?.text === 'if';
  const begin = isFilter ? skipWhite(text, rest.column + 2) : undefined;
  const comment = isFilter ? commentBehind(text, rest.column + 2) : rest?.column;
  const end = text.slice(0, comment).trimEnd().length;
  return {
    command,
    location,
    locationEnd: at,
    arguments: fetched,
    filter: begin === undefined ? undefined : { text: text.slice(begin, end), column: begin },
    end,
  };
}

/** Where a comment begins behind a filter, whose texts may have a `#` of their own. */
function commentBehind(text: string, from: number): number | undefined {
  const pieces = text.slice(from).matchAll(/"[^"]*"?|'[^']*'?|\s#/g);
  const found = Array.from(pieces).find(([piece]) => piece.endsWith('#') && /^\s/.test(piece));
  return found === undefined ? undefined : from + found.index + 1;
}

/** The command word, if there is one: alone it would be no location either. */
function takeCommand(text: string, start: number): Word | undefined {
  const word = wordAt(text, start);
  if (!COMMAND.test(word)) return undefined;
  return { text: word, column: start };
}

function wordAt(text: string, at: number): string {
  const length = text.slice(at).search(WHITE_SPACE);
  return length < 0 ? text.slice(at) : text.slice(at, at + length);
}

function skipWhite(text: string, from: number): number {
  let at = from;
  while (at < text.length && WHITE_SPACE.test(text.charAt(at))) at++;
  return at;
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
