/** The functions of some symbol tables by name and by place: one step of {@link SymbolTable}'s search. */

import { Buffer } from 'node:buffer';

import { fileOffset, type FileOffset } from '../base/brand.ts';
import { readableName, type Demangler, type ReadableName } from './demangle.ts';
import { rustLegacyHash } from './demangle-rust-legacy.ts';
import { boundsByFrame } from './function-bounds.ts';
import { lowerBound } from '../base/sorted.ts';
import { knownSize, type FunctionIndex, type FunctionKind } from './function-index.ts';
import { LINKAGE_SUFFIX } from './linkage-table.ts';
import { mangledRows, needleOf } from './mangled-search.ts';
import { normalizeSpaces } from './signature.ts';
import {
  byPreference,
  defaultsFirst,
  withoutRepetitions,
  type FunctionSymbol,
} from './function-symbol.ts';
import { STT, type SymbolRows, type SymbolSource } from './symbol-rows.ts';
import type { SymbolVersions } from './versions.ts';

const BINDINGS = ['local', 'global', 'weak'] as const;

/** What names are read with. */
export interface NameReaders {
  readonly itanium: Demangler | undefined;
  readonly versions: SymbolVersions;
  /** Names of all versions that the file defines. */
  readonly versionNames: ReadonlySet<string>;
}

/** A name as a table has it, taken apart. */
interface SplitName {
  readonly name: string;
  readonly version: string | undefined;
  readonly isDefaultVersion: boolean;
}

/** The readable forms of a raw name of some table; undefined when it isn't mangled. */
export function readableOf(
  name: string,
  table: SymbolSource,
  itanium: Demangler | undefined,
): ReadableName | undefined {
  if (table !== 'plt') return readableName(name, itanium);
  const readable = readableName(name.slice(0, -LINKAGE_SUFFIX.length), itanium);
  return (
    readable && {
      signature: readable.signature + LINKAGE_SUFFIX,
      path: readable.path + LINKAGE_SUFFIX,
    }
  );
}

function kindOf(type: number): FunctionKind {
  return type === STT.func ? 'function' : type === STT.gnuIfunc ? 'ifunc' : 'assembly';
}

/** All look-ups read the tables in place; an order is made when it is first asked for. */
export class IndexedNames {
  readonly #index: FunctionIndex;
  readonly #readers: NameReaders;

  constructor(index: FunctionIndex, readers: NameReaders) {
    this.#index = index;
    this.#readers = readers;
  }

  /** By name, readable name or name with a version; see {@link SymbolTable.find}. */
  find(name: string): FunctionSymbol[] {
    const exact = this.findRaw(name, () => true);
    if (exact.length > 0) return exact;
    const versioned = /^(.+?)(@@?)([^@]+)$/.exec(name);
    if (versioned !== null) {
      const [, base = '', signs, version] = versioned;
      const found = this.findRaw(
        base,
        (symbol) => symbol.version === version && (signs === '@' || symbol.isDefaultVersion),
      );
      if (found.length > 0) return found;
    }
    return this.#findReadable(name);
  }

  /** All whose raw or readable name matches a glob. */
  glob(pattern: string, matches: (name: string) => boolean): FunctionSymbol[] {
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
          const readable = this.#readable(rows, raw);
          const text = withParameters ? readable?.signature : readable?.path;
          if (text !== undefined && matches(text)) found.push(this.#symbol(rows, row, offset));
        }
      }
    }
    return found;
  }

  /** The functions that cover a byte of the file, the innermost first. */
  covering(offset: FileOffset): FunctionSymbol[] {
    const { ids, offsets, ends, reach } = this.#index.order;
    const covering: FunctionSymbol[] = [];
    for (let at = lowerBound(offsets, offset + 1) - 1; at >= 0; at--) {
      if ((reach[at] ?? 0) <= offset) break;
      if ((ends[at] ?? 0) <= offset) continue;
      const { rows, row } = this.#index.locate(ids[at] ?? 0);
      const symbol = this.#symbol(rows, row, offsets[at] ?? 0);
      if (symbol.offset + symbol.size > offset) covering.push(symbol);
    }
    return covering;
  }

  /** All names of the function that begins at `offset`. */
  aliasesAt(offset: FileOffset): FunctionSymbol[] {
    const { ids, offsets } = this.#index.order;
    const found: FunctionSymbol[] = [];
    for (let at = lowerBound(offsets, offset); offsets[at] === offset; at++) {
      const { rows, row } = this.#index.locate(ids[at] ?? 0);
      found.push(this.#symbol(rows, row, offset));
    }
    return withoutRepetitions(found).sort(byPreference);
  }

  /** Every name of every function, by offset. */
  all(): FunctionSymbol[] {
    const { ids, offsets } = this.#index.order;
    return Array.from(ids, (id, at) => {
      const { rows, row } = this.#index.locate(id);
      return this.#symbol(rows, row, offsets[at] ?? 0);
    });
  }

  /** By the name as a table has it, without a version. */
  findRaw(name: string, accept: (symbol: FunctionSymbol) => boolean): FunctionSymbol[] {
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
        const readable = this.#readable(rows, symbol.name);
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
      kind: rows.table === 'plt' ? 'plt' : kindOf(rows.type(row)),
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

  #readable(rows: SymbolRows, raw: string): ReadableName | undefined {
    return readableOf(raw, rows.table, this.#readers.itanium);
  }

  #nameOf(rows: SymbolRows, row: number): SplitName {
    const raw = rows.name(row);
    if (rows.table !== 'dynsym') return this.#splitVersion(raw);
    const version = this.#readers.versions.of(row);
    return { name: raw, version: version?.name, isDefaultVersion: version?.isDefault ?? true };
  }

  /** GNU ld writes `name@VERSION` into .symtab; elsewhere an `@` belongs to the name. */
  #splitVersion(raw: string): SplitName {
    const at = raw.indexOf('@', 1);
    if (at > 0) {
      const isDefault = raw.charAt(at + 1) === '@';
      const version = raw.slice(at + (isDefault ? 2 : 1));
      if (this.#readers.versionNames.has(version)) {
        return { name: raw.slice(0, at), version, isDefaultVersion: isDefault };
      }
    }
    return { name: raw, version: undefined, isDefaultVersion: true };
  }
}
