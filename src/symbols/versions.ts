/** Symbol versions (Linux Standard Base, "Symbol Versioning"). */

import type { ElfFile } from './elf.ts';
import type { CountedTable } from './dynamic.ts';
import { elfReader } from './malformed.ts';

/** The version of one symbol. */
export interface SymbolVersion {
  readonly name: string;
  /** Whether a program that links today gets this one (`@@`). */
  readonly isDefault: boolean;
}

const HIDDEN = 0x8000;
/** Indexes 0 and 1 mean "local" and "global, without a version". */
const FIRST_VERSION = 2;
const VER_FLG_BASE = 1;

/** The versions of the dynamic symbols that a file defines. */
export class SymbolVersions {
  readonly #indexes: DataView | undefined;
  readonly #names: ReadonlyMap<number, string>;

  /** @throws TraplineError `bad-elf` when the chain of definitions leaves its segment. */
  constructor(elf: ElfFile) {
    const indexes = elf.dynamic?.versionIndexes;
    this.#indexes = indexes && new DataView(indexes.buffer, indexes.byteOffset, indexes.byteLength);
    const definitions = elf.dynamic?.versionDefinitions;
    this.#names = definitions === undefined ? new Map() : definedVersions(elf, definitions);
  }

  /** Names of all versions that the file defines. */
  get names(): Iterable<string> {
    return this.#names.values();
  }

  /** The version of the dynamic symbol number `index`, undefined when it has none. */
  of(index: number): SymbolVersion | undefined {
    if (this.#indexes === undefined || index * 2 + 2 > this.#indexes.byteLength) return undefined;
    const value = this.#indexes.getUint16(index * 2, true);
    const number = value & ~HIDDEN;
    if (number < FIRST_VERSION) return undefined;
    const name = this.#names.get(number);
    return name === undefined ? undefined : { name, isDefault: (value & HIDDEN) === 0 };
  }
}

/** Elfxx_Verdef: version, flags, index, auxiliary count, hash, auxiliary offset, next offset. */
function definedVersions(elf: ElfFile, table: CountedTable): Map<number, string> {
  const source = `${elf.name} version definitions`;
  const strings = elf.dynamic?.strings ?? new Uint8Array();
  const names = new Map<number, string>();
  let at = 0;
  // An index has 15 bits: more definitions than that are not believed.
  for (let left = Math.min(table.count, HIDDEN); left > 0; left--) {
    const reader = elfReader(table.bytes, source, at);
    reader.skip(2);
    const flags = reader.u16();
    const index = reader.u16() & ~HIDDEN;
    reader.skip(6);
    const auxiliary = reader.u32();
    const next = reader.u32();
    if ((flags & VER_FLG_BASE) === 0) {
      // The first auxiliary entry is the version's own name, the others its parents.
      const nameOffset = elfReader(table.bytes, source, at + auxiliary).u32();
      names.set(index, elfReader(strings, `${elf.name} dynamic strings`, nameOffset).cstring());
    }
    if (next === 0) break;
    at += next;
  }
  return names;
}
