/**
 * Decides, from a file alone, how a place can be probed by a jump, and which instructions its stub has to
 * execute: the ways that are proved to be safe, cheapest first, and why the others are not. Where memory
 * for a pun is found, and who has patched the bytes around, is known only in a target: see place-site.ts.
 */

import { fileOffset, type Address, type FileOffset } from '../../base/brand.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import type { ElfFile, ExecutableSegment } from '../../symbols/elf.ts';
import type { FunctionBounds } from '../../symbols/function-bounds.ts';
import { MAX_DISPLACED_BYTES, type SiteMethod } from '../../process/control-rows.ts';
import { FileCode, type CodePlace } from './file-code.ts';
import { FillerProof, type Padding } from './filler.ts';
import { RED_ZONE_BYTES } from './frame.ts';
import { LandingProof, type KnownLanding } from './landing-proof.ts';
import type { AskedBytes } from './landing-search.ts';
import { JUMP_BYTES, SHORT_JUMP_BYTES } from './patches.ts';
import { WayJudge, type Candidate, type Judgement, type Way } from './ways.ts';

/** A way that was looked at and is not safe, or not possible. */
export interface RejectedWay {
  readonly method: SiteMethod;
  readonly reason: string;
}

/** A place that can be probed. Addresses are the file's own (p_vaddr). */
export interface SitePlan {
  readonly kind: 'plan';
  readonly offset: FileOffset;
  readonly address: Address;
  /** Bytes below the stack pointer that may not be touched. */
  readonly redZone: number;
  /** The file's bytes from the place on, as far as a way looks at them. */
  readonly bytes: Uint8Array;
  /** At least one, best first. */
  readonly ways: readonly Way[];
  readonly rejected: readonly RejectedWay[];
}

/** A place that cannot, and why, for the person who asked. */
export interface SiteRefusal {
  readonly kind: 'refused';
  readonly offset: FileOffset;
  readonly reason: string;
  readonly rejected: readonly RejectedWay[];
}

/** What is known of a place, whatever can be done there. Offsets are the file's. */
export interface Examination {
  readonly bounds: FunctionBounds;
  readonly segment: ExecutableSegment;
  /** Where the instructions of its function begin. */
  readonly boundaries: readonly number[];
  /** Who comes to the place and to the four bytes behind it, otherwise than from the instruction before. */
  readonly landings: readonly { readonly at: number; readonly reason: string }[];
}

/** Bytes from a place on that a plan has: all that may be displaced, or that a pun rests on. */
const LOOK_BYTES = MAX_DISPLACED_BYTES;
/** Bytes of a pun and of what it rests on, behind all prefixes that it can have. */
const PUN_REACH = 3 + JUMP_BYTES;
/** From the byte behind a short jump so far back and so far on. */
const SHORT_BACK = 128;
const SHORT_ON = 127;

const UNREACHED =
  'nothing is seen to come there, and what stands behind a jump or a return may be data';

/** Bytes of padding that a jump at the end of the function before it may replace. */
const WANTED_BYTES = JUMP_BYTES - 1;

/** The short jumps of a place. */
interface ShortJumps {
  /** To padding that nobody else wants, or why there is none. */
  readonly apart: Judgement;
  readonly anywhere: Way;
}

/** Plans the sites of one file. Holds what was read of the file; plans are not kept. */
export class Planner {
  readonly #code: FileCode;
  readonly #proof: LandingProof;
  readonly #filler: FillerProof;
  readonly #judge: WayJudge;

  constructor(elf: ElfFile) {
    this.#code = new FileCode(elf);
    this.#proof = new LandingProof(this.#code);
    this.#filler = new FillerProof(this.#code, this.#proof);
    this.#judge = new WayJudge(this.#code, this.#proof, this.#filler);
  }

  /** Plans many places at once: the file's text is searched once for branches into any of them. */
  plan(offsets: readonly FileOffset[]): (SitePlan | SiteRefusal)[] {
    const possible = offsets.map((offset) => this.#candidate(offset));
    const places = possible.flatMap((one) => (one.kind === 'candidate' ? [one.place] : []));
    this.#filler.learn(possible.flatMap((one) => this.#fillerAt(one)));
    const doubtful = this.#doubtful(possible);
    const asked = possible.map((one) => this.#askedOf(one));
    const landings = this.#proof.lookUp(asked, places, doubtful);
    const candidates = this.#reached(possible, doubtful);
    const long = candidates.map((one, index) =>
      one.kind === 'refused' ? one.reason : this.#judge.longJump(one, landings[index] ?? []),
    );
    const short = this.#shortJumps(candidates, long, landings);
    const plans = candidates.map((candidate, index) => {
      if (candidate.kind === 'refused') return candidate;
      const longer = long[index] ?? 'it was not looked at';
      const shorter = short[index];
      const puns = this.#judge.puns(candidate, landings[index] ?? []);
      const judgements: (readonly [SiteMethod, Judgement])[] = [['jump', longer]];
      if (typeof shorter === 'string') judgements.push(['short-jump', shorter]);
      else if (shorter !== undefined) judgements.push(['short-jump', shorter.apart]);
      for (const way of puns) judgements.push(['pun', way]);
      if (typeof shorter === 'object') judgements.push(['short-jump', shorter.anywhere]);
      return this.#choose(candidate, judgements);
    });
    this.#code.trim();
    return plans;
  }

  /**
   * What is known of a place, for people: its instructions, and who comes to each of the bytes that a jump would
   * replace. Undefined where the place is in no code.
   */
  examine(offset: FileOffset): Examination | undefined {
    const place = this.#code.place(offset);
    if (typeof place === 'string') return undefined;
    const { segment, bounds } = place;
    const end = offset + JUMP_BYTES;
    const [landings = []] = this.#proof.direct([{ segment, start: offset - 1, end }]);
    const boundaries = this.#code.boundaries(place);
    const inside = boundaries.filter((at) => at >= offset && at < end);
    const indirect = inside.flatMap((at) => {
      const reason = this.#proof.indirect(place, at);
      return reason === undefined ? [] : [{ at, reason }];
    });
    return { bounds, segment, boundaries, landings: [...landings, ...indirect] };
  }

  /** Rule 3 alone: why a place is not the start of an instruction; undefined where that is proved. */
  boundary(offset: FileOffset): string | undefined {
    const place = this.#code.place(offset);
    if (typeof place === 'string') return place;
    const candidate = this.#candidate(offset);
    if (candidate.kind === 'refused') return undefined;
    const [judged] = this.#reached([candidate], this.#doubtful([candidate]));
    return judged?.kind === 'refused' ? judged.reason : undefined;
  }

  /** The offsets of all instructions of the function around a place, as far as it decodes; none where it is unknown. */
  boundaries(offset: FileOffset): readonly FileOffset[] {
    const known = this.#code.functionAround(offset);
    return typeof known === 'string'
      ? []
      : this.#code.boundaries(known).map((at) => fileOffset(at));
  }

  #candidate(offset: FileOffset): Candidate | SiteRefusal {
    const refuse = (reason: string): SiteRefusal => {
      return { kind: 'refused', offset, reason, rejected: [] };
    };
    const place = this.#code.place(offset);
    if (typeof place === 'string') return refuse(place);
    const candidate = this.#judge.candidate(place);
    const [first] = candidate.pieces;
    if (first === undefined || first.flow === 'invalid') {
      return refuse('the bytes there are not an instruction that is known');
    }
    if (this.#code.isRestartable(offset, offset + first.length)) {
      return refuse('it lies in a restartable sequence (rseq)');
    }
    const last = candidate.pieces.at(-1) ?? first;
    const touched = Math.max(last.at + last.length, PUN_REACH);
    const rewritten = this.#code.rewritten(offset, offset + touched);
    if (rewritten !== undefined) return refuse(rewritten);
    const moved = this.#judge.whyNotMoved(candidate, first.length);
    if (moved !== undefined) return refuse(`${moved}: only a trap could serve there`);
    return candidate;
  }

  /** What stands behind a jump or a return, unless it is a long nop that is padding at worst. */
  #doubtful(candidates: readonly (Candidate | SiteRefusal)[]): CodePlace[] {
    return candidates.flatMap((candidate) => {
      if (candidate.kind === 'refused') return [];
      const { place } = candidate;
      if (!this.#code.isBehindEnd(place)) return [];
      const [padding] = this.#judge.isLongNop(candidate) ? this.#fillerAt(candidate) : [];
      const end = padding === undefined ? 0 : this.#filler.free(padding).end;
      return end > place.offset ? [] : [place];
    });
  }

  /** Refuses what is doubtful and to which nothing is seen to come. */
  #reached(
    candidates: readonly (Candidate | SiteRefusal)[],
    doubtful: readonly CodePlace[],
  ): (Candidate | SiteRefusal)[] {
    const reached = this.#proof.areReached(doubtful);
    const lost = new Set(doubtful.filter((_, index) => reached[index] !== true));
    return candidates.map((candidate) => {
      if (candidate.kind === 'refused' || !lost.has(candidate.place)) return candidate;
      return { kind: 'refused', offset: candidate.place.offset, reason: UNREACHED, rejected: [] };
    });
  }

  /** The filler that planning a place has to know of: what it is itself, or what a jump there may be written over. */
  #fillerAt(candidate: Candidate | SiteRefusal): Padding[] {
    if (candidate.kind === 'refused') return [];
    const { place } = candidate;
    if (this.#judge.isLongNop(candidate) && this.#code.isBehindEnd(place)) {
      return [this.#filler.run(place, place.offset)];
    }
    const behind = this.#judge.fillerBehind(candidate);
    return behind === undefined ? [] : [behind];
  }

  #askedOf(candidate: Candidate | SiteRefusal): AskedBytes | undefined {
    if (candidate.kind === 'refused') return undefined;
    const { offset, segment } = candidate.place;
    // Of one instruction, too: glibc jumps over lock prefixes.
    return { segment, start: offset, end: offset + JUMP_BYTES };
  }

  /**
   * Short jumps for the places that no long one serves: to padding that nobody else wants, and to any. What is right
   * behind a function is wanted by a jump at its end, which may come later.
   */
  #shortJumps(
    candidates: readonly (Candidate | SiteRefusal)[],
    long: readonly Judgement[],
    landings: readonly (readonly KnownLanding[])[],
  ): (ShortJumps | string | undefined)[] {
    const alone = candidates.map((candidate, index) => {
      if (candidate.kind === 'refused' || typeof long[index] !== 'string') return undefined;
      return this.#judge.overWhole(
        candidate,
        'short-jump',
        SHORT_JUMP_BYTES,
        landings[index] ?? [],
      );
    });
    const around = candidates.map((candidate, index): readonly Padding[] => {
      if (candidate.kind === 'refused' || typeof (alone[index] ?? '') === 'string') return [];
      const behind = candidate.place.offset + SHORT_JUMP_BYTES;
      return this.#filler.near(candidate.place, behind - SHORT_BACK, behind + SHORT_ON);
    });
    this.#filler.learn(around.flat());
    return alone.map((way, index) => {
      const candidate = candidates[index];
      if (way === undefined || typeof way === 'string') return way;
      if (candidate?.kind !== 'candidate') return undefined;
      const behind = candidate.place.offset + SHORT_JUMP_BYTES;
      const free = (around[index] ?? []).map((padding) => this.#filler.free(padding));
      const reached = (from: number): Address[] =>
        free
          .flatMap((padding) => this.#slots(padding, from))
          .filter((slot) => slot >= behind - SHORT_BACK && slot <= behind + SHORT_ON)
          .map((slot) => this.#code.addressOf(candidate.place.segment, slot));
      const [apart, anywhere] = [reached(WANTED_BYTES), reached(0)];
      if (anywhere.length === 0) return 'no padding in its reach holds a jump';
      return {
        apart:
          apart.length > 0
            ? { ...way, paddings: apart }
            : 'the padding in its reach may be wanted by a jump at the end of a function',
        anywhere: { ...way, paddings: anywhere },
      };
    });
  }

  /**
   * Where in padding, so many bytes from its start on, a jump of five bytes can lie, none of them across a page's
   * end; the last first.
   */
  #slots({ start, end }: Padding, from: number): number[] {
    const slots: number[] = [];
    for (let at = end - JUMP_BYTES; at >= start + from;) {
      const over = (at % PAGE_BYTES) + JUMP_BYTES - PAGE_BYTES;
      if (over <= 0) slots.push(at);
      at -= over > 0 ? over : JUMP_BYTES;
    }
    return slots;
  }

  #choose(
    { place }: Candidate,
    judgements: readonly (readonly [SiteMethod, Judgement])[],
  ): SitePlan {
    const ways: Way[] = [];
    const rejected: RejectedWay[] = [];
    for (const [method, judgement] of judgements) {
      if (typeof judgement !== 'string') ways.push(judgement);
      else rejected.push({ method, reason: judgement });
    }
    const { offset, address: at } = place;
    const redZone = this.#code.isGo(offset) ? 0 : RED_ZONE_BYTES;
    const bytes = this.#judge.bytes(offset, LOOK_BYTES);
    return { kind: 'plan', offset, address: at, redZone, bytes, ways, rejected };
  }
}
