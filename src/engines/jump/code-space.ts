/** Where new code goes in a target: into the holes of its arenas, else into arenas that are about to be mapped. */

import { address, type Address } from '../../base/brand.ts';
import { ensure } from '../../base/errors.ts';
import { pageDown } from '../../base/page.ts';
import type { ArenaRow } from '../../process/control-rows.ts';
import { freeRanges, type AddressRange } from '../../process/free-space.ts';
import { asMapping, type MemoryMapping } from '../../process/maps.ts';
import { ARENA_BYTES, ArenaSpace, type OriginRange, type TextRange } from './arena.ts';
import type { ControlBlock } from './block.ts';
import { findPlace } from './session-memory.ts';

/** What a site with one program takes as a rule, for the size of new arenas. */
const TYPICAL_SITE_BYTES = 640;
const LARGEST_ARENA_BYTES = 4 << 20;
/** What is mapped around an address to which a pun leads, if it is free: others may lead near it. */
const EXACT_ARENA = 1n << 16n;
/** Mappings that a process's puns may cost at most. */
const MOST_EXACT_ARENAS = 6000;

/** Free memory around an address to which a pun can lead. */
interface ExactRoom extends AddressRange {
  readonly origin: Address;
}

/** The code space of one address space, while a change is worked out. Adds rows for new arenas to its block. */
export class CodeSpace {
  readonly newArenas: ArenaRow[] = [];
  readonly #maps: readonly MemoryMapping[];
  readonly #block: ControlBlock;
  readonly #space: ArenaSpace;
  #free: AddressRange[] | undefined;

  /** @param maps the target's mappings and what else is about to be mapped, in order */
  constructor(maps: readonly MemoryMapping[], block: ControlBlock) {
    this.#maps = maps;
    this.#block = block;
    this.#space = new ArenaSpace(block.tables());
  }

  /**
   * Places code of at most `room` bytes near `text`, in a new arena if none has room.
   * @param left how many sites may follow, for the size of a new arena
   * @throws TraplineError `unsupported` where no memory is near.
   */
  place<Code extends { readonly bytes: Uint8Array }>(
    text: TextRange,
    room: number,
    left: number,
    build: (origin: Address) => Code,
  ): Code {
    const placed = this.#space.place(room, text, build);
    if (placed !== undefined) return placed;
    const wanted = Math.min(LARGEST_ARENA_BYTES, left * TYPICAL_SITE_BYTES + room);
    const bytes = Math.max(ARENA_BYTES, Math.ceil(wanted / ARENA_BYTES) * ARENA_BYTES);
    this.#addArena({ address: findPlace(this.#taken(), text, bytes), bytes, isExact: false });
    const code = this.#space.place(room, text, build);
    ensure(code !== undefined, 'a new arena has room for one stub');
    return code;
  }

  /** Places code that has to begin in a range; undefined where no memory can be had there, or `build` declines. */
  placeWithin<Code extends { readonly bytes: Uint8Array }>(
    range: OriginRange,
    room: number,
    build: (origin: Address) => Code | undefined,
  ): Code | undefined {
    return this.#space.placeWithin(room, range, build);
  }

  /** Whether code that has to begin in a range could be placed, by mapping memory if need be. */
  hasRoomWithin(range: OriginRange, room: number): boolean {
    return this.#space.hasRoomWithin(room, range) || this.roomWithin(range, room) !== undefined;
  }

  /**
   * Where code that has to begin in a range would lie if memory is mapped for it.
   * @returns undefined where nothing is free there, or puns have had as many mappings as they may.
   */
  roomWithin(range: OriginRange, room: number): Address | undefined {
    return this.#freeWithin(range, room)?.origin;
  }

  /** Maps memory for code that has to begin in a range. @returns false where {@link roomWithin} has none. */
  mapWithin(range: OriginRange, room: number): boolean {
    const free = this.#freeWithin(range, room);
    if (free === undefined) return false;
    const { start, end } = free;
    this.#addArena({ address: start, bytes: Number(end - start), isExact: true });
    return true;
  }

  #freeWithin({ first, last }: OriginRange, room: number): ExactRoom | undefined {
    const exact = [...this.#block.arenas.values()].filter(({ isExact }) => isExact).length;
    if (exact >= MOST_EXACT_ARENAS) return undefined;
    for (const { start, end } of (this.#free ??= freeRanges(this.#taken()))) {
      const origin = first > start ? first : start;
      const behind = origin + BigInt(room);
      if (origin > last || behind > end) continue;
      const from = largest(start, origin & ~(EXACT_ARENA - 1n));
      const to = smallest(pageDown(end), (behind + EXACT_ARENA - 1n) & ~(EXACT_ARENA - 1n));
      if (to < behind) continue;
      return { start: address(from), end: address(to), origin: address(origin) };
    }
    return undefined;
  }

  #addArena(row: Omit<ArenaRow, 'index'>): void {
    const arena = this.#block.addArena(row);
    this.newArenas.push(arena);
    this.#space.add(arena);
    this.#free = this.#free?.flatMap((range) => without(range, row));
  }

  #taken(): MemoryMapping[] {
    return [
      ...this.newArenas.map((arena) => asMapping(arena.address, arena.bytes)),
      ...this.#maps,
    ].sort((a, b) => (a.start < b.start ? -1 : 1));
  }
}

/** What is left of a free range beside an arena. */
function without(
  range: AddressRange,
  { address: from, bytes }: Omit<ArenaRow, 'index'>,
): AddressRange[] {
  const to = address(from + BigInt(bytes));
  if (to <= range.start || from >= range.end) return [range];
  return [
    { start: range.start, end: from },
    { start: to, end: range.end },
  ].filter(({ start, end }) => start < end);
}

function largest(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}

function smallest(one: bigint, other: bigint): bigint {
  return one < other ? one : other;
}
