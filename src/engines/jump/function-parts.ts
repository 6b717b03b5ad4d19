/** Functions that the compiler has cut in parts: which belong together. */

import type { ElfFile } from '../../symbols/elf.ts';
import type { FunctionBounds } from '../../symbols/function-bounds.ts';
import { isWholeFunction, partsByName } from '../../symbols/parts.ts';
import { isJump } from '../../x64/branch-scan.ts';
import type { Landing } from '../../x64/landings.ts';
import type { CodePlace, FileCode } from './file-code.ts';
import type { AskedBytes } from './landing-search.ts';

/** A function that may be a part of others, and the bytes to which it has to be known who jumps. */
export interface PartWindow {
  readonly bounds: FunctionBounds;
  readonly asked: AskedBytes;
}

/** The parts of the functions of one file. */
export class FunctionParts {
  readonly #code: FileCode;
  /** For functions that may be parts of others: the opcodes of jumps into them, as file offsets; of others none. */
  readonly #owners = new Map<FunctionBounds, readonly number[]>();
  /** Where what looks like a jump out of a function leads. */
  readonly #farJumps = new Map<FunctionBounds, readonly number[]>();

  constructor(code: FileCode) {
    this.#code = code;
  }

  /** What has to be searched for before {@link related} can be asked about places; give it to {@link learn}. */
  unknown(places: readonly CodePlace[]): PartWindow[] {
    const parts = new Map<FunctionBounds, PartWindow>();
    for (const { bounds, segment } of places) {
      if (this.#owners.has(bounds) || parts.has(bounds)) continue;
      const { start, end } = bounds;
      if (isWholeFunction(this.#code.elf, bounds)) this.#owners.set(bounds, []);
      else {
        // Its first byte is meant, too.
        const asked = { segment, start: start - 1, end, jumpsOnly: true, fromOutside: true };
        parts.set(bounds, { bounds, asked });
      }
    }
    return [...parts.values()];
  }

  /** Takes what was found for one of {@link unknown}. */
  learn({ bounds }: PartWindow, landings: readonly Landing[]): void {
    this.#owners.set(
      bounds,
      landings.map(({ from }) => from),
    );
  }

  /**
   * The other parts of a function, whose jump tables and exceptions may lead into it: those that its name, or theirs, tells
   * of; what has no symbol of its own, or one that says so, and is entered behind its start by this one, or enters this one so.
   */
  related({ bounds }: CodePlace): FunctionBounds[] {
    const named = partsByName(this.#code.elf, bounds.start).map((at) => this.#code.boundsAt(at));
    const related = new Set(named.filter((other) => other !== undefined));
    const entersInside = (from: FunctionBounds, to: FunctionBounds): boolean =>
      this.#farJumpsOf(from).some((target) => target > to.start && target < to.end);
    const owners = this.#owners.get(bounds) ?? [];
    const isPart = owners.length > 0;
    const looked = new Set<FunctionBounds>([bounds]);
    for (const offset of [...this.#farJumpsOf(bounds), ...owners]) {
      const other = this.#code.boundsAt(offset);
      if (other === undefined || other.start === bounds.start || looked.has(other)) continue;
      looked.add(other);
      if (!isPart && isWholeFunction(this.#code.elf, other)) continue;
      if (entersInside(bounds, other) || entersInside(other, bounds)) related.add(other);
    }
    return [...related];
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
