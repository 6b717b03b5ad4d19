/**
 * Rule 4: which instructions something else may come to than the one before them. What is not proved to be
 * free of that counts as a landing place, with the reason.
 *
 * Direct branches and addresses that code takes are searched in the whole text, wherever they stand;
 * relocated words and symbols in the whole file; jump tables and exception tables by the function.
 */

import { hex } from '../../base/brand.ts';
import { lowerBound } from '../../base/sorted.ts';
import type { ElfFile, ExecutableSegment } from '../../symbols/elf.ts';
import type { FunctionBounds } from '../../symbols/function-bounds.ts';
import { landingPads } from '../../symbols/landing-pads.ts';
import { codePointers, mayHoldAddresses } from '../../symbols/relocated-words.ts';
import {
  findIndirectJumps,
  targetsWithin,
  type Image,
  type IndirectJumps,
  type JumpTargets,
} from '../../x64/jump-tables.ts';
import type { Landing } from '../../x64/landings.ts';
import { reachedFrom } from '../../x64/reach.ts';
import type { Bounds, WordSummaries } from '../../x64/table-entries.ts';
import type { CodePlace, FileCode } from './file-code.ts';
import type { Padding } from './filler.ts';
import { FunctionParts } from './function-parts.ts';
import { LandingSearch, type AskedBytes } from './landing-search.ts';

/** Where something comes to, as a file offset, and who it is. */
export interface KnownLanding {
  readonly at: number;
  /** The file offset of the opcode that leads there. */
  readonly from: number;
  /** Whether an instruction is known to lead there; else it may be data. */
  readonly certain: boolean;
  readonly reason: string;
}

/** What the tables of one function tell. */
interface FunctionLandings {
  /** By file offset: who comes there. */
  readonly places: ReadonlyMap<number, string>;
  /** Why any place of the function may be one; undefined where all are known. */
  readonly unknown: string | undefined;
}

/** The landing places of one file. */
export class LandingProof {
  readonly #code: FileCode;
  readonly #elf: ElfFile;
  readonly #search: LandingSearch;
  readonly #parts: FunctionParts;
  readonly #summaries: WordSummaries = new Map();
  readonly #functions = new Map<FunctionBounds, FunctionLandings>();
  /** Of functions and of their parts: how they jump. */
  readonly #jumps = new Map<FunctionBounds, IndirectJumps>();
  /** By function: what branches to it from outside, behind its start. */
  readonly #entered = new Map<FunctionBounds, readonly Landing[]>();
  /** By function: for each of its instructions 1 if it is reached, else 0; undefined where any may be. */
  readonly #reached = new Map<FunctionBounds, Uint8Array | undefined>();
  #pointers: Float64Array | undefined;

  constructor(code: FileCode) {
    this.#code = code;
    this.#elf = code.elf;
    this.#search = new LandingSearch(code);
    this.#parts = new FunctionParts(code, ({ bounds, segment }) => {
      const at = code.addressOf(segment, bounds.start);
      return at === code.elf.entry || this.#isPointedInto(at, at + 1n);
    });
  }

  /** Branches and taken addresses that lead into bytes; the text is searched once for all that is asked. */
  direct(asked: readonly (AskedBytes | undefined)[]): KnownLanding[][] {
    return this.lookUp(asked, [], []);
  }

  /**
   * The same, and in the same search what {@link indirect} has to know about the functions of `places`, and
   * {@link areReached} about those of `doubtful`.
   */
  lookUp(
    asked: readonly (AskedBytes | undefined)[],
    places: readonly CodePlace[],
    doubtful: readonly CodePlace[],
  ): KnownLanding[][] {
    const parts = this.#parts.unknown(places);
    const functions = new Map<FunctionBounds, AskedBytes>();
    for (const { bounds, segment } of doubtful) {
      const { start, end } = bounds;
      if (this.#entered.has(bounds)) continue;
      // Its own branches are followed from where they are reached: bytes of data in it look like some, too.
      // An address is taken of data, too.
      functions.set(bounds, { segment, start, end, fromOutside: true, branchesOnly: true });
    }
    const windows = [...asked, ...parts.flatMap((part) => part.asked), ...functions.values()];
    const found = this.#search.find(windows);
    const next = found.slice(asked.length)[Symbol.iterator]();
    const take = (): readonly Landing[] => next.next().value ?? [];
    for (const part of parts) this.#parts.learn(part, take(), take());
    for (const bounds of functions.keys()) this.#entered.set(bounds, take());
    return asked.map((_, index) => (found[index] ?? []).map((landing) => describe(landing)));
  }

  /** Of each range the first byte that an instruction reads or writes relative to rip. */
  reads(asked: readonly Padding[]): (number | undefined)[] {
    return this.#search.findReads(asked);
  }

  /**
   * Whether control is seen to come to each place: from the start of its function, from branches of others, tables,
   * exceptions and pointers.
   */
  areReached(places: readonly CodePlace[]): boolean[] {
    this.lookUp([], places, places);
    return places.map((place) => {
      const { bounds, segment, offset } = place;
      if (!this.#reached.has(bounds)) this.#reached.set(bounds, this.#reachedIn(place));
      const reached = this.#reached.get(bounds);
      if (reached === undefined) return true;
      const position = this.#code.listing(bounds, segment).positionOf(offset - bounds.start);
      return reached[position] === 1;
    });
  }

  /** For each of a function's instructions 1 if it is reached, else 0; undefined where any may be. */
  #reachedIn(place: CodePlace): Uint8Array | undefined {
    const { bounds, segment } = place;
    const tables = this.#tables(place);
    if (tables.unknown !== undefined) return undefined;
    const roots = [bounds.start, ...tables.places.keys()];
    for (const { target } of this.#entered.get(bounds) ?? []) roots.push(target);
    const listing = this.#code.listing(bounds, segment);
    for (const start of listing.starts) {
      const where = listing.address + BigInt(start);
      if (this.#isPointedInto(where, where + 1n)) roots.push(bounds.start + start);
    }
    const inside = roots.map((root) => root - bounds.start);
    return reachedFrom(inside, listing);
  }

  /**
   * Why something may come to the instruction at `at`, in the function of `place`, otherwise than by a direct
   * branch; undefined where that is proved not to be.
   */
  indirect(place: CodePlace, at: number): string | undefined {
    const known = this.#tables(place);
    const reason = known.places.get(at) ?? known.unknown;
    if (reason !== undefined) return reason;
    // That of the function itself says nothing new.
    const symbol = at === place.bounds.start ? undefined : this.#symbolAt(at);
    return symbol ?? this.#pointerAt(place.segment, at);
  }

  /** The first of some bytes of the file that has a symbol of code, or to which a word of the file's data leads. */
  pointedAt(segment: ExecutableSegment, start: number, end: number): number | undefined {
    const pointer = this.#pointerFrom(this.#code.addressOf(segment, start));
    const pointed = pointer === undefined ? end : this.#code.offsetOf(segment, BigInt(pointer));
    const first = Math.min(pointed, this.#code.symbolFrom(start) ?? end);
    return first < end ? first : undefined;
  }

  /** All of them, and who leads there. What is not certain may be a number that looks like an address. */
  pointers(
    segment: ExecutableSegment,
    start: number,
    end: number,
  ): { readonly at: number; readonly certain: boolean; readonly reason: string }[] {
    const found = [];
    for (let from = start; from < end;) {
      const at = this.pointedAt(segment, from, end);
      if (at === undefined) break;
      const symbol = this.#symbolAt(at);
      const reason = symbol ?? this.#pointerAt(segment, at) ?? 'something leads there';
      found.push({ at, certain: symbol !== undefined || !mayHoldAddresses(this.#elf), reason });
      from = at + 1;
    }
    return found;
  }

  #symbolAt(at: number): string | undefined {
    const symbol = this.#code.symbolAt(at);
    return symbol && `the symbol '${symbol}' leads there`;
  }

  #pointerAt(segment: ExecutableSegment, at: number): string | undefined {
    const where = this.#code.addressOf(segment, at);
    return this.#isPointedInto(where, where + 1n)
      ? 'a pointer in the data of the file leads there'
      : undefined;
  }

  #tables(place: CodePlace): FunctionLandings {
    let known = this.#functions.get(place.bounds);
    if (known === undefined) {
      this.lookUp([], [place], []);
      known = this.#readFunction(place);
      this.#functions.set(place.bounds, known);
    }
    return known;
  }

  #readFunction(place: CodePlace): FunctionLandings {
    const { bounds, segment } = place;
    const places = new Map<number, string>();
    const pads = landingPads(this.#elf, bounds.start);
    if (pads.kind === 'unknown') {
      return { places, unknown: `its exception table can't be read: ${pads.reason}` };
    }
    for (const pad of pads.pads) places.set(pad, 'an exception lands there');
    if (this.#parts.isStray(place)) {
      const unknown =
        'nothing is seen to come to its function, which a table of another one may lead into';
      return { places, unknown };
    }
    const start = this.#code.addressOf(segment, bounds.start);
    const wanted = { start, end: this.#code.addressOf(segment, bounds.end) };
    const related = this.#parts.related(place);
    for (const part of [bounds, ...related]) {
      const home = this.#code.segmentAt(part.start) ?? segment;
      const tables = this.#tablesOf(part, home, wanted);
      if (tables.kind === 'unknown') {
        const where = hex(this.#code.offsetOf(home, tables.at));
        const whose = part === bounds ? 'its function' : 'another part of its function';
        const unknown = `a jump table of ${whose} can't be read (at file offset ${where}: ${tables.reason})`;
        return { places, unknown };
      }
      for (const target of tables.targets) {
        places.set(this.#code.offsetOf(segment, target), 'a jump table leads there');
      }
    }
    // Of another part: its pads may lie here.
    for (const part of related) {
      const others = landingPads(this.#elf, part.start);
      if (others.kind === 'unknown') {
        return {
          places,
          unknown: `the exception table of another part can't be read: ${others.reason}`,
        };
      }
      for (const pad of others.pads) places.set(pad, 'an exception lands there');
    }
    return { places, unknown: undefined };
  }

  #tablesOf(part: FunctionBounds, home: ExecutableSegment, wanted: Bounds): JumpTargets {
    const image: Image = {
      read: (from, length) => this.#code.image(from, length),
      hasPointerInto: (from, to) => this.#isPointedInto(from, to),
      sectionAt: (at) => this.#code.sectionAt(at),
      summaries: this.#summaries,
      text: this.#code.text,
    };
    let jumps = this.#jumps.get(part);
    if (jumps === undefined) {
      jumps = findIndirectJumps(this.#code.listing(part, home), image);
      this.#jumps.set(part, jumps);
    }
    return targetsWithin(jumps, image, wanted);
  }

  /** Whether a word of the file's data will hold an address of start ≤ address < end. */
  #isPointedInto(start: bigint, end: bigint): boolean {
    return (this.#pointerFrom(start) ?? Infinity) < Number(end);
  }

  /** The lowest address from `start` on that a word of the file's data will hold. */
  #pointerFrom(start: bigint): number | undefined {
    this.#pointers ??= codePointers(this.#elf);
    return this.#pointers[lowerBound(this.#pointers, Number(start))];
  }
}

function describe({ target, from, kind, certain }: Landing): KnownLanding {
  const where = hex(from);
  const isBranch = kind === 'branch';
  const known = isBranch
    ? `the branch at file offset ${where} goes there`
    : `code at file offset ${where} takes its address`;
  const possible = isBranch
    ? `what may be a branch at file offset ${where} goes there`
    : `what stands at file offset ${where} may be its address`;
  return { at: target, from, certain, reason: certain ? known : possible };
}
