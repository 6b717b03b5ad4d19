/** Which bytes of a target's arenas are free: derived from the control tables, never stored. */

import { address, type Address } from '../../base/brand.ts';
import { lowerBound } from '../../base/sorted.ts';
import { ensure } from '../../base/errors.ts';
import type { ArenaRow } from '../../process/control-rows.ts';
import type { ControlTables } from '../../process/control.ts';
import { SPRINGBOARD_BYTES } from './patches.ts';

/** Bytes of a new arena; larger requests get what they need. */
export const ARENA_BYTES: number = 64 * 1024;
/** Stubs and programs begin at multiples of this, so that their pointer words are aligned. */
const ALIGNMENT = 16n;
/** How far a `jmp rel32` reaches, less a margin for the code around both ends. */
const REACH = 0x7fff_0000n;
/** Half of it: what is so near on either side of a text reaches each other. */
export const HALF_REACH = 0x3fff_0000n;

/** A range of text that stubs must be able to reach, and be reached from. */
export interface TextRange {
  readonly start: Address;
  readonly end: Address;
}

/** Where code has to begin: at one of the addresses first ≤ address ≤ last. */
export interface OriginRange {
  readonly first: bigint;
  readonly last: bigint;
}

interface UsedBytes {
  readonly start: Address;
  readonly bytes: number;
}

interface Hole {
  readonly isExact: boolean;
  start: bigint;
  end: bigint;
}

/** Hands out space in the arenas of one address space. A change that fails just drops it. */
export class ArenaSpace {
  /** Of arenas that lie anywhere, and those of puns: their addresses are wanted, so they come last. */
  readonly #holes: Record<'anywhere' | 'exact', Hole[]> = { anywhere: [], exact: [] };

  constructor(tables: ControlTables) {
    const used = [
      ...tables.sites.map((site) => ({ start: site.stub, bytes: site.stubBytes })),
      ...tables.sites.flatMap(({ via }) =>
        via === undefined ? [] : [{ start: via, bytes: SPRINGBOARD_BYTES }],
      ),
      ...tables.programs.map((program) => ({ start: program.code, bytes: program.codeBytes })),
      ...tables.sessions.map((session) => ({
        start: session.runtime,
        bytes: session.runtimeBytes,
      })),
    ].sort((left, right) => (left.start < right.start ? -1 : 1));
    const starts = Float64Array.from(used, ({ start }) => Number(start)); // exact: below 2^47
    for (const arena of tables.arenas) {
      this.#addHoles(arena, used, lowerBound(starts, Number(arena.address)));
    }
  }

  /** Adds an arena that is about to be mapped. */
  add({ address: start, bytes, isExact }: ArenaRow): void {
    this.#addHole({ isExact, start, end: start + BigInt(bytes) });
  }

  /**
   * Builds code in the first hole that has `room` bytes within reach of all of `text` (anywhere, if
   * undefined), and takes as many as the code has.
   * @returns undefined when there is no such hole: map an arena and {@link add} it.
   */
  place<Code extends { readonly bytes: Uint8Array }>(
    room: number,
    text: TextRange | undefined,
    build: (origin: Address) => Code,
  ): Code | undefined {
    for (const hole of this.#inOrder()) {
      const start = alignUp(hole.start);
      if (start + BigInt(room) > hole.end) continue;
      // What puns had mapped lies on either side: half the way, so that all stubs of a text reach each other.
      const reach = hole.isExact ? HALF_REACH : REACH;
      if (text !== undefined && !reaches(start, start + BigInt(room), text, reach)) continue;
      const code = build(address(start));
      this.#take(hole, start, code.bytes.byteLength, room);
      return code;
    }
    return undefined;
  }

  /**
   * The same for code that has to begin in a range, aligned if the range has such an address. `build` may
   * decline a place.
   */
  placeWithin<Code extends { readonly bytes: Uint8Array }>(
    room: number,
    range: OriginRange,
    build: (origin: Address) => Code | undefined,
  ): Code | undefined {
    for (const [hole, start] of this.#within(room, range)) {
      const code = build(address(start));
      if (code === undefined) continue;
      this.#take(hole, start, code.bytes.byteLength, room);
      return code;
    }
    return undefined;
  }

  /** Whether {@link placeWithin} has a place. */
  hasRoomWithin(room: number, range: OriginRange): boolean {
    return !this.#within(room, range).next().done;
  }

  /** The holes in which code can begin in a range, and where. */
  *#within(room: number, { first, last }: OriginRange): Generator<readonly [Hole, bigint]> {
    for (const hole of this.#inOrder()) {
      // Two comparisons rule out nearly all of thousands.
      if (hole.start > last || hole.end <= first) continue;
      const lowest = first > hole.start ? first : hole.start;
      const aligned = alignUp(lowest);
      const start = aligned <= last && aligned + BigInt(room) <= hole.end ? aligned : lowest;
      if (start <= last && start + BigInt(room) <= hole.end) yield [hole, start];
    }
  }

  #take(hole: Hole, start: bigint, bytes: number, room: number): void {
    ensure(bytes <= room, 'code is larger than the room it was given');
    const { isExact, end, start: before } = hole;
    hole.start = start + BigInt(bytes);
    hole.end = end;
    // What an exact place leaves in front of it serves others.
    if (start === before || (!isExact && start - before < ALIGNMENT)) return;
    this.#addHole({ isExact, start: before, end: start });
  }

  #addHole(hole: Hole): void {
    this.#holes[hole.isExact ? 'exact' : 'anywhere'].push(hole);
  }

  *#inOrder(): Iterable<Hole> {
    yield* this.#holes.anywhere;
    yield* this.#holes.exact;
  }

  /** @param first the first of what is used, by address, that may lie in the arena */
  #addHoles(arena: ArenaRow, used: readonly UsedBytes[], first: number): void {
    const { isExact } = arena;
    const end = arena.address + BigInt(arena.bytes);
    let at: bigint = arena.address;
    for (let index = first; ; index++) {
      const block = used[index];
      if (block === undefined || block.start >= end) break;
      if (block.start < at) continue;
      if (block.start > at) this.#addHole({ isExact, start: at, end: block.start });
      at = block.start + BigInt(block.bytes);
    }
    if (at < end) this.#addHole({ isExact, start: at, end });
  }
}

function alignUp(at: bigint): bigint {
  return (at + ALIGNMENT - 1n) & ~(ALIGNMENT - 1n);
}

/** Whether every byte of [start, end) and of `text` can jump to each other. */
export function reaches(
  start: bigint,
  end: bigint,
  text: TextRange,
  reach: bigint = REACH,
): boolean {
  return end - text.start < reach && text.end - start < reach;
}
