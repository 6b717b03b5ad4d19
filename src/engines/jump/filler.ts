/**
 * Filler: bytes behind a function's end, or behind a jump of its, that nobody executes, and that assemblers put there to align
 * what follows. Jumps may be written there. Constants in a text may have the same bytes: filler is what explains itself,
 * up to the first byte that anything comes to, reads, or says to be data.
 */

import type { ExecutableSegment } from '../../symbols/elf.ts';
import type { FunctionBounds } from '../../symbols/function-bounds.ts';
import { firstInObject, objectsInCode, type CodeObjects } from '../../symbols/objects-in-code.ts';
import { neverGoesOn } from '../../x64/decode.ts';
import type { CodePlace, FileCode } from './file-code.ts';
import type { LandingProof } from './landing-proof.ts';

/** Bytes as file offsets; `end` is behind the last. */
export interface Padding {
  readonly start: number;
  readonly end: number;
  readonly segment: ExecutableSegment;
}

/** What compilers and linkers align code to: at most a line of cache, and nobody fills for less than four bytes. */
const MOST_ALIGNED = 64;
const LEAST_ALIGNED = 4;

/** The filler of one file. */
export class FillerProof {
  readonly #code: FileCode;
  readonly #proof: LandingProof;
  /** By where they begin. */
  readonly #runs = new Map<number, Padding>();
  /** Of those of which it was asked: where what is free ends. */
  readonly #ends = new Map<number, number>();
  #objects: CodeObjects | undefined;

  constructor(code: FileCode, proof: LandingProof) {
    this.#code = code;
    this.#proof = proof;
  }

  /** The bytes from one on that look like filler: of the function at most, and of what is between it and the next one. */
  run({ segment, bounds }: Pick<CodePlace, 'segment' | 'bounds'>, start: number): Padding {
    const known = this.#runs.get(start);
    if (known !== undefined) return known;
    const { bytes } = this.#code.elf;
    const segmentEnd = segment.fileOffset + segment.fileSize;
    let end = start;
    while (end < segmentEnd) {
      const around = end < bounds.end ? undefined : this.#code.boundsAt(end);
      if (around !== undefined) break;
      const { flow, length } = this.#code.decode(segment, end);
      if (flow === 'invalid' || !isFiller(bytes, end, length)) break;
      if (end + length > segmentEnd) break;
      end += length;
    }
    const run = { segment, start, end };
    this.#runs.set(start, run);
    return run;
  }

  /** Searches the text once for who comes to runs, or reads them. {@link free} does it for each that was not asked about. */
  learn(runs: readonly Padding[]): void {
    const unknown = runs.filter(({ start, end }) => start < end && !this.#ends.has(start));
    const distinct = [...new Map(unknown.map((run) => [run.start, run])).values()];
    if (distinct.length === 0) return;
    const landings = this.#proof.direct(
      distinct.map(({ segment, start, end }) => ({ segment, start: start - 1, end })),
    );
    const reads = this.#proof.reads(distinct);
    this.#objects ??= objectsInCode(this.#code.elf);
    const objects = this.#objects;
    distinct.forEach(({ segment, start, end }, index) => {
      const first = Math.min(
        end,
        ...(landings[index] ?? []).map(({ at }) => at),
        this.#proof.pointedAt(segment, start, end) ?? end,
        firstInObject(objects, start, end) ?? end,
        reads[index] ?? end,
        this.#code.relocatedIn(start, end) ?? end,
      );
      this.#ends.set(start, this.#isExplained(segment, start, first) ? first : start);
    });
  }

  /** As much of a run as nobody needs. */
  free(run: Padding): Padding {
    this.learn([run]);
    return { ...run, end: this.#ends.get(run.start) ?? run.start };
  }

  /**
   * What looks like filler of which a byte lies in lowest ≤ offset ≤ highest, around a function: between the end of
   * a function, whose last instruction never goes on, and the next one.
   */
  near({ bounds, segment }: CodePlace, lowest: number, highest: number): Padding[] {
    const found: Padding[] = [];
    for (let last: FunctionBounds | undefined = bounds; last && last.end <= highest;) {
      const run = this.run({ segment, bounds: last }, last.end);
      if (run.end > run.start && this.#endsWithoutFlow(last, segment)) found.push(run);
      const next = this.#code.boundsAt(run.end);
      last = next !== undefined && next.end > last.end ? next : undefined;
    }
    for (let first: FunctionBounds | undefined = bounds; first && first.start > lowest;) {
      const before = this.#functionBefore(first.start, Math.max(lowest, segment.fileOffset));
      if (before === undefined) break;
      const run = this.run({ segment, bounds: before }, before.end);
      const isWhole = run.end >= first.start && run.end > run.start;
      if (isWhole && this.#endsWithoutFlow(before, segment)) found.push(run);
      first = before.start < first.start ? before : undefined;
    }
    return found;
  }

  /** Whether a reason is known for which filler would end there: a function, the section's end, or that it aligns. */
  #isExplained(segment: ExecutableSegment, start: number, end: number): boolean {
    if (this.#code.boundsAt(end)?.start === end) return true;
    if (end >= segment.fileOffset + segment.fileSize) return true;
    const at = Number(this.#code.addressOf(segment, end));
    if (this.#code.sectionAt(at - 1)?.end === at) return true;
    for (let alignment = LEAST_ALIGNED; alignment <= MOST_ALIGNED; alignment *= 2) {
      if (at % alignment !== 0) return false;
      if (end - start < alignment) return true;
    }
    return false;
  }

  /** Whether a function's last instruction never goes on behind it. A call of what never returns is not believed. */
  #endsWithoutFlow(bounds: FunctionBounds, segment: ExecutableSegment): boolean {
    const listing = this.#code.listing(bounds, segment);
    return listing.isClean && neverGoesOn(listing.flowAt(listing.count - 1));
  }

  #functionBefore(start: number, lowest: number): FunctionBounds | undefined {
    for (let at = start - 1; at >= lowest; at--) {
      const bounds = this.#code.boundsAt(at);
      if (bounds !== undefined) return bounds.end <= start ? bounds : undefined;
    }
    return undefined;
  }
}

/** Whether an instruction is one that assemblers fill gaps with: a nop of any length, or int3. */
export function isFiller(bytes: Uint8Array, at: number, length: number): boolean {
  return bytes[firstOpcode(bytes, at, length)] === 0xcc || isNop(bytes, at, length);
}

/** Whether an instruction is a nop of any length. */
export function isNop(bytes: Uint8Array, at: number, length: number): boolean {
  const first = firstOpcode(bytes, at, length);
  if (bytes[first] === 0x90) return true;
  // 0f 1f /0: the long nop (Intel SDM volume 2, table 4-12).
  return bytes[first] === 0x0f && bytes[first + 1] === 0x1f;
}

/** Behind prefixes that leave a nop one: REX.B before 90 makes an exchange of it, F3 a pause. */
function firstOpcode(bytes: Uint8Array, at: number, length: number): number {
  let first = at;
  while (first < at + length && (bytes[first] === 0x66 || bytes[first] === 0x2e)) first++;
  return first;
}
