/** The types of a fetched value: names, arrays, bit-fields. */

import type { FieldType } from '../events/layout.ts';
import { parsePositive, parseUnsigned } from './numbers.ts';
import type { BitRange } from './program.ts';
import { refusal } from './refusals.ts';
import type { Word } from './tokens.ts';

/** What the kernel gives an argument of a uprobe that names no type (DEFAULT_FETCH_TYPE). */
export const DEFAULT_TYPE: FieldType = 'x64';

/** The most elements of an array (MAX_ARRAY_LEN). */
const MAX_ARRAY = 64;

/** Every type of a single value, in the order in which they are shown to a person. */
export const FIELD_TYPES: readonly FieldType[] = [
  'u8',
  'u16',
  'u32',
  'u64',
  's8',
  's16',
  's32',
  's64',
  'x8',
  'x16',
  'x32',
  'x64',
  'char',
  'symbol',
  'string',
];

/** A type as it was written. */
export interface ValueType {
  readonly type: FieldType;
  readonly bits?: BitRange;
  readonly count?: number;
}

/** All memory that we read is the user's: `ustring` is another name of the same. */
const byName: ReadonlyMap<string, FieldType> = new Map([
  ...FIELD_TYPES.map((type) => [type, type] as const),
  ['ustring', 'string'],
]);

/**
 * Parses a type: `u32`, `string`, `b4@2/16`, `x8[16]`. Bit-fields are not held against their containers
 * here: the kernel does that after the fetch; {@link checkBits} is the second half.
 * @param text the whole definition, for errors.
 */
export function parseType(text: string, word: Word): ValueType & { readonly bitText?: Word } {
  const open = word.text.indexOf('[');
  const name = open < 0 ? word.text : word.text.slice(0, open);
  const count = open < 0 ? undefined : parseCount(text, word, open);
  const array = count === undefined ? {} : { count };
  const container = /^b[^/]*\/(.*)$/s.exec(name)?.[1];
  if (container !== undefined) {
    const width = parsePositive(container);
    if (width === 8n || width === 16n || width === 32n || width === 64n) {
      const type = byName.get(`u${width}`) ?? DEFAULT_TYPE;
      return { type, ...array, bitText: { text: name, column: word.column } };
    }
  }
  const type = byName.get(name);
  if (type !== undefined) return { type, ...array };
  const names = `${FIELD_TYPES.join(' ')} bWIDTH@OFFSET/SIZE, and TYPE[COUNT]`;
  throw refusal(text, word.column, 'badType', `the types are ${names}`);
}

function parseCount(text: string, word: Word, open: number): number {
  const close = word.text.indexOf(']', open);
  if (close < 0) throw refusal(text, word.column + word.text.length, 'arrayOpen');
  if (close + 1 < word.text.length) throw refusal(text, word.column + close + 1, 'badArraySuffix');
  const column = word.column + open + 1;
  const count = parsePositive(word.text.slice(open + 1, close));
  if (count === undefined || count === 0n || count >= 1n << 32n) {
    throw refusal(text, column, 'badArrayNumber');
  }
  if (count > MAX_ARRAY) throw refusal(text, column, 'arrayTooBig', `the most is ${MAX_ARRAY}`);
  return Number(count);
}

/** Parses `bWIDTH@OFFSET/SIZE`, whose SIZE {@link parseType} has read. */
export function checkBits(text: string, word: Word, type: FieldType): BitRange {
  const [, width, offset] = /^b([^@]*)@([^/]*)\//.exec(word.text) ?? [];
  const bits = { width: bitNumber(width), offset: bitNumber(offset) };
  if (bits.width >= 1 && bits.width + bits.offset <= Number(type.slice(1))) return bits;
  throw refusal(text, word.column, 'badBitField', 'write bWIDTH@OFFSET/SIZE: b4@8/32');
}

function bitNumber(digits: string | undefined): number {
  const value = digits === undefined ? undefined : parseUnsigned(digits);
  return value === undefined || value > 64n ? Number.NaN : Number(value);
}

/** Writes a type so that {@link parseType} reads the same one. */
export function printType({ type, bits, count }: ValueType): string {
  const name = bits === undefined ? type : `b${bits.width}@${bits.offset}/${type.slice(1)}`;
  return count === undefined ? name : `${name}[${count}]`;
}
