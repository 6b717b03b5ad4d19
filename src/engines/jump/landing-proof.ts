/**
 * Rule 4: which instructions something else may come to than the one before them. What is not proved to be
 * free of that counts as a landing place, with the reason.
 *
 * Direct branches and addresses that code takes are searched in the whole text, wherever they stand;
 * relocated words in the whole file; jump tables and exception tables by the function.
 */

import { address, fileOffset, hex } from '../../base/brand.ts';
import type { ElfFile, ExecutableSegment } from '../../symbols/elf.ts';
import { functionBounds, type FunctionBounds } from '../../symbols/function-bounds.ts';
import { lowerBound } from '../../symbols/function-index.ts';
import { landingPads } from '../../symbols/landing-pads.ts';
import { isWholeFunction } from '../../symbols/parts.ts';
import { codePointers } from '../../symbols/relocated-words.ts';
import { findJumpTargets, type JumpTargets } from '../../x64/jump-tables.ts';
import { isJump } from '../../x64/branch-scan.ts';
import { findLandings, type Landing, type TextFunction, type Window } from '../../x64/landings.ts';
import { reachedFrom } from '../../x64/reach.ts';
import type { Bounds, WordSummaries } from '../../x64/table-entries.ts';
import type { CodePlace, FileCode } from './file-code.ts';

/** Bytes of which it is asked who comes to them: from behind `start` up to `end`, which is not meant. */
export interface AskedBytes {
  readonly segment: ExecutableSegment;
  /** File offsets. */
  readonly start: number;
  readonly end: number;
  /** Whether calls and taken addresses are of no interest. */
  readonly jumpsOnly?: boolean;
}

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
  readonly #summaries: WordSummaries = new Map();
  readonly #functions = new Map<number, FunctionLandings>();
  /** For functions that may be parts of others: the opcodes of jumps into them, as file offsets. */
  readonly #owners = new Map<number, readonly number[]>();
  /** By function: for each of its instructions 1 if it is reached, else 0; undefined where any may be. */
  readonly #reached = new Map<number, Uint8Array | undefined>();
  #pointers: Float64Array | undefined;

  constructor(code: FileCode) {
    this.#code = code;
    this.#elf = code.elf;
  }

  /** Branches and taken addresses that lead into bytes; the text is searched once for all that is asked. */
  direct(asked: readonly (AskedBytes | undefined)[]): KnownLanding[][] {
    const found = this.#find(asked);
    return asked.map((bytes, index) =>
      bytes === undefined ? [] : (found[index] ?? []).map((landing) => describe(landing)),
    );
  }

  /**
   * Whether control is seen to come to each place: from the start of its function, from branches of others, tables,
   * exceptions and pointers. The text is searched once for all.
   */
  areReached(places: readonly CodePlace[]): boolean[] {
    const fresh = new Map<number, CodePlace>();
    for (const place of places) {
      if (!this.#reached.has(place.bounds.start)) fresh.set(place.bounds.start, place);
    }
    const functions = [...fresh.values()];
    this.prepare(functions);
    const found = this.#find(
      functions.map(({ segment, bounds }) => ({ segment, start: bounds.start, end: bounds.end })),
    );
    functions.forEach((place, index) => {
      this.#reached.set(place.bounds.start, this.#reachedIn(place, found[index] ?? []));
    });
    return places.map(({ bounds, segment, offset }) => {
      const reached = this.#reached.get(bounds.start);
      if (reached === undefined) return true;
      const position = this.#code.listing(bounds, segment).positionOf(offset - bounds.start);
      return reached[position] === 1;
    });
  }

  /** For each of a function's instructions 1 if it is reached, else 0; undefined where any may be. */
  #reachedIn(place: CodePlace, landings: readonly Landing[]): Uint8Array | undefined {
    const { bounds, segment } = place;
    const tables = this.#tables(place);
    if (tables.unknown !== undefined) return undefined;
    const isInside = (at: number): boolean => at >= bounds.start && at < bounds.end;
    const roots = [bounds.start, ...tables.places.keys()];
    for (const { kind, from, target } of landings) {
      // An address is taken of data, too; and bytes of data look like branches.
      if (kind === 'branch' && !isInside(from)) roots.push(target);
    }
    const listing = this.#code.listing(bounds, segment);
    for (const start of listing.starts) {
      const where = listing.address + BigInt(start);
      if (this.#isPointedInto(where, where + 1n)) roots.push(bounds.start + start);
    }
    const inside = roots.map((root) => root - bounds.start);
    return reachedFrom(inside, listing);
  }

  /** For all bytes asked about who comes there, in file offsets. */
  #find(asked: readonly (AskedBytes | undefined)[]): (readonly Landing[])[] {
    const found: (readonly Landing[])[] = asked.map(() => []);
    for (const segment of this.#code.segments) {
      const { fileOffset: first, fileSize } = segment;
      const inside: number[] = [];
      const windows: Window[] = [];
      asked.forEach((bytes, index) => {
        if (bytes?.segment !== segment) return;
        inside.push(index);
        const { start, end, jumpsOnly = false } = bytes;
        windows.push({ start: start - first, end: end - first, jumpsOnly });
      });
      if (inside.length === 0) continue;
      const text = this.#elf.bytes.subarray(first, first + fileSize);
      const landings = findLandings(text, windows, (at) => this.#functionAt(segment, first + at));
      inside.forEach((index, nth) => {
        found[index] = (landings[nth] ?? []).map((landing) => {
          const { target, from } = landing;
          return { ...landing, target: first + target, from: first + from };
        });
      });
    }
    return found;
  }

  /**
   * Looks up who jumps into functions that may be parts of others, all in one search of the text: what
   * {@link indirect} has to know about them.
   */
  prepare(places: readonly CodePlace[]): void {
    const parts = new Map<number, CodePlace>();
    for (const place of places) {
      const { start } = place.bounds;
      if (this.#functions.has(start) || this.#owners.has(start)) continue;
      if (!isWholeFunction(this.#elf, place.bounds)) parts.set(start, place);
    }
    const asked = [...parts.values()].map(({ bounds, segment }) => {
      return { segment, start: bounds.start - 1, end: bounds.end, jumpsOnly: true };
    });
    const landings = asked.length === 0 ? [] : this.#find(asked);
    [...parts.values()].forEach(({ bounds }, index) => {
      const from = (landings[index] ?? []).map((landing) => landing.from);
      const outside = from.filter((at) => at < bounds.start || at >= bounds.end);
      this.#owners.set(bounds.start, outside);
    });
  }

  /**
   * Why something may come to the instruction at `at`, in the function of `place`, otherwise than by a direct
   * branch; undefined where that is proved not to be.
   */
  indirect(place: CodePlace, at: number): string | undefined {
    const known = this.#tables(place);
    const reason = known.places.get(at) ?? known.unknown;
    if (reason !== undefined) return reason;
    const where = this.#code.addressOf(place.segment, at);
    return this.#isPointedInto(where, where + 1n)
      ? 'a pointer in the data of the file leads there'
      : undefined;
  }

  #tables(place: CodePlace): FunctionLandings {
    const { start } = place.bounds;
    let known = this.#functions.get(start);
    if (known === undefined) {
      this.prepare([place]);
      known = this.#readFunction(place);
      this.#functions.set(start, known);
    }
    return known;
  }

  /** The function around a byte of the segment, if it is known and begins there. */
  #functionAt(segment: ExecutableSegment, offset: number): TextFunction | undefined {
    const bounds = this.#boundsOf(offset);
    if (bounds === undefined || bounds.start < segment.fileOffset) return undefined;
    const listing = this.#code.listing(bounds, segment);
    return { start: bounds.start - segment.fileOffset, listing };
  }

  #readFunction({ bounds, segment }: CodePlace): FunctionLandings {
    const places = new Map<number, string>();
    const pads = landingPads(this.#elf, bounds.start);
    if (pads.kind === 'unknown') {
      return { places, unknown: `its exception table can't be read: ${pads.reason}` };
    }
    for (const pad of pads.pads) places.set(pad, 'an exception lands there');
    const start = this.#code.addressOf(segment, bounds.start);
    const wanted = { start, end: this.#code.addressOf(segment, bounds.end) };
    const related = this.#related(bounds, segment);
    for (const part of [bounds, ...related]) {
      const tables = this.#tablesOf(part, segment, wanted);
      if (tables.kind === 'unknown') {
        const where = hex(this.#code.offsetOf(segment, tables.at));
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

  #tablesOf(part: FunctionBounds, segment: ExecutableSegment, wanted: Bounds): JumpTargets {
    const text = {
      start: address(segment.address),
      end: address(segment.address + BigInt(segment.fileSize)),
    };
    return findJumpTargets(this.#code.listing(part, segment), {
      read: (from, length) => this.#code.image(from, length),
      hasPointerInto: (from, to) => this.#isPointedInto(from, to),
      summaries: this.#summaries,
      text,
      wanted,
    });
  }

  /**
   * The other parts of a function, whose jump tables and exceptions may lead into it: what has no symbol of its
   * own, or one that says so, and is entered behind its start by this one, or enters this one so.
   */
  #related(bounds: FunctionBounds, segment: ExecutableSegment): FunctionBounds[] {
    const related = new Map<number, FunctionBounds>();
    const { bytes } = this.#elf;
    const entersInside = (from: FunctionBounds, to: FunctionBounds): boolean =>
      farJumps(bytes, from).some((target) => target > to.start && target < to.end);
    const isHere = (offset: number): boolean =>
      offset >= segment.fileOffset && offset < segment.fileOffset + segment.fileSize;
    const owners = this.#owners.get(bounds.start) ?? [];
    const isPart = owners.length > 0;
    for (const offset of [...farJumps(bytes, bounds).filter(isHere), ...owners]) {
      const other = this.#boundsOf(offset);
      if (other === undefined || other.start === bounds.start || related.has(other.start)) continue;
      if (!isPart && isWholeFunction(this.#elf, other)) continue;
      if (entersInside(bounds, other) || entersInside(other, bounds))
        related.set(other.start, other);
    }
    return [...related.values()];
  }

  #boundsOf(offset: number): FunctionBounds | undefined {
    return functionBounds(this.#elf, fileOffset(offset));
  }

  /** Whether a word of the file's data will hold an address of start ≤ address < end. */
  #isPointedInto(start: bigint, end: bigint): boolean {
    this.#pointers ??= codePointers(this.#elf);
    const next = this.#pointers[lowerBound(this.#pointers, Number(start))];
    return next !== undefined && next < Number(end);
  }
}

/** Where what looks like a jump of four bytes' displacement leads that leaves a function, as file offsets. */
function farJumps(bytes: Uint8Array, { start, end }: FunctionBounds): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const targets: number[] = [];
  for (let at = start; at + 5 <= end; at++) {
    if (!isJump(bytes, at)) continue;
    const field = bytes[at] === 0x0f ? at + 2 : at + 1;
    if (field + 4 > end) continue;
    const target = field + 4 + view.getInt32(field, true);
    if (target < start || target >= end) targets.push(target);
  }
  return targets;
}

function describe({ target, from, kind, certain }: Landing): KnownLanding {
  const where = hex(from);
  const what = kind === 'branch' ? 'the branch' : 'code';
  const does = kind === 'branch' ? 'goes there' : 'takes its address';
  return {
    at: target,
    from,
    certain,
    reason: certain
      ? `${what} at file offset ${where} ${does}`
      : `what may be a branch at file offset ${where} goes there`,
  };
}
