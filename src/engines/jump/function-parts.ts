/** Functions that the compiler has cut in parts: which belong together. */

import { fileOffset } from '../../base/brand.ts';
import type { ElfFile, ExecutableSegment } from '../../symbols/elf.ts';
import type { FunctionBounds } from '../../symbols/function-bounds.ts';
import { isWholeFunction, partsByName } from '../../symbols/parts.ts';
import { isJump } from '../../x64/branch-scan.ts';
import { isCertainCall, type Landing } from '../../x64/landings.ts';
import type { CodePlace, FileCode } from './file-code.ts';
import type { AskedBytes } from './landing-search.ts';

/** A function that may be a part of others, and the bytes to which it has to be known who comes. */
export interface PartWindow {
  readonly bounds: FunctionBounds;
  /** All of it: who jumps there. Its first byte: who calls it, or takes its address. */
  readonly asked: readonly [AskedBytes, AskedBytes];
}

/** Who comes to what may be a part of another function. */
interface Comers {
  /** The opcodes of jumps into it, to its first byte too, as file offsets. */
  readonly jumps: readonly number[];
  /** The opcodes of what takes its first byte's address. */
  readonly takers: readonly number[];
  /** Whether it is called, or data points to it: no part is. */
  readonly isCalled: boolean;
}

/** Of a function that is no part: who jumps there is not asked. */
const WHOLE: Comers = { jumps: [], takers: [], isCalled: true };

/** The parts of the functions of one file. */
export class FunctionParts {
  readonly #code: FileCode;
  readonly #isPointedTo: (place: Pick<CodePlace, 'bounds' | 'segment'>) => boolean;
  readonly #comers = new Map<FunctionBounds, Comers>();
  /** Functions of which that is known, and of all to which they jump. */
  readonly #asked = new Set<FunctionBounds>();
  /** Where what looks like a jump out of a function leads. */
  readonly #farJumps = new Map<FunctionBounds, readonly number[]>();

  /** @param isPointedTo whether data of the file, or its header, has the address of a function's first byte */
  constructor(
    code: FileCode,
    isPointedTo: (place: Pick<CodePlace, 'bounds' | 'segment'>) => boolean,
  ) {
    this.#code = code;
    this.#isPointedTo = isPointedTo;
  }

  /** What has to be searched for before places can be asked about; give it to {@link learn}. */
  unknown(places: readonly CodePlace[]): PartWindow[] {
    const parts = new Map<FunctionBounds, PartWindow>();
    const ask = (bounds: FunctionBounds, segment: ExecutableSegment): void => {
      if (this.#comers.has(bounds) || parts.has(bounds)) return;
      if (isWholeFunction(this.#code.elf, bounds)) this.#comers.set(bounds, WHOLE);
      else parts.set(bounds, { bounds, asked: windowsOf(bounds, segment) });
    };
    for (const { bounds, segment } of places) {
      if (this.#asked.has(bounds)) continue;
      this.#asked.add(bounds);
      ask(bounds, segment);
      for (const offset of this.#farJumpsOf(bounds)) {
        const other = this.#code.functionAround(fileOffset(offset));
        if (typeof other !== 'string') ask(other.bounds, other.segment);
      }
    }
    return [...parts.values()];
  }

  /** Takes what was found for both windows of one of {@link unknown}. */
  learn({ bounds, asked }: PartWindow, jumps: readonly Landing[], first: readonly Landing[]): void {
    const { bytes } = this.#code.elf;
    this.#comers.set(bounds, {
      jumps: jumps.map(({ from }) => from),
      takers: first.flatMap(({ kind, from }) => (kind === 'address' ? [from] : [])),
      isCalled:
        first.some((landing) => isCertainCall(bytes, landing)) ||
        this.#isPointedTo({ bounds, segment: asked[0].segment }),
    });
  }

  /**
   * The other parts of a function, whose jump tables and exceptions may lead into it: those that its name, or theirs, tells
   * of; what shares bytes with it; what has no symbol of its own, or one that says so, and is entered behind its start by
   * this one, or enters this one so. What nobody calls may be a part of all that jump to it or take its address.
   */
  related({ bounds }: CodePlace): FunctionBounds[] {
    const { jumps, takers, isCalled } = this.#comersOf(bounds);
    const named = partsByName(this.#code.elf, bounds.start).map((at) => this.#code.boundsAt(at));
    const related = new Set(named.filter((other) => other !== undefined));
    for (const other of this.#code.overlapping(bounds)) related.add(other);
    const enters = (from: FunctionBounds, to: FunctionBounds): boolean => {
      const first = this.#comersOf(to).isCalled ? to.start + 1 : to.start;
      return this.#farJumpsOf(from).some((target) => target >= first && target < to.end);
    };
    const looked = new Set<FunctionBounds>([bounds]);
    for (const offset of [...this.#farJumpsOf(bounds), ...jumps]) {
      const other = this.#code.boundsAt(offset);
      if (other === undefined || other.start === bounds.start || looked.has(other)) continue;
      looked.add(other);
      if (jumps.length === 0 && isWholeFunction(this.#code.elf, other)) continue;
      if (enters(bounds, other) || enters(other, bounds)) related.add(other);
    }
    for (const offset of isCalled ? [] : takers) {
      const other = this.#code.boundsAt(offset);
      if (other !== undefined && other !== bounds) related.add(other);
    }
    return [...related];
  }

  /** Whether nobody is seen to come to a function: it may be a part of any other, whose table leads there. */
  isStray({ bounds }: CodePlace): boolean {
    const { jumps, takers, isCalled } = this.#comersOf(bounds);
    if (isCalled || jumps.length > 0 || takers.length > 0) return false;
    return partsByName(this.#code.elf, bounds.start).length === 0;
  }

  #comersOf(bounds: FunctionBounds): Comers {
    return this.#comers.get(bounds) ?? WHOLE;
  }

  #farJumpsOf(bounds: FunctionBounds): readonly number[] {
    let known = this.#farJumps.get(bounds);
    if (known === undefined) {
      known = farJumps(this.#code.elf, bounds);
      this.#farJumps.set(bounds, known);
    }
    return known;
  }
}

function windowsOf(
  { start, end }: FunctionBounds,
  segment: ExecutableSegment,
): PartWindow['asked'] {
  // The first byte is meant, too.
  const there = { segment, start: start - 1, fromOutside: true };
  return [
    { ...there, end, jumpsOnly: true },
    { ...there, end: start + 1, untilCall: true },
  ];
}

/**
 * Where what looks like a jump of four bytes' displacement leads that leaves a function, as file offsets: in executable bytes,
 * which may be mapped elsewhere than its own.
 */
function farJumps({ bytes, loads }: ElfFile, { start, end }: FunctionBounds): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const distance = loads.addressOf(start) - start;
  const targets: number[] = [];
  for (let at = start; at + 5 <= end; at++) {
    if (!isJump(bytes, at)) continue;
    const field = bytes[at] === 0x0f ? at + 2 : at + 1;
    if (field + 4 > end) continue;
    const target = field + 4 + view.getInt32(field, true);
    if (target >= start && target < end) continue;
    const segment = loads.segmentOf(target + distance);
    if (segment?.executable !== true) continue;
    targets.push(target + distance - segment.address + segment.offset);
  }
  return targets;
}
