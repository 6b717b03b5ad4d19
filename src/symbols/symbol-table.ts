/** The functions of an ELF file by name and by place. */

import { Buffer } from 'node:buffer';

import { fileOffset, type FileOffset } from '../base/brand.ts';
import { compileGlob } from '../base/glob.ts';
import { readableName, type Demangler, type ReadableName } from './demangle.ts';
import { rustLegacyHash } from './demangle-rust-legacy.ts';
import type { ElfFile } from './elf.ts';
import { boundsByFrame } from './function-bounds.ts';
import { functionIndex, knownSize, lowerBound, type FunctionIndex } from './function-index.ts';
import { mangledRows, needleOf } from './mangled-search.ts';
import { nearNames } from './near-names.ts';
import { normalizeSpaces } from './signature.ts';
import {
  byPreference,
  defaultsFirst,
  onePerOffset,
  versionedName,
  withoutRepetitions,
  type FunctionSymbol,
} from './function-symbol.ts';
import { STT, type SymbolRows } from './symbol-rows.ts';
import { SymbolVersions } from './versions.ts';

const BINDINGS = ['local', 'global', 'weak'] as const;

/** All look-ups read the file in place; lists are made when they are first asked for. */
export class SymbolTable {
  readonly #index: FunctionIndex;
  readonly #itanium: Demangler | undefined;
  readonly #versions: SymbolVersions;
  readonly #versionNames: ReadonlySet<string>;
  #functions: readonly FunctionSymbol[] | undefined;

  private constructor(elf: ElfFile, itanium: Demangler | undefined) {
    this.#index = functionIndex(elf);
    this.#itanium = itanium;
    this.#versions = new SymbolVersions(elf);
    this.#versionNames = new Set(this.#versions.names);
  }

  /**
   * The symbols of a file.
   * @param itanium demangles C++ names; without it they are found by their mangled names only.
   * @throws TraplineError `bad-elf`, as do all methods when they come upon damage.
   */
  static of(elf: ElfFile, itanium?: Demangler): SymbolTable {
    return new SymbolTable(elf, itanium);
  }

  /**
   * Functions called `name`: the raw name with or without `@VERSION` (any) or `@@VERSION` (only if
   * it is the default), else the readable name with or without parameters. Default versions first,
   * then by offset. Several symbols of one name at different offsets are all returned.
   */
  find(name: string): FunctionSymbol[] {
    const exact = this.#findRaw(name, () => true);
    if (exact.length > 0) return exact;
    const versioned = /^(.+?)(@@?)([^@]+)$/.exec(name);
    if (versioned !== null) {
      const [, base = '', signs, version] = versioned;
      const found = this.#findRaw(
        base,
        (symbol) => symbol.version === version && (signs === '@' || symbol.isDefaultVersion),
      );
      if (found.length > 0) return found;
    }
    return this.#findReadable(name);
  }

  /**
   * Functions whose raw name or readable name (with parameters if the pattern has a `(`) matches a
   * glob; one per offset, the name that `at` would choose among those that match.
   */
  glob(pattern: string): FunctionSymbol[] {
    const matches = compileGlob(pattern);
    const withParameters = pattern.includes('(');
    const needle = needleOf(pattern.replace(/\[.*?\]|[*?]/g, '\u0080'), { complete: false });
    const found: FunctionSymbol[] = [];
    for (const rows of this.#index.tables) {
      const candidates = new Set(mangledRows(rows, needle));
      for (let row = 0; row < rows.count; row++) {
        const offset = this.#index.functionOffset(rows, row);
        if (offset < 0) continue;
        const raw = rows.name(row);
        if (matches(this.#splitVersion(raw).name) || matches(raw)) {
          found.push(this.#symbol(rows, row, offset));
        } else if (candidates.has(row)) {
          const readable = readableName(raw, this.#itanium);
          const text = withParameters ? readable?.signature : readable?.path;
          if (text !== undefined && matches(text)) found.push(this.#symbol(rows, row, offset));
        }
      }
    }
    return onePerOffset(found);
  }

  /** Up to `limit` names that a person may have meant by `name`, the likeliest first. */
  near(name: string, limit: number): string[] {
    const base = name.replace(/@.*$/, '');
    const versions = base === name ? [] : this.#findRaw(base, () => true).map(versionedName);
    const readable = (raw: string): ReadableName | undefined => readableName(raw, this.#itanium);
    return [...new Set([...versions, ...nearNames(this.#index, base, limit, readable)])].slice(
      0,
      limit,
    );
  }

  /**
   * The function that covers a byte of the file: one whose size is known before one whose size was
   * estimated, then the innermost, local ones last, plain names before `__names`, global before weak.
   */
  at(offset: FileOffset): FunctionSymbol | undefined {
    const { ids, offsets, ends, reach } = this.#index.order;
    const covering: FunctionSymbol[] = [];
    for (let at = lowerBound(offsets, offset + 1) - 1; at >= 0; at--) {
      if ((reach[at] ?? 0) <= offset) break;
      if ((ends[at] ?? 0) <= offset) continue;
      const { rows, row } = this.#index.locate(ids[at] ?? 0);
      const symbol = this.#symbol(rows, row, offsets[at] ?? 0);
      if (symbol.offset + symbol.size > offset) covering.push(symbol);
    }
    return covering.sort(byPreference)[0];
  }

  /** All names of the function that begins at `offset`, in the order of `at`. */
  aliasesAt(offset: FileOffset): FunctionSymbol[] {
    const { ids, offsets } = this.#index.order;
    const found: FunctionSymbol[] = [];
    for (let at = lowerBound(offsets, offset); offsets[at] === offset; at++) {
      const { rows, row } = this.#index.locate(ids[at] ?? 0);
      found.push(this.#symbol(rows, row, offset));
    }
    return withoutRepetitions(found).sort(byPreference);
  }

  /** Every name of every function, by offset. A name that both tables have comes once. */
  functions(): readonly FunctionSymbol[] {
    if (this.#functions === undefined) {
      const { ids, offsets } = this.#index.order;
      const all = Array.from(ids, (id, at) => {
        const { rows, row } = this.#index.locate(id);
        return this.#symbol(rows, row, offsets[at] ?? 0);
      });
      this.#functions = withoutRepetitions(all);
    }
    return this.#functions;
  }

  /** The readable forms of a symbol's name; undefined when it isn't mangled. */
  readable(symbol: FunctionSymbol): ReadableName | undefined {
    return readableName(symbol.name, this.#itanium);
  }

  #findRaw(name: string, accept: (symbol: FunctionSymbol) => boolean): FunctionSymbol[] {
    const bytes = Buffer.from(name);
    if (name === '' || bytes.includes(0)) return [];
    const found: FunctionSymbol[] = [];
    for (const rows of this.#index.tables) {
      for (let row = 0; row < rows.count; row++) {
        if (!rows.isNamed(row, bytes)) continue;
        const offset = this.#index.functionOffset(rows, row);
        if (offset < 0) continue;
        const symbol = this.#symbol(rows, row, offset);
        if (symbol.name === name && accept(symbol)) found.push(symbol);
      }
    }
    return defaultsFirst(withoutRepetitions(found));
  }

  #findReadable(name: string): FunctionSymbol[] {
    const hash = /::(h[0-9a-f]{16})$/.exec(name)?.[1];
    const wanted = normalizeSpaces(hash === undefined ? name : name.slice(0, -hash.length - 2));
    const needle = hash ?? needleOf(wanted, { complete: true });
    const found: FunctionSymbol[] = [];
    for (const rows of this.#index.tables) {
      for (const row of mangledRows(rows, needle)) {
        const offset = this.#index.functionOffset(rows, row);
        if (offset < 0) continue;
        const symbol = this.#symbol(rows, row, offset);
        if (hash !== undefined && rustLegacyHash(symbol.name) !== hash) continue;
        const readable = this.readable(symbol);
        if (readable === undefined) continue;
        const { signature, path } = readable;
        if (normalizeSpaces(signature) === wanted || normalizeSpaces(path) === wanted) {
          found.push(symbol);
        }
      }
    }
    return defaultsFirst(withoutRepetitions(found));
  }

  #symbol(rows: SymbolRows, row: number, offset: number): FunctionSymbol {
    const { name, version, isDefaultVersion } = this.#nameOf(rows, row);
    const known = knownSize(this.#index, rows, row, offset);
    const type = rows.type(row);
    return {
      name,
      ...(version === undefined ? {} : { version }),
      isDefaultVersion,
      offset: fileOffset(offset),
      address: BigInt(rows.address(row)),
      size: known > 0 ? known : this.#estimateSize(offset),
      sizeKnown: known > 0,
      // STB_GNU_UNIQUE (10) is global to all who look a name up.
      binding: BINDINGS[rows.binding(row)] ?? 'global',
      kind: type === STT.func ? 'function' : type === STT.gnuIfunc ? 'ifunc' : 'assembly',
      table: rows.table,
    };
  }

  /** Up to the next symbol or the end of the section, or less where an unwind entry ends before. */
  #estimateSize(offset: number): number {
    const { ids, offsets } = this.#index.order;
    const next = lowerBound(offsets, offset + 1);
    const { rows, row } = this.#index.locate(ids[next - 1] ?? 0);
    const limit = this.#index.codeEnd(rows, row, offset);
    const frame = boundsByFrame(this.#index.elf, fileOffset(offset));
    if (frame?.start === offset) return frame.end - offset;
    return Math.min(offsets[next] ?? Infinity, limit, frame?.end ?? Infinity) - offset;
  }

  #nameOf(
    rows: SymbolRows,
    row: number,
  ): { name: string; version: string | undefined; isDefaultVersion: boolean } {
    const raw = rows.name(row);
    if (rows.table === 'symtab') return this.#splitVersion(raw);
    const version = this.#versions.of(row);
    return { name: raw, version: version?.name, isDefaultVersion: version?.isDefault ?? true };
  }

  /** GNU ld writes `name@VERSION` into .symtab; elsewhere an `@` belongs to the name. */
  #splitVersion(raw: string): {
    name: string;
    version: string | undefined;
    isDefaultVersion: boolean;
  } {
    const at = raw.indexOf('@', 1);
    if (at > 0) {
      const isDefault = raw.charAt(at + 1) === '@';
      const version = raw.slice(at + (isDefault ? 2 : 1));
      if (this.#versionNames.has(version)) {
        return { name: raw.slice(0, at), version, isDefaultVersion: isDefault };
      }
    }
    return { name: raw, version: undefined, isDefaultVersion: true };
  }
}
