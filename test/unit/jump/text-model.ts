/** A text in memory, and the changes of it: every jump must lead where its row says. */

import assert from 'node:assert/strict';

import { address, fileOffset, type Address } from '../../../src/base/brand.ts';
import { ControlBlock } from '../../../src/engines/jump/block.ts';
import { CodeSpace } from '../../../src/engines/jump/code-space.ts';
import { patchesFor } from '../../../src/engines/jump/intended.ts';
import { failDependents, type FailedSite } from '../../../src/engines/jump/obstacles.ts';
import {
  goalOf,
  jumpBytes,
  paddingOf,
  patchOf,
  PatchMap,
  restsOn,
} from '../../../src/engines/jump/patches.ts';
import type { ConsumerRequest } from '../../../src/engines/jump/prepare.ts';
import {
  SitePreparation,
  type NewSite,
  type PreparedSites,
} from '../../../src/engines/jump/site-preparation.ts';
import type { Way } from '../../../src/engines/jump/ways.ts';
import type { SiteRow } from '../../../src/process/control-rows.ts';
import { asMapping, type MemoryMapping } from '../../../src/process/maps.ts';
import type { CodePatch } from '../../../src/process/patch.ts';

export const TEXT: Address = address(0x5555_0000_0000n);
export const TEXT_BYTES = 0x1000;
const INODE = 7n;
/** Where sites are, and in front of them padding, eight bytes for each jump. */
export const FIRST = 0x100;
const PADDINGS = [0xc0, 0xc8, 0xd0, 0xd8, 0xe0, 0xe8];

/** What is asked for at a place, by its distance from {@link FIRST}. */
export interface Wish {
  readonly at: number;
  readonly method: 'jump' | 'short-jump' | 'pun';
  /** Bytes that a pun writes. */
  readonly own: number;
}

/** Where tasks are in the way, by the distance from {@link FIRST}: of new sites, and on the springboards of puns. */
export interface InTheWay {
  readonly sites: readonly number[];
  readonly boards: readonly number[];
}

function range(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, index) => from + index);
}

function ascending(one: bigint, other: bigint): number {
  return one < other ? -1 : 1;
}

/** A text of instructions of one byte each, with the sites that changes have made in it. */
export class Text {
  readonly file: Uint8Array;
  readonly memory: Uint8Array;
  readonly block: ControlBlock = ControlBlock.empty();
  /** Code in arenas that was written for springboards and stubs, by address. */
  readonly #code = new Map<Address, Uint8Array>();
  readonly #maps: MemoryMapping[];

  /** @param taken memory that is somebody else's */
  constructor(file: Uint8Array, taken: readonly MemoryMapping[] = []) {
    this.file = file;
    this.memory = Uint8Array.from(file);
    this.#maps = [{ ...asMapping(TEXT, TEXT_BYTES), executable: true, inode: INODE }, ...taken];
  }

  /** All memory that a jump reaches becomes somebody else's, but for some addresses. */
  takeAllBut(places: readonly bigint[]): void {
    const free = [TEXT, ...places].map((at) => at & ~0xffffn).sort(ascending);
    let start = TEXT - 0x8000_0000n;
    for (const at of [...free, TEXT + 0x8000_0000n]) {
      if (at > start) this.#maps.push(asMapping(address(start), Number(at - start)));
      start = at + 0x2_0000n;
    }
  }

  /** Makes a change, as the preparation of consumers and its application do. */
  change(wishes: readonly Wish[], inTheWay?: InTheWay): PreparedSites {
    const maps = this.#maps.toSorted((one, other) => ascending(one.start, other.start));
    const code: { readonly address: Address; readonly bytes: Uint8Array }[] = [];
    const space = new CodeSpace(maps, this.block);
    const original = (place: { readonly address: Address }, length: number): Uint8Array =>
      this.#fileAt(place.address, length);
    const target = { maps, block: this.block, original, avoidsInside: () => false };
    const sites = new SitePreparation(target, space, code);
    const text = { start: TEXT, end: address(TEXT + BigInt(TEXT_BYTES)) };
    for (const wish of wishes.toSorted((one, other) => other.at - one.at)) {
      sites.find(this.#requestOf(wish), text, 1);
    }
    const prepared = sites.finish();
    this.#maps.push(...space.newArenas.map((arena) => asMapping(arena.address, arena.bytes)));
    for (const write of code) this.#code.set(write.address, write.bytes);
    for (const row of prepared.dropped) this.block.remove('sites', row.index);
    this.#apply(prepared, inTheWay);
    this.#check();
    return prepared;
  }

  #apply({ newSites, intended }: PreparedSites, inTheWay?: InTheWay): void {
    const { sites, repunned, before } = intended;
    const failed = new Map<NewSite, FailedSite>();
    for (const site of sites) {
      if (!isAt(inTheWay?.sites, site.row)) continue;
      failed.set(site, { site, kind: 'busy', reason: 'a task stands there' });
    }
    const lost = new Set(repunned.filter((pun) => isAt(inTheWay?.boards, pun.before)));
    failDependents(sites, repunned, failed, lost);
    const patched = sites.filter((site) => !failed.has(site));
    const led = repunned.filter((pun) => !lost.has(pun));
    const { out, paddings, into } = patchesFor(patched, led, before);
    for (const patches of [out, paddings, into]) this.#write(patches);
    for (const site of failed.keys()) {
      if (newSites.includes(site)) this.block.remove('sites', site.row.index);
    }
    for (const { after } of led) this.block.putSite(after);
  }

  /** Where the jump of a site leads. */
  goalAt(place: number): Address {
    const rows = [...this.block.sites.values()];
    return goalOf(
      rows.find((row) => Number(row.address - TEXT) - FIRST === place) ?? assert.fail(),
    );
  }

  /** Takes sites out, the lowest first, but for those on which puns rest: as `restoreSites`, where nobody is in stubs. */
  remove(places: readonly number[]): void {
    for (const place of places.toSorted((one, other) => one - other)) {
      const sites = new PatchMap(this.block.sites.values());
      const row = sites.at(address(TEXT + BigInt(FIRST + place)));
      if (row === undefined || [...this.block.sites.values()].some((pun) => restsOn(pun, row))) {
        continue;
      }
      sites.delete(row);
      this.block.remove('sites', row.index);
      const bytes = this.#fileAt(row.address, row.patchBytes);
      this.memory.set(sites.overlay(row.address, bytes), Number(row.address - TEXT));
      const padding = paddingOf(row);
      if (padding !== undefined) this.memory.set(this.#fileAt(padding, 5), Number(padding - TEXT));
    }
    this.#check();
  }

  #fileAt(at: Address, length: number): Uint8Array {
    const from = Number(at - TEXT);
    return this.file.slice(from, from + length);
  }

  #requestOf({ at, method, own }: Wish): ConsumerRequest {
    const where = address(TEXT + BigInt(FIRST + at));
    const patchBytes = method === 'jump' ? 5 : method === 'short-jump' ? 2 : own;
    const bytes = this.#fileAt(where, 32);
    const way: Way = {
      method,
      patchBytes,
      displaced: bytes.slice(0, 5),
      innerBoundaries: range(1, patchBytes),
      paddings: PADDINGS.map((padding) => address(TEXT + BigInt(padding))),
    };
    return {
      program: { arguments: [], filter: undefined, action: 'count' },
      consumer: 0,
      probe: 0,
      address: where,
      file: { deviceMajor: 0, deviceMinor: 0, inode: INODE },
      counter: undefined,
      plan: {
        kind: 'plan',
        offset: fileOffset(FIRST + at),
        address: where,
        redZone: 128,
        bytes,
        ways: [way],
        rejected: [],
      },
    };
  }

  /** As `writeCode`: all are compared before one is written. */
  #write(patches: readonly CodePatch[]): void {
    for (const { address: at, expected } of patches) {
      const from = Number(at - TEXT);
      assert.deepEqual(this.memory.subarray(from, from + expected.byteLength), expected);
    }
    for (const { address: at, bytes } of patches) this.memory.set(bytes, Number(at - TEXT));
  }

  #check(): void {
    const rows = [...this.block.sites.values()];
    const sites = new PatchMap(rows);
    const code = this.memory.subarray(FIRST);
    const first = address(TEXT + BigInt(FIRST));
    assert.deepEqual(code, sites.overlay(first, this.file.subarray(FIRST)));
    for (const row of rows) this.#checkJump(row, sites);
  }

  /** Who comes to the site comes to its stub, if no lower site's jump lies over it. */
  #checkJump(row: SiteRow, sites: PatchMap): void {
    const lower = sites.between(row.address - 5n, row.address);
    if (lower.some((one) => one.address + BigInt(one.patchBytes) > row.address)) return;
    const { method, address: at, via, stub } = row;
    const jump = method === 'pun' ? jumpBytes(at, goalOf(row), row.prefixBytes) : patchOf(row);
    const from = Number(at - TEXT);
    const name = `${method} at ${from - FIRST}`;
    assert.deepEqual(this.memory.subarray(from, from + jump.byteLength), jump, name);
    if (via === undefined) return;
    const board = method === 'pun' ? this.#code.get(via) : this.memory.subarray(Number(via - TEXT));
    assert.ok(board !== undefined, `${name}: springboard`);
    assert.equal(goalOfBoard(via, board), stub, name);
  }
}

function isAt(places: readonly number[] = [], row: SiteRow): boolean {
  return places.includes(Number(row.address - TEXT) - FIRST);
}

/** Where `jmp rel32` or `jmp [rip]` leads. */
function goalOfBoard(at: Address, board: Uint8Array): bigint {
  const view = new DataView(board.buffer, board.byteOffset, board.byteLength);
  return board[0] === 0xe9 ? at + 5n + BigInt(view.getInt32(1, true)) : view.getBigUint64(6, true);
}
