/** Where a probe goes: `FUNC@FILE`, `FUNC+OFFSET@FILE` or `FILE:0xOFFSET`. */

import { fileOffset, hex, type FileOffset } from '../base/brand.ts';
import { parseUnsigned } from './numbers.ts';
import { refusal } from './refusals.ts';
import type { LocationCharacter } from './tokens.ts';

/** A place named by its function. */
export interface FunctionLocation {
  readonly kind: 'function';
  /**
   * The function's name as a symbol table, a demangler or a version (`memcpy@GLIBC_2.14`) gives it;
   * where `isGlob`, a pattern for `compileGlob`, with a backslash before what stood in quotes.
   */
  readonly name: string;
  /** Bytes from the function's first instruction. */
  readonly offset: number;
  /** Whether `name` is a pattern, to be matched with every function of the file. */
  readonly isGlob: boolean;
  /** A path, or a name found as the program loads it. */
  readonly file: string;
}

/** A place named by its offset in the file. */
export interface OffsetLocation {
  readonly kind: 'offset';
  /** A path, or a name found as the program loads it. */
  readonly file: string;
  readonly offset: FileOffset;
}

/** Where a probe goes, before anything of it was looked up. */
export type ProbeLocation = FunctionLocation | OffsetLocation;

type Characters = readonly LocationCharacter[];

const GLOB_CHARACTERS = '*?[';

/** What a parse function must know about the text around its characters. */
interface Context {
  readonly text: string;
  /** Where the location ends in `text`. */
  readonly end: number;
}

/**
 * Parses a location. The last `@` outside quotes begins the file; where there is none, the last `:`
 * outside quotes begins a file offset.
 * @param text the whole definition, for errors.
 * @param end index in `text` of the first character behind the location.
 * @throws TraplineError `bad-definition`.
 */
export function parseLocation(text: string, characters: Characters, end: number): ProbeLocation {
  const context = { text, end };
  const at = lastBare(characters, '@');
  if (at >= 0) return parseFunction(context, characters.slice(0, at), characters.slice(at + 1));
  const colon = lastBare(characters, ':');
  if (colon >= 0) {
    return parseOffset(context, characters.slice(0, colon), characters.slice(colon + 1));
  }
  const name = textOf(characters);
  const example = name === '' ? 'zfree' : name;
  throw refusal(
    text,
    end,
    'noLocation',
    `write FUNC@FILE (${example}@zsh, ${example}@/bin/zsh) or FILE:0xOFFSET`,
  );
}

/** Writes a location so that {@link parseLocation} reads the same one. */
export function printLocation(location: ProbeLocation): string {
  const file = printName(location.file);
  if (location.kind === 'offset') return `${file}:${hex(location.offset)}`;
  const name = location.isGlob ? printGlob(location.name) : printName(location.name);
  return `${name}${location.offset === 0 ? '' : `+${hex(location.offset)}`}@${file}`;
}

function parseFunction(context: Context, before: Characters, file: Characters): FunctionLocation {
  const { text } = context;
  const percent = before.find((character) => isBare(character, '%'));
  if (percent !== undefined) {
    throw refusal(text, percent.column, 'laterReturn', "a '%' of the name itself needs quotes");
  }
  const plus = lastBare(before, '+');
  const name = plus < 0 ? before : before.slice(0, plus);
  const offset = plus < 0 ? 0 : parseFunctionOffset(context, before, plus);
  if (name.length === 0) throw refusal(text, before[0]?.column ?? 0, 'noFunction');
  if (file.length === 0) throw refusal(text, context.end, 'noFile', 'write FUNC@FILE');
  const colon = file.find((character) => isBare(character, ':'));
  if (colon !== undefined) {
    throw refusal(text, colon.column, 'colonInFile', 'a file offset is written FILE:0xOFFSET');
  }
  const isGlob = name.some(({ value, quoted }) => !quoted && GLOB_CHARACTERS.includes(value));
  return {
    kind: 'function',
    name: isGlob ? patternOf(name) : textOf(name),
    offset,
    isGlob,
    file: textOf(file),
  };
}

function parseFunctionOffset(context: Context, before: Characters, plus: number): number {
  const digits = before.slice(plus + 1);
  const value = parseUnsigned(textOf(digits));
  if (value !== undefined && value <= Number.MAX_SAFE_INTEGER) return Number(value);
  const sign = before[plus]?.column ?? 0;
  const column = digits[0]?.column ?? sign + 1;
  throw refusal(context.text, column, 'badOffset', "a '+' of the name itself needs quotes");
}

function parseOffset(context: Context, file: Characters, digits: Characters): OffsetLocation {
  const { text, end } = context;
  const later = digits.find((character) => isBare(character, '(') || isBare(character, '%'));
  if (later !== undefined) {
    throw refusal(text, later.column, later.value === '(' ? 'laterReference' : 'laterReturn');
  }
  const first = file[0];
  if (first === undefined) throw refusal(text, 0, 'noFile', 'write FILE:0xOFFSET');
  if (file.every(({ value, quoted }) => !quoted && /[0-9:]/.test(value))) {
    throw refusal(text, first.column, 'laterAddress', 'a file of this name needs quotes');
  }
  const value = parseUnsigned(textOf(digits));
  if (value === undefined || value > Number.MAX_SAFE_INTEGER) {
    throw refusal(text, digits[0]?.column ?? end, 'badOffset', 'write FUNC@FILE or FILE:0xOFFSET');
  }
  return { kind: 'offset', file: textOf(file), offset: fileOffset(value) };
}

function isBare(character: LocationCharacter, value: string): boolean {
  return character.value === value && !character.quoted;
}

function lastBare(characters: Characters, value: string): number {
  return characters.findLastIndex((character) => isBare(character, value));
}

function textOf(characters: Characters): string {
  return characters.map(({ value }) => value).join('');
}

/** The characters as a glob, in which those that stood in quotes mean themselves. */
function patternOf(characters: Characters): string {
  return characters
    .map(({ value, quoted }) => (quoted && /[*?[\\]/.test(value) ? `\\${value}` : value))
    .join('');
}

function printName(name: string): string {
  // Digits alone stand in quotes, because `123:0x10` will be an address in process 123.
  if (/^[\w./,~<>()&=$!^{}#;-]+$/.test(name) && !/^\d+$/.test(name)) return name;
  return name.includes("'") ? `"${name.replaceAll(/["\\]/g, '\\$&')}"` : `'${name}'`;
}

function printGlob(pattern: string): string {
  return pattern.replaceAll(/\\[^]|[\s@+%:'"]/g, (found) =>
    found.length === 1 ? `\\${found}` : found,
  );
}
