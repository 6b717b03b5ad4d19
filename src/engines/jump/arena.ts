/** Which bytes of a target's arenas are free: derived from the control tables, never stored. */

import { address, type Address } from '../../base/brand.ts';
import { ensure } from '../../base/errors.ts';
import type { ArenaRow, ControlTables } from '../../process/control.ts';

/** Bytes of a new arena; larger requests get what they need. */
export const ARENA_BYTES: number = 64 * 1024;
/** Stubs and programs begin at multiples of this, so that their pointer words are aligned. */
const ALIGNMENT = 16n;
/** How far a `jmp rel32` reaches, less a margin for the code around both ends. */
const REACH = 0x7fff_0000n;

/** A range of text that stubs must be able to reach, and be reached from. */
export interface TextRange {
  readonly start: Address;
  readonly end: Address;
}

interface Hole {
  readonly arena: number;
  start: bigint;
  readonly end: bigint;
}

/** Hands out space in the arenas of one address space. A change that fails just drops it. */
export class ArenaSpace {
  readonly #holes: Hole[] = [];

  constructor(tables: ControlTables) {
    const used = [
      ...tables.sites.map((site) => ({ start: site.stub, bytes: site.stubBytes })),
      ...tables.programs.map((program) => ({ start: program.code, bytes: program.codeBytes })),
      ...tables.sessions.map((session) => ({
        start: session.runtime,
        bytes: session.runtimeBytes,
      })),
    ].sort((left, right) => (left.start < right.start ? -1 : 1));
    for (const arena of tables.arenas) this.#addHoles(arena, used);
  }

  /** Adds an arena that is about to be mapped. */
  add(arena: ArenaRow): void {
    this.#holes.push({
      arena: arena.index,
      start: arena.address,
      end: arena.address + BigInt(arena.bytes),
    });
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
    for (const hole of this.#holes) {
      const start = (hole.start + ALIGNMENT - 1n) & ~(ALIGNMENT - 1n);
      if (start + BigInt(room) > hole.end) continue;
      if (text !== undefined && !reaches(start, start + BigInt(room), text)) continue;
      const code = build(address(start));
      ensure(code.bytes.byteLength <= room, 'code is larger than the room it was given');
      hole.start = start + BigInt(code.bytes.byteLength);
      return code;
    }
    return undefined;
  }

  #addHoles(arena: ArenaRow, used: readonly { start: Address; bytes: number }[]): void {
    const end = arena.address + BigInt(arena.bytes);
    let at: bigint = arena.address;
    for (const block of used) {
      if (block.start < at || block.start >= end) continue;
      if (block.start > at) this.#holes.push({ arena: arena.index, start: at, end: block.start });
      at = block.start + BigInt(block.bytes);
    }
    if (at < end) this.#holes.push({ arena: arena.index, start: at, end });
  }
}

/** Whether every byte of [start, end) and of `text` can jump to each other. */
export function reaches(start: bigint, end: bigint, text: TextRange): boolean {
  return end - text.start < REACH && text.end - start < REACH;
}
