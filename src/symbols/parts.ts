/** Functions that the compiler has cut in parts: what is hardly ever executed lies elsewhere, as a function of its own. */

import { fileOffset, type FileOffset } from '../base/brand.ts';
import type { ElfFile } from './elf.ts';
import type { FunctionBounds } from './function-bounds.ts';
import type { FunctionIndex } from './function-index.ts';
import type { SymbolRows } from './symbol-rows.ts';
import { symbolSources } from './symbol-sources.ts';

/** What gcc and LLVM call such parts: `f.cold`, `f.cold.1`; LLVM's basic block sections: `f.__part.1`, `f.eh`. */
const PART = /^(.*?)\.(?:cold|__part|eh)(?:\.|$)/;
/** One of them is in the name of each. */
const MARKS = ['.cold', '.__part', '.eh'];

/**
 * Whether a symbol names what begins there, and not as a part of something else. What only the unwind tables know
 * may be such a part.
 * @throws TraplineError `bad-elf`.
 */
export function isWholeFunction(elf: ElfFile, { start, source }: FunctionBounds): boolean {
  if (source === 'fde') return false;
  const { own, opened } = symbolSources(elf);
  // In the order of functionBounds: a symbol of a debug file may be the only one to say that it is a part.
  for (const index of [own, ...opened]) {
    const names = index.namesAt(start);
    if (names.length > 0) return !names.some((name) => PART.test(name));
  }
  return true; // an entry of the procedure linkage table, or a section that is one function
}

/**
 * The functions that by their names are parts of one with another: `f` and `f.cold`. Local functions share names, and
 * each is taken for the one that is meant.
 * @returns where they begin, without the one that was asked about
 * @throws TraplineError `bad-elf`.
 */
export function partsByName(elf: ElfFile, start: FileOffset): FileOffset[] {
  const { own, opened } = symbolSources(elf);
  const found = new Set<number>();
  for (const index of [own, ...opened]) {
    let families = known.get(index);
    if (families === undefined) known.set(index, (families = new Families(index)));
    for (const other of families.of(start)) found.add(other);
  }
  found.delete(start);
  return Array.from(found, (other) => fileOffset(other));
}

const known = new WeakMap<FunctionIndex, Families>();

/** The parts of the functions of one index, by the names of the whole ones. */
class Families {
  readonly #index: FunctionIndex;
  readonly #cold = new Map<string, number[]>();
  /** Of those that have a part; made when a part is asked about. */
  #whole: ReadonlyMap<string, readonly number[]> | undefined;

  constructor(index: FunctionIndex) {
    this.#index = index;
    const marks = new Map(index.tables.map((rows) => [rows, marksIn(rows.strings)]));
    if ([...marks.values()].every(({ length }) => length === 0)) return;
    this.#forEach((rows, row, offset) => {
      // Few have it, and to read all names takes long.
      if (!isMarked(rows.nameOffset(row), marks.get(rows) ?? [])) return;
      const whole = PART.exec(rows.name(row))?.[1];
      if (whole !== undefined) this.#cold.set(whole, [...(this.#cold.get(whole) ?? []), offset]);
    });
  }

  /** Where the others begin, for one that begins there; it may be among them. */
  of(start: number): number[] {
    if (this.#cold.size === 0) return [];
    return this.#index.namesAt(start).flatMap((name) => {
      const whole = PART.exec(name)?.[1];
      const parts = this.#cold.get(whole ?? name) ?? [];
      return whole === undefined ? parts : [...parts, ...(this.#wholes().get(whole) ?? [])];
    });
  }

  #wholes(): ReadonlyMap<string, readonly number[]> {
    if (this.#whole !== undefined) return this.#whole;
    const wholes = new Map(Array.from(this.#cold.keys(), (name): [string, number[]] => [name, []]));
    this.#forEach((rows, row, offset) => wholes.get(rows.name(row))?.push(offset));
    return (this.#whole = wholes);
  }

  #forEach(take: (rows: SymbolRows, row: number, offset: number) => void): void {
    const { ids, offsets } = this.#index.order;
    ids.forEach((id, at) => {
      const { rows, row } = this.#index.locate(id);
      take(rows, row, offsets[at] ?? -1);
    });
  }
}

/** Where a string table has the mark of a part, and where the string around it begins; in ascending order. */
function marksIn(strings: Buffer): { readonly at: number; readonly start: number }[] {
  const found: { at: number; start: number }[] = [];
  for (const mark of MARKS) {
    for (let at = strings.indexOf(mark); at >= 0; at = strings.indexOf(mark, at + 1)) {
      found.push({ at, start: strings.lastIndexOf(0, at) + 1 });
    }
  }
  return found.sort((one, other) => one.at - other.at);
}

/** Whether a name that begins there has a mark: it may be the end of a longer one. */
function isMarked(
  nameOffset: number,
  marks: readonly { readonly at: number; readonly start: number }[],
): boolean {
  let [low, high] = [0, marks.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((marks[middle]?.at ?? Infinity) < nameOffset) low = middle + 1;
    else high = middle;
  }
  return (marks[low]?.start ?? Infinity) <= nameOffset;
}
