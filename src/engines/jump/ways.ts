/** The ways in which a place can be probed: which bytes are written, which instructions are moved, and why it is safe. */

import { address, type Address } from '../../base/brand.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { MAX_DISPLACED_BYTES, type SiteMethod } from '../../process/control-rows.ts';
import { neverGoesOn } from '../../x64/decode.ts';
import { relocate } from '../../x64/relocate.ts';
import { FaultHandlers } from './fault-handlers.ts';
import type { CodePlace, FileCode } from './file-code.ts';
import { isFiller, isNop, type FillerProof, type Padding } from './filler.ts';
import type { KnownLanding, LandingProof } from './landing-proof.ts';
import { JUMP_BYTES } from './patches.ts';
import { piecesFrom, type Piece } from './pieces.ts';

const LOCK = 0xf0;

/** One way in which a place can be probed. */
export interface Way {
  readonly method: SiteMethod;
  /** Bytes that are written at the place: whole instructions but the last, all in one page. */
  readonly patchBytes: number;
  /**
   * The whole instructions that the stub executes in their stead, without filler behind the function, and some
   * more where that can be: a stub that goes back at least five bytes on leaves room for a jump at any instruction
   * before the place.
   */
  readonly displaced: Uint8Array;
  /** Where instructions begin within the bytes that are written. Nobody comes there but from before. */
  readonly innerBoundaries: readonly number[];
  /** For a short jump: places in padding, in its reach, that hold a jump. The file's own addresses. */
  readonly paddings: readonly Address[];
}

/** A place at which an instruction begins that can be moved. */
export interface Candidate {
  readonly kind: 'candidate';
  readonly place: CodePlace;
  /** The instructions of which five bytes from the place on have a part; fewer where the code ends. */
  readonly pieces: readonly Piece[];
  /** By how many bytes of them: why they can't be moved together, as far as it was asked; see {@link WayJudge.whyNotMoved}. */
  readonly moved: Map<number, string | undefined>;
}

/** Bytes of whole instructions that can be replaced together. */
interface FreeBytes {
  readonly length: number;
  /** Without the filler behind the function: it is never executed, and others may use it. */
  readonly executed: number;
  /** Where instructions begin within them, behind the first. */
  readonly inner: number[];
  /** What ends them. */
  readonly end: string | undefined;
}

/** A way, or why it is none. */
export type Judgement = Way | string;

/** Judges the ways for the places of one file. */
export class WayJudge {
  readonly #code: FileCode;
  readonly #proof: LandingProof;
  readonly #filler: FillerProof;
  readonly #faults: FaultHandlers;

  constructor(code: FileCode, proof: LandingProof, filler: FillerProof) {
    this.#code = code;
    this.#proof = proof;
    this.#filler = filler;
    this.#faults = new FaultHandlers(code);
  }

  /** A place with the instructions of which the five bytes from it on have a part. */
  candidate(place: CodePlace): Candidate {
    return { kind: 'candidate', place, pieces: piecesFrom(this.#code, place), moved: new Map() };
  }

  /** Why so many bytes from a place on can't be moved to a stub; undefined where they can. */
  whyNotMoved({ place, moved }: Candidate, length: number): string | undefined {
    const known = moved.get(length);
    if (known !== undefined || moved.has(length)) return known;
    const { offset, address: at } = place;
    // Near, but not at home: what can be moved a little can be moved to any place in reach.
    const near = address(at + 0x10_0000n);
    const relocated = relocate(this.bytes(offset, length), at, near);
    const reason =
      relocated.kind === 'refused'
        ? relocated.reason
        : this.#faults.whyStay(place, this.bytes(offset, length));
    moved.set(length, reason);
    return reason;
  }

  /** What looks like filler, and a jump at a place may be written over; undefined where there is none. */
  fillerBehind({ place, pieces }: Candidate): Padding | undefined {
    const last = pieces.findIndex(({ flow, at, length }) => {
      return neverGoesOn(flow) || place.offset + at + length >= place.bounds.end;
    });
    const behind = last < 0 ? undefined : pieces[last + 1];
    return behind && this.#filler.run(place, place.offset + behind.at);
  }

  /** A jump of five bytes. */
  longJump(candidate: Candidate, landings: readonly KnownLanding[]): Judgement {
    const method = this.isLongNop(candidate) ? 'nop' : 'jump';
    return this.overWhole(candidate, method, JUMP_BYTES, landings);
  }

  /** Whether a nop stands there that has room for a jump. */
  isLongNop({ place, pieces }: Candidate): boolean {
    const length = pieces[0]?.length ?? 0;
    return length >= JUMP_BYTES && isNop(this.#code.elf.bytes, place.offset, length);
  }

  /** A jump over whole instructions: `bytes` of it, and what is left of the last one. */
  overWhole(
    candidate: Candidate,
    method: SiteMethod,
    bytes: number,
    landings: readonly KnownLanding[],
  ): Judgement {
    const { place } = candidate;
    if ((place.offset % PAGE_BYTES) + bytes > PAGE_BYTES) {
      return `its ${bytes} bytes would cross a page: they could not be written at once`;
    }
    const { length, executed, inner, end } = this.#free(candidate, bytes, landings);
    if (length < bytes) return `it takes ${bytes} bytes, and ${end ?? 'the code ends'}`;
    if (length > MAX_DISPLACED_BYTES) return 'the instructions there are too long';
    const moved = inner.length === 0 ? undefined : this.whyNotMoved(candidate, executed);
    if (moved !== undefined) return moved;
    const displaced = this.#displaced(candidate, executed);
    return { method, patchBytes: bytes, displaced, innerBoundaries: inner, paddings: [] };
  }

  /** How many bytes of whole instructions can be replaced together, up to the first that have so many. */
  #free({ place, pieces }: Candidate, bytes: number, landings: readonly KnownLanding[]): FreeBytes {
    const { offset, bounds } = place;
    const inner: number[] = [];
    const entered = this.#enteredInside(place, pieces, landings);
    let length = 0;
    let executed = 0;
    let hasEnded = false;
    // Where the filler ends; without an end where a branch of the bytes themselves leads on.
    let free: number | undefined;
    let end: string | undefined;
    for (const piece of pieces) {
      if (length >= bytes) break;
      const isBehind = hasEnded || offset + piece.at >= bounds.end;
      if (piece.flow === 'invalid') {
        end = `what follows ${onwards(piece.at)} is no instruction that is known`;
      } else if (isBehind && !isFiller(this.#code.elf.bytes, offset + piece.at, piece.length)) {
        end = `other code begins ${onwards(piece.at)}`;
      } else if (piece.at > 0) {
        const reason = this.#landing(place, pieces, piece, landings);
        end = reason && `${onwards(piece.at)} ${reason}`;
        if (pieces.some(({ at, target }) => at < piece.at && target === piece.at)) free = Infinity;
        if (isBehind) free ??= this.#freeFrom(place, offset + piece.at);
        if (isBehind && offset + piece.at + piece.length > (free ?? 0)) {
          end ??= `what stands ${onwards(piece.at)} may be data`;
        }
      }
      if (end !== undefined) break;
      if (piece.at > 0) inner.push(piece.at);
      length += piece.length;
      if (!hasEnded || offset + piece.at < bounds.end) executed = length;
      if (neverGoesOn(piece.flow)) {
        hasEnded = true;
        free = undefined;
      }
    }
    if (entered !== undefined && entered.at < Math.min(length, bytes)) {
      return {
        length: entered.at,
        executed,
        inner: inner.filter((at) => at < entered.at),
        end: `${onwards(entered.at)} ${entered.reason}`,
      };
    }
    return { length, executed, inner, end };
  }

  /** Where the filler ends that begins at an offset. */
  #freeFrom(place: CodePlace, from: number): number {
    return this.#filler.free(this.#filler.run(place, from)).end;
  }

  /**
   * At least so many bytes of whole instructions; five, if what follows can be moved with them and is come to from
   * them: a branch that stayed would lead into what another site's jump may cover.
   */
  #displaced(candidate: Candidate, least: number): Uint8Array {
    const { place, pieces } = candidate;
    let length = least;
    let farthest = 0;
    for (const piece of pieces) {
      const end = piece.at + piece.length;
      if (piece.at >= least) {
        if (length >= JUMP_BYTES || !this.#canFollow(candidate, piece)) break;
        length = end;
      }
      if (piece.target !== undefined && piece.target < JUMP_BYTES) {
        farthest = Math.max(farthest, piece.target);
      }
      if (neverGoesOn(piece.flow) && farthest < end) break;
    }
    return this.bytes(place.offset, length);
  }

  /**
   * Where something comes first to the middle of an instruction, in bytes from the place on: glibc jumps over the lock prefix
   * of one where a thread is alone; filler may hide where a function begins. Elsewhere what only may lead there does not count.
   */
  #enteredInside(
    { offset, segment }: CodePlace,
    pieces: readonly Piece[],
    landings: readonly KnownLanding[],
  ): { readonly at: number; readonly reason: string } | undefined {
    // Asked of every instruction, and of nearly all nothing comes near.
    const isPointed = this.#proof.pointedAt(segment, offset + 1, offset + JUMP_BYTES) !== undefined;
    if (!isPointed && landings.length === 0) return undefined;
    const { bytes } = this.#code.elf;
    const entered = pieces.flatMap(({ at, length }) => {
      const start = offset + at;
      const end = Math.min(start + length, offset + JUMP_BYTES);
      // Not of the bytes that move with it.
      const branches = landings.filter(({ from }) => from < offset || from >= start);
      const isHidden = isFiller(bytes, start, length);
      return [...branches, ...this.#proof.pointers(segment, start + 1, end)].filter((one) => {
        const isLock = one.at === start + 1 && bytes[start] === LOCK;
        return one.at > start && one.at < end && (one.certain || isLock || isHidden);
      });
    });
    const [first] = entered.sort((one, other) => one.at - other.at);
    return first && { at: first.at - offset, reason: first.reason };
  }

  /** Whether an instruction can be executed in a stub together with those before it. */
  #canFollow(candidate: Candidate, { at, length, flow, target = 0 }: Piece): boolean {
    const { place } = candidate;
    const where = place.offset + at;
    // Not one that goes back within them: nobody may spin in a stub for ever.
    const isLoop = target > 0 && target <= at;
    return (
      flow !== 'invalid' &&
      !isLoop &&
      where < place.bounds.end &&
      !this.#code.isRestartable(where, where + length) &&
      this.whyNotMoved(candidate, at + length) === undefined
    );
  }

  /** Why something may come to an instruction behind the first one; undefined where nothing does. */
  #landing(
    place: CodePlace,
    pieces: readonly Piece[],
    { at, length }: Piece,
    landings: readonly KnownLanding[],
  ): string | undefined {
    const where = place.offset + at;
    const before = pieces.find((piece) => piece.at + piece.length === at)?.flow;
    if (before === 'call' || before === 'indirect-call') return 'a call returns there';
    if (this.#code.isRestartable(where, where + length)) return 'a restartable sequence (rseq)';
    // A branch of the window itself moves with it. Not one that goes back: nobody may spin in a stub for ever.
    const landing = landings.find(
      ({ at: goal, from }) => goal === where && (from < place.offset || from >= where),
    );
    return landing?.reason ?? this.#proof.indirect(place, where);
  }

  /**
   * Puns: the first writes all bytes that nobody comes to, so that it can lead to as many places as possible; the
   * last those of the first instruction alone, in whose inside no task stands.
   */
  puns(candidate: Candidate, landings: readonly KnownLanding[]): Way[] {
    const { place, pieces } = candidate;
    const room = Math.min(JUMP_BYTES - 1, PAGE_BYTES - (place.offset % PAGE_BYTES));
    const alone = pieces[0]?.length ?? 0;
    const { length, executed, inner } = this.#free(candidate, JUMP_BYTES, landings);
    const ways: Way[] = [];
    const touched = inner.filter((at) => at < Math.min(length, room));
    const last = touched.at(-1);
    const whole = pieces.find(({ at }) => at === last);
    if (whole !== undefined) {
      const displaced = Math.min(whole.at + whole.length, executed);
      if (this.whyNotMoved(candidate, displaced) === undefined) {
        ways.push(this.#punOver(candidate, Math.min(length, room), displaced, touched));
      }
    }
    return [...ways, this.#punOver(candidate, Math.min(alone, room, length), alone, [])];
  }

  #punOver(
    candidate: Candidate,
    patchBytes: number,
    least: number,
    innerBoundaries: readonly number[],
  ): Way {
    const displaced = this.#displaced(candidate, least);
    return { method: 'pun', patchBytes, displaced, innerBoundaries, paddings: [] };
  }

  /** Bytes of the file. */
  bytes(offset: number, length: number): Uint8Array {
    return this.#code.elf.bytes.slice(offset, offset + length);
  }
}

function onwards(bytes: number): string {
  return bytes === 1 ? '1 byte on' : `${bytes} bytes on`;
}
