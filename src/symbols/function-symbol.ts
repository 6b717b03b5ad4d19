/** One function's name and place, and the order among several. */

import type { FileOffset } from '../base/brand.ts';
import type { FunctionKind } from './function-index.ts';
import type { SymbolSource } from './symbol-rows.ts';

/** One name of one function. */
export interface FunctionSymbol {
  /** As in the file (mangled), without a version. */
  readonly name: string;
  readonly version?: string;
  /** Whether new programs link with this one; true for symbols without a version. */
  readonly isDefaultVersion: boolean;
  /** Where its first instruction lies in the file. For an `ifunc`: the resolver's. */
  readonly offset: FileOffset;
  /** Its address in the file's own numbering (st_value). */
  readonly address: bigint;
  /** In bytes; an upper bound when not {@link sizeKnown}. */
  readonly size: number;
  /** False when the table says 0 (or more than its segment holds) and `size` was estimated. */
  readonly sizeKnown: boolean;
  readonly binding: 'local' | 'global' | 'weak';
  readonly kind: FunctionKind;
  readonly table: SymbolSource;
}

/** The name with its version, as `nm` and linkers write it. */
export function versionedName(symbol: FunctionSymbol): string {
  if (symbol.version === undefined) return symbol.name;
  return `${symbol.name}${symbol.isDefaultVersion ? '@@' : '@'}${symbol.version}`;
}

/** The order in which names are chosen (see `SymbolTable.at`); the last rules only make it total. */
export function byPreference(a: FunctionSymbol, b: FunctionSymbol): number {
  return (
    Number(b.sizeKnown) - Number(a.sizeKnown) ||
    b.offset - a.offset ||
    Number(a.binding === 'local') - Number(b.binding === 'local') ||
    Number(a.kind === 'assembly') - Number(b.kind === 'assembly') ||
    Number(b.isDefaultVersion) - Number(a.isDefaultVersion) ||
    // Before weak and global: libc's `calloc` is a weak name of `__libc_calloc`.
    underscores(a.name) - underscores(b.name) ||
    Number(a.binding === 'weak') - Number(b.binding === 'weak') ||
    a.name.length - b.name.length ||
    (a.name < b.name ? -1 : 1)
  );
}

function underscores(name: string): number {
  return name.startsWith('_Z') || name.startsWith('_R') ? 0 : name.search(/[^_]|$/);
}

/** Sorts in place: default versions first, then by offset. */
export function defaultsFirst(symbols: FunctionSymbol[]): FunctionSymbol[] {
  return symbols.sort(
    (a, b) => Number(b.isDefaultVersion) - Number(a.isDefaultVersion) || a.offset - b.offset,
  );
}

/** Each name and version of each offset once, the first of them. */
export function withoutRepetitions(symbols: readonly FunctionSymbol[]): FunctionSymbol[] {
  const seen = new Set<string>();
  return symbols.filter((symbol) => {
    const key = `${symbol.offset} ${versionedName(symbol)}`;
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

/** The preferred symbol of each offset, by offset. */
export function onePerOffset(symbols: readonly FunctionSymbol[]): FunctionSymbol[] {
  const best = new Map<number, FunctionSymbol>();
  for (const symbol of symbols) {
    const other = best.get(symbol.offset);
    if (other === undefined || byPreference(symbol, other) < 0) best.set(symbol.offset, symbol);
  }
  return [...best.values()].sort((a, b) => a.offset - b.offset);
}
