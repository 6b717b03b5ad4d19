/** "Did you mean": names close to one that isn't there. */

import { Buffer } from 'node:buffer';

import type { ReadableName } from './demangle.ts';
import type { FunctionIndex } from './function-index.ts';
import type { SymbolRows } from './symbol-rows.ts';

interface Candidate {
  readonly text: string;
  readonly score: number;
}

/** The longest name that is compared: longer ones are nobody's typing error. */
const MAX_LENGTH = 256;

/**
 * The names nearest to `name` in some tables of a file: the same but for case, few edits away, or one holding the
 * other. Mangled names are compared by the last identifier of their path and given as paths.
 * @param readable demangles; called for the few names that are returned.
 */
export function nearNames(
  indexes: readonly FunctionIndex[],
  name: string,
  limit: number,
  readable: (raw: string) => ReadableName | undefined,
): string[] {
  if (name === '' || name.length > MAX_LENGTH || limit <= 0) return [];
  const path = name.replace(/\(.*$/s, '');
  const last = /[^:]*$/.exec(path)?.[0] ?? path;
  const plain = new Measure(path);
  const component = last === '' ? plain : new Measure(last);
  const best = new Best(limit * 4);
  for (const index of indexes) {
    for (const rows of index.tables) {
      for (let row = 0; row < rows.count; row++) {
        const range = comparedPart(rows, row);
        if (range === undefined) continue;
        const measure = range.mangled ? component : plain;
        const score = measure.score(rows.strings, range.start, range.end);
        if (score < best.worst && index.functionOffset(rows, row) >= 0) {
          best.add(rows.name(row), score);
        }
      }
    }
  }
  const shown = best
    .sorted()
    .map(({ text, score }) => ({ score, text: readable(text)?.path ?? text.replace(/@.*$/, '') }));
  return [...new Set(shown.map(({ text }) => text))].slice(0, limit);
}

/** The bytes of a name that are compared: all of a plain one, the last identifier of a mangled. */
function comparedPart(
  rows: SymbolRows,
  row: number,
): { start: number; end: number; mangled: boolean } | undefined {
  const { strings } = rows;
  const start = rows.nameOffset(row);
  if (start >= strings.length) return undefined;
  if (strings[start] === 0x5f && (strings[start + 1] === 0x5a || strings[start + 1] === 0x52)) {
    const part = lastIdentifier(strings, start + 2);
    if (part !== undefined) return { ...part, mangled: true };
  }
  let end = start;
  const limit = Math.min(strings.length, start + MAX_LENGTH + 1);
  while (end < limit && strings[end] !== 0 && (strings[end] !== 0x40 || end === start)) end++;
  return end === limit || end === start ? undefined : { start, end, mangled: false };
}

/**
 * The last of the `<length><identifier>` pieces that a mangled name begins with: not a demangling,
 * but enough to measure a distance. A Rust hash (17h…) is not a piece.
 */
function lastIdentifier(strings: Buffer, from: number): { start: number; end: number } | undefined {
  let found: { start: number; end: number } | undefined;
  // Prefixes: nested name, qualifiers, namespaces std, and Rust's path tags with disambiguators.
  let at = from;
  const limit = Math.min(strings.length, from + MAX_LENGTH);
  while (at < limit && !isDigit(strings[at]) && strings[at] !== 0) at++;
  while (at < limit && isDigit(strings[at])) {
    let length = 0;
    while (at < limit && isDigit(strings[at])) length = length * 10 + (strings[at++] ?? 0) - 0x30;
    if (length === 0 || at + length > strings.length || length > MAX_LENGTH) break;
    const isHash = length === 17 && strings[at] === 0x68 && found !== undefined;
    if (!isHash) found = { start: at, end: at + length };
    at += length;
  }
  return found;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

/** The distance of names from one wanted name, in bytes and without regard to case. */
class Measure {
  readonly #wanted: Uint8Array;
  readonly #lower: Uint8Array;
  readonly #letters: number;
  /** Edits that still count as a typing error. */
  readonly #maxEdits: number;
  readonly #row: Uint16Array;

  constructor(name: string) {
    this.#wanted = Buffer.from(name);
    this.#lower = Uint8Array.from(this.#wanted, lowerCase);
    this.#letters = letterSet(this.#lower, 0, this.#lower.length);
    this.#maxEdits = Math.min(3, Math.max(1, Math.floor(this.#lower.length / 3)));
    this.#row = new Uint16Array(this.#lower.length + 1);
  }

  /** 0 for the same name, small for close ones, Infinity for all others. */
  score(bytes: Uint8Array, start: number, end: number): number {
    const length = end - start;
    const wanted = this.#lower.length;
    const letters = letterSet(bytes, start, end);
    // Each edit changes two letters of the set at most.
    const different = bitCount(letters ^ this.#letters);
    if (Math.abs(length - wanted) <= this.#maxEdits && different <= 2 * this.#maxEdits) {
      const edits = this.#edits(bytes, start, end);
      if (edits <= this.#maxEdits) return edits + Math.abs(length - wanted) / 1024;
    }
    if (wanted < 3 || length < 3) return Infinity;
    if (length > wanted && (this.#letters & ~letters) === 0) {
      return this.#holds(bytes, start, end, length);
    }
    const isPrefix =
      length < wanted && length * 2 >= wanted && this.#common(bytes, start) >= length;
    return isPrefix ? 4 + (wanted - length) / 1024 : Infinity;
  }

  /** The wanted name at the start of, or inside, a longer one. */
  #holds(bytes: Uint8Array, start: number, end: number, length: number): number {
    const wanted = this.#lower.length;
    const extra = (length - wanted) / 1024;
    for (let at = start; at + wanted <= end; at++) {
      if (this.#common(bytes, at) >= wanted) {
        return (at === start || at + wanted === end ? 4 : 5) + extra;
      }
    }
    return Infinity;
  }

  /** How many bytes of the wanted name stand at `start`. */
  #common(bytes: Uint8Array, start: number): number {
    let at = 0;
    while (at < this.#lower.length && lowerCase(bytes[start + at] ?? 0) === this.#lower[at]) at++;
    return at;
  }

  /** Levenshtein's distance by rows; stops when a whole row is past the bound. */
  #edits(bytes: Uint8Array, start: number, end: number): number {
    const row = this.#row;
    const wanted = this.#lower;
    for (let at = 0; at < row.length; at++) row[at] = at;
    for (let line = 1; line <= end - start; line++) {
      const byte = lowerCase(bytes[start + line - 1] ?? 0);
      let diagonal = line - 1;
      let lowest = line;
      row[0] = line;
      for (let at = 1; at < row.length; at++) {
        const above = row[at] ?? 0;
        const replaced = diagonal + (byte === wanted[at - 1] ? 0 : 1);
        const value = Math.min(replaced, above + 1, (row[at - 1] ?? 0) + 1);
        row[at] = value;
        diagonal = above;
        lowest = Math.min(lowest, value);
      }
      if (lowest > this.#maxEdits) return lowest;
    }
    return row[row.length - 1] ?? 0;
  }
}

/** The best few, cheap to add to. */
class Best {
  readonly #limit: number;
  #kept: Candidate[] = [];
  worst = Infinity;

  constructor(limit: number) {
    this.#limit = limit;
  }

  add(text: string, score: number): void {
    this.#kept.push({ text, score });
    if (this.#kept.length < this.#limit * 2) return;
    this.#kept = this.sorted();
    this.worst = this.#kept.at(-1)?.score ?? Infinity;
  }

  sorted(): Candidate[] {
    return this.#kept
      .sort(
        (a, b) => a.score - b.score || a.text.length - b.text.length || (a.text < b.text ? -1 : 1),
      )
      .slice(0, this.#limit);
  }
}

/** ASCII without upper case, by table: this runs for every byte of every name. */
const LOWER = Uint8Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte,
);

/** The bit of each byte in a set of letters; what is no letter and no digit shares one bit. */
const LETTER_BIT = Int32Array.from(LOWER, (byte) => {
  if (byte >= 0x61 && byte <= 0x7a) return 1 << (byte - 0x61);
  return isDigit(byte) ? 1 << 26 : 1 << 27;
});

function lowerCase(byte: number): number {
  return LOWER[byte] ?? 0;
}

function letterSet(bytes: Uint8Array, start: number, end: number): number {
  let set = 0;
  for (let at = start; at < end; at++) set |= LETTER_BIT[bytes[at] ?? 0] ?? 0;
  return set;
}

function bitCount(bits: number): number {
  let count = 0;
  for (let left = bits; left !== 0; left &= left - 1) count++;
  return count;
}
