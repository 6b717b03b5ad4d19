/** The functions of an ELF file by name and by place. */

import type { FileOffset } from '../base/brand.ts';
import { compileGlob } from '../base/glob.ts';
import type { Demangler, ReadableName } from './demangle.ts';
import type { ElfFile } from './elf.ts';
import type { FunctionIndex } from './function-index.ts';
import { IndexedNames, readableOf, type NameReaders } from './indexed-names.ts';
import { LINKAGE_SUFFIX } from './linkage-table.ts';
import { nearNames } from './near-names.ts';
import {
  byPreference,
  onePerOffset,
  versionedName,
  withoutRepetitions,
  type FunctionSymbol,
} from './function-symbol.ts';
import { symbolSources, type SymbolSources } from './symbol-sources.ts';
import { SymbolVersions } from './versions.ts';

/**
 * All look-ups read the files in place; lists are made when they are first asked for. The file's own tables are asked first; Go's
 * table, the mini symbol table and the separate debug file are opened only for what those don't have: a
 * name or a place that they don't know, and globs and lists of a stripped file.
 */
export class SymbolTable {
  readonly #sources: SymbolSources;
  readonly #readers: NameReaders;
  readonly #searches = new Map<FunctionIndex, IndexedNames>();
  #functions: readonly FunctionSymbol[] | undefined;

  private constructor(elf: ElfFile, itanium: Demangler | undefined) {
    this.#sources = symbolSources(elf);
    const versions = new SymbolVersions(elf);
    this.#readers = { itanium, versions, versionNames: new Set(versions.names) };
    // Damage in the tables themselves is told at once.
    this.#search(this.#sources.own);
  }

  /**
   * The symbols of a file.
   * @param itanium demangles C++ names; without it they are found by their mangled names only.
   * @throws TraplineError `bad-elf`, as do all methods when they come upon damage.
   */
  static of(elf: ElfFile, itanium?: Demangler): SymbolTable {
    return new SymbolTable(elf, itanium);
  }

  /** Where the names come from, as far as they were read. */
  get sources(): SymbolSources {
    return this.#sources;
  }

  /**
   * Functions called `name`: the raw name with or without `@VERSION` (any) or `@@VERSION` (only if
   * it is the default), else the readable name with or without parameters. Default versions first,
   * then by offset. Several symbols of one name at different offsets are all returned. Sources are asked one
   * after another, until one knows the name.
   */
  find(name: string): FunctionSymbol[] {
    const own = this.#search(this.#sources.own).find(name);
    if (own.length > 0) return own;
    for (const index of this.#others(name)) {
      const found = this.#search(index).find(name);
      if (found.length > 0) return found;
    }
    return [];
  }

  /**
   * Functions whose raw name or readable name (with parameters if the pattern has a `(`) matches a
   * glob; one per offset, the name that `at` would choose among those that match. Entries of the procedure linkage table
   * (`free@plt`) only by a pattern that ends with `@plt`.
   */
  glob(pattern: string): FunctionSymbol[] {
    const matches = compileGlob(pattern);
    const further = this.#sources.isStripped ? this.#others(pattern) : [];
    const linkage = pattern.endsWith(LINKAGE_SUFFIX) ? [this.#sources.linkage] : [];
    const indexes = new Set([this.#sources.own, ...further, ...linkage]);
    const found = [...indexes].flatMap((index) =>
      index === undefined ? [] : this.#search(index).glob(pattern, matches),
    );
    return onePerOffset(found);
  }

  /** Up to `limit` names that a person may have meant by `name`, the likeliest first. */
  near(name: string, limit: number): string[] {
    const base = name.replace(/@.*$/, '');
    const indexes = [this.#sources.own, ...this.#others(name)];
    const others = base === name ? [] : this.find(base).filter((symbol) => symbol.name === base);
    const readable = (raw: string): ReadableName | undefined =>
      readableOf(raw, 'symtab', this.#readers.itanium);
    return [
      ...new Set([...others.map(versionedName), ...nearNames(indexes, base, limit, readable)]),
    ].slice(0, limit);
  }

  /**
   * The function that covers a byte of the file: one whose size is known before one whose size was
   * estimated, then the innermost, local ones last, plain names before `__names`, global before weak.
   */
  at(offset: FileOffset): FunctionSymbol | undefined {
    const covering = this.#search(this.#sources.own).covering(offset);
    if (!covering.some(({ sizeKnown }) => sizeKnown)) {
      for (const index of this.#othersAt(offset)) {
        covering.push(...this.#search(index).covering(offset));
      }
    }
    return covering.sort(byPreference)[0];
  }

  /** All names of the function that begins at `offset`, in the order of `at`, by the first source that has one. */
  aliasesAt(offset: FileOffset): FunctionSymbol[] {
    const own = this.#search(this.#sources.own).aliasesAt(offset);
    if (own.length > 0) return own;
    for (const index of this.#othersAt(offset)) {
      const found = this.#search(index).aliasesAt(offset);
      if (found.length > 0) return found;
    }
    return [];
  }

  /** Every name of every function, by offset. A name that several tables have comes once. */
  functions(): readonly FunctionSymbol[] {
    if (this.#functions === undefined) {
      const { own, isStripped, linkage } = this.#sources;
      const others = isStripped ? this.#sources.further : [];
      const all = [own, ...others, linkage].flatMap((index) =>
        index === undefined ? [] : this.#search(index).all(),
      );
      // Stable: of equal offsets, the own table's names stay first.
      this.#functions = withoutRepetitions(all.sort((a, b) => a.offset - b.offset));
    }
    return this.#functions;
  }

  /** The readable forms of a symbol's name; undefined when it isn't mangled. */
  readable(symbol: FunctionSymbol): ReadableName | undefined {
    return readableOf(symbol.name, symbol.table, this.#readers.itanium);
  }

  /** The sources behind the own tables for a name: a name in the linkage table is in no other. */
  #others(name: string): readonly FunctionIndex[] {
    const { linkage } = name.endsWith(LINKAGE_SUFFIX) ? this.#sources : { linkage: undefined };
    return linkage === undefined ? this.#sources.further : [linkage];
  }

  #othersAt(offset: FileOffset): readonly FunctionIndex[] {
    const linkage = this.#sources.linkageAt(offset);
    const isEntry = linkage !== undefined && this.#search(linkage).covering(offset).length > 0;
    return isEntry ? [linkage] : this.#sources.further;
  }

  #search(index: FunctionIndex): IndexedNames {
    let search = this.#searches.get(index);
    if (search === undefined) {
      search = new IndexedNames(index, this.#readers);
      this.#searches.set(index, search);
    }
    return search;
  }
}
