/**
 * Where a file's symbols are found, beyond its own two tables, and when each is read: not before somebody asks for a name
 * or a place that the own tables don't have.
 */

import type { FileOffset } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { DebugFile } from './debug-file.ts';
import type { ElfFile } from './elf.ts';
import { FunctionIndex, functionIndex } from './function-index.ts';
import { goSymbols } from './go-functions.ts';
import { isGo } from './go.ts';
import { linkageExtent, linkageSymbols } from './linkage-table.ts';
import { staticSymbols, type SymbolRows } from './symbol-rows.ts';
import { unpackXz } from './xz.ts';

/** Finds a file's separate debug file, reading as little as that takes; undefined when there is none. */
export type FindDebugFile = () => DebugFile | undefined;

/** All sources of one file, each read once. Make it with {@link symbolSources}. */
export class SymbolSources {
  readonly #elf: ElfFile;
  readonly #findDebugFile: FindDebugFile | undefined;
  #go: FunctionIndex | null | undefined;
  #further: readonly FunctionIndex[] | undefined;
  #linkage: FunctionIndex | null | undefined;
  #linkageExtent: { readonly start: number; readonly end: number } | undefined;
  #debugFile: DebugFile | undefined;
  readonly #problems: string[] = [];

  constructor(elf: ElfFile, findDebugFile: FindDebugFile | undefined) {
    this.#elf = elf;
    this.#findDebugFile = findDebugFile;
  }

  /** `.symtab` and `.dynsym`. @throws TraplineError `bad-elf`. */
  get own(): FunctionIndex {
    return functionIndex(this.#elf);
  }

  /** Whether the file lacks the table that has local functions. */
  get isStripped(): boolean {
    return !this.own.tables.some(({ table }) => table === 'symtab');
  }

  /** Go's function table, in a file without symbols of its own. */
  get go(): FunctionIndex | undefined {
    if (this.#go === undefined) {
      this.#go = this.isStripped && isGo(this.#elf) ? this.#read(goSymbols) : null;
    }
    return this.#go ?? undefined;
  }

  /** Entries of the procedure linkage table. */
  get linkage(): FunctionIndex | undefined {
    if (this.#linkage === undefined) this.#linkage = this.#read(linkageSymbols);
    return this.#linkage ?? undefined;
  }

  /** {@link linkage} for an offset that may lie in such a table; costs two comparisons where it can't. */
  linkageAt(offset: FileOffset): FunctionIndex | undefined {
    const { start, end } = (this.#linkageExtent ??= linkageExtent(this.#elf));
    return offset >= start && offset < end ? this.linkage : undefined;
  }

  /** Everything else: Go's table, the mini symbol table, the debug file's. */
  get further(): readonly FunctionIndex[] {
    this.#further ??= this.#readFurther();
    return this.#further;
  }

  /** {@link further} if somebody had a reason to read it, else Go's table alone: for those who need no names. */
  get opened(): readonly FunctionIndex[] {
    return this.#further ?? (this.go === undefined ? [] : [this.go]);
  }

  /** The debug file that was found, if it was looked for. */
  get debugFile(): DebugFile | undefined {
    return this.#debugFile;
  }

  /**
   * What is wrong with sources that were read: each counts as not there, since the file itself may be sound and its own
   * names have to be found. For those who miss a name.
   */
  get problems(): readonly string[] {
    return this.#problems;
  }

  #readFurther(): FunctionIndex[] {
    const mini = this.isStripped ? this.#read(miniSymbols) : null;
    const debug = this.#read(() => {
      this.#debugFile = this.#findDebugFile?.();
      return this.#debugFile && staticSymbols(this.#debugFile, 'debug-file');
    });
    return [this.go, mini, debug].filter((index) => index !== undefined && index !== null);
  }

  #read(read: (elf: ElfFile) => SymbolRows | undefined): FunctionIndex | null {
    try {
      const rows = read(this.#elf);
      return rows === undefined ? null : new FunctionIndex(this.#elf, [rows]);
    } catch (error) {
      if (!(error instanceof TraplineError)) throw error;
      this.#problems.push(error.message);
      return null;
    }
  }
}

/** `.gnu_debugdata`: an ELF file with a symbol table alone, packed by xz. */
function miniSymbols(elf: ElfFile): SymbolRows | undefined {
  const section = elf.section('.gnu_debugdata');
  if (section === undefined) return undefined;
  const source = `${elf.name} .gnu_debugdata`;
  return staticSymbols(
    DebugFile.ofBytes(unpackXz(elf.sectionBytes(section), source), source),
    'debugdata',
  );
}

const known = new WeakMap<ElfFile, SymbolSources>();

/**
 * The sources of a file, kept as long as the file.
 * @param findDebugFile asked once, at the first need; counts at the first call for a file only.
 */
export function symbolSources(elf: ElfFile, findDebugFile?: FindDebugFile): SymbolSources {
  let sources = known.get(elf);
  if (sources === undefined) {
    sources = new SymbolSources(elf, findDebugFile);
    known.set(elf, sources);
  }
  return sources;
}
