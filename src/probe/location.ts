/** Where a probe goes: `FUNC@FILE`, `FILE:0xOFFSET`, `PID:0xADDRESS`, `MAJOR:MINOR:INODE:0xOFFSET`. */

import { address, fileOffset, hex, type Address, type FileOffset } from '../base/brand.ts';
import { unreachable } from '../base/errors.ts';
import { parsePositive, parseUnsigned } from './numbers.ts';
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

/** A place named by its address in one process. */
export interface AddressLocation {
  readonly kind: 'address';
  /** As we see it. */
  readonly pid: number;
  readonly address: Address;
}

/** A place named by the file's identity. */
export interface InodeLocation {
  readonly kind: 'inode';
  /** `MAJOR:MINOR` in hexadecimal, as `/proc/PID/maps` prints it: `fe:01`. */
  readonly device: string;
  readonly inode: bigint;
  readonly offset: FileOffset;
}

/** Where a probe goes, before anything of it was looked up. */
export type ProbeLocation = FunctionLocation | OffsetLocation | AddressLocation | InodeLocation;

/** A location with what may stand behind it. */
export interface ParsedLocation {
  readonly location: ProbeLocation;
  /** Whether it says `%return`. */
  readonly isReturn: boolean;
  /** The file offset of a counter that is to be raised while the probe is in. */
  readonly reference: FileOffset | undefined;
}

type Characters = readonly LocationCharacter[];

const GLOB_CHARACTERS = '*?[';
/** PID_MAX_LIMIT of the kernel. */
const MAX_PID = 1 << 22;

/** What a parse function must know about the text around its characters. */
interface Context {
  readonly text: string;
  /** Where the location ends in `text`. */
  readonly end: number;
  /** Whether a command word asks for a return probe. */
  readonly isReturn: boolean;
}

/**
 * Parses a location. The last `@` outside quotes begins the file; where there is none, the last `:`
 * outside quotes begins a file offset.
 * @param text the whole definition, for errors.
 * @param end index in `text` of the first character behind the location.
 * @param isReturn whether it is asked for a return probe there, whatever the location says
 * @throws TraplineError `bad-definition`.
 */
export function parseLocation(
  text: string,
  characters: Characters,
  end: number,
  isReturn: boolean,
): ParsedLocation {
  const context = { text, end, isReturn };
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
export function printLocation({ location, isReturn, reference }: ParsedLocation): string {
  const suffix = isReturn ? '%return' : '';
  if (location.kind === 'function') {
    const name = location.isGlob ? printGlob(location.name) : printName(location.name);
    const offset = location.offset === 0 ? '' : `+${hex(location.offset)}`;
    return `${name}${offset}${suffix}@${printName(location.file)}`;
  }
  const counter = reference === undefined ? '' : `(${hex(reference)})`;
  return `${printPlace(location)}${suffix}${counter}`;
}

function printPlace(location: Exclude<ProbeLocation, FunctionLocation>): string {
  switch (location.kind) {
    case 'offset':
      return `${printName(location.file)}:${hex(location.offset)}`;
    case 'address':
      return `${location.pid}:${hex(location.address)}`;
    case 'inode':
      return `${location.device}:${location.inode}:${hex(location.offset)}`;
    default:
      return unreachable(location);
  }
}

function parseFunction(context: Context, beforeAt: Characters, file: Characters): ParsedLocation {
  const { text } = context;
  const { before, isReturn } = takeReturn(context, beforeAt);
  const plus = lastBare(before, '+');
  const name = plus < 0 ? before : before.slice(0, plus);
  const offset = plus < 0 ? 0 : parseFunctionOffset(context, before, plus);
  if (name.length === 0) throw refusal(text, before[0]?.column ?? 0, 'noFunction');
  if (file.length === 0) throw refusal(text, context.end, 'noFile', 'write FUNC@FILE');
  const colon = file.find((character) => isBare(character, ':'));
  if (colon !== undefined) {
    throw refusal(text, colon.column, 'colonInFile', 'a file offset is written FILE:0xOFFSET');
  }
  if ((isReturn || context.isReturn) && offset !== 0) {
    throw refusal(text, before[plus]?.column ?? 0, 'functionInMiddle');
  }
  const isGlob = name.some(({ value, quoted }) => !quoted && GLOB_CHARACTERS.includes(value));
  return {
    location: {
      kind: 'function',
      name: isGlob ? patternOf(name) : textOf(name),
      offset,
      isGlob,
      file: textOf(file),
    },
    isReturn,
    reference: undefined,
  };
}

/** Takes `%return` off. */
function takeReturn(
  { text }: Context,
  characters: Characters,
): { before: Characters; isReturn: boolean } {
  const percent = characters.findIndex((character) => isBare(character, '%'));
  if (percent < 0) return { before: characters, isReturn: false };
  if (textOf(characters.slice(percent)) === '%return') {
    return { before: characters.slice(0, percent), isReturn: true };
  }
  const hint = "it can be %return; a '%' of the name itself needs quotes";
  throw refusal(text, characters[percent]?.column ?? 0, 'badAddressSuffix', hint);
}

function parseFunctionOffset(context: Context, before: Characters, plus: number): number {
  const digits = before.slice(plus + 1);
  const value = parseUnsigned(textOf(digits));
  if (value !== undefined && value <= Number.MAX_SAFE_INTEGER) return Number(value);
  const sign = before[plus]?.column ?? 0;
  const column = digits[0]?.column ?? sign + 1;
  throw refusal(context.text, column, 'badOffset', "a '+' of the name itself needs quotes");
}

/** In the kernel's order: the counter, `%return`, the offset. */
function parseOffset(context: Context, file: Characters, digits: Characters): ParsedLocation {
  const { text, end } = context;
  const { before, reference } = takeReference(context, digits);
  const { before: number, isReturn } = takeReturn(context, before);
  const first = file[0];
  if (first === undefined) throw refusal(text, 0, 'noFile', 'write FILE:0xOFFSET');
  const value = parseUnsigned(textOf(number));
  const column = number[0]?.column ?? digits[0]?.column ?? end;
  if (value === undefined) {
    throw refusal(text, column, 'badOffset', 'write FUNC@FILE or FILE:0xOFFSET');
  }
  const rest = { isReturn, reference };
  // A name of digits and colons alone means another place, unless something of it stands in quotes.
  const bare = file.every(({ quoted }) => !quoted) ? textOf(file) : '';
  if (/^[0-9]+$/.test(bare)) {
    const pid = Number(bare);
    if (pid === 0 || pid > MAX_PID) {
      throw refusal(text, first.column, 'badProcess', 'a file of this name needs quotes');
    }
    return { location: { kind: 'address', pid, address: address(value) }, ...rest };
  }
  if (value > Number.MAX_SAFE_INTEGER) throw refusal(text, column, 'badOffset');
  const offset = fileOffset(Number(value));
  if (/^[0-9a-f]+(?::[0-9a-f]+)+$/.test(bare)) {
    return { location: parseInode(text, bare, first.column, offset), ...rest };
  }
  return { location: { kind: 'offset', file: textOf(file), offset }, ...rest };
}

function parseInode(text: string, name: string, column: number, offset: FileOffset): InodeLocation {
  const [, major = '', minor = '', inode = ''] =
    /^([0-9a-f]+):([0-9a-f]+):([1-9][0-9]*)$/.exec(name) ?? [];
  const number = parseUnsigned(inode);
  if (number === undefined || major.length > 8 || minor.length > 8) {
    const hint =
      'write MAJOR:MINOR:INODE:0xOFFSET, as in /proc/PID/maps; a file of this name needs quotes';
    throw refusal(text, column, 'badInode', hint);
  }
  const device = `${devicePart(major)}:${devicePart(minor)}`;
  return { kind: 'inode', device, inode: number, offset };
}

/** As `/proc/PID/maps` prints half a device. */
function devicePart(digits: string): string {
  return digits.replace(/^0+/, '').padStart(2, '0');
}

/** Takes `(REF_CTR)` off. */
function takeReference(
  { text, end }: Context,
  digits: Characters,
): { before: Characters; reference: FileOffset | undefined } {
  const open = digits.findIndex((character) => isBare(character, '('));
  if (open < 0) return { before: digits, reference: undefined };
  const close = digits.findIndex((character, at) => at > open && isBare(character, ')'));
  if (close < 0) throw refusal(text, end, 'referenceOpen');
  const behind = digits[close + 1];
  if (behind !== undefined) throw refusal(text, behind.column, 'badReferenceSuffix');
  const value = parsePositive(textOf(digits.slice(open + 1, close)));
  if (value === undefined || value > Number.MAX_SAFE_INTEGER) {
    throw refusal(text, digits[open + 1]?.column ?? end, 'badReference');
  }
  // The kernel's listing shows none where it is 0.
  const reference = value === 0n ? undefined : fileOffset(Number(value));
  return { before: digits.slice(0, open), reference };
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
  // In quotes: what would be an address, an inode, or the kernel's command word.
  if (/^[\w./,~<>&=$!^{}#;-]+$/.test(name) && !/^(?:\d+|p|-|r\d*)$/.test(name)) return name;
  return name.includes("'") ? `"${name.replaceAll(/["\\]/g, '\\$&')}"` : `'${name}'`;
}

function printGlob(pattern: string): string {
  return pattern.replaceAll(/\\[^]|[\s@+%:'"]/g, (found) =>
    found.length === 1 ? `\\${found}` : found,
  );
}
