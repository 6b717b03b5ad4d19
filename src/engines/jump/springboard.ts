/** Where puns lead, and the jumps to stubs that lie there. */

import { address, type Address } from '../../base/brand.ts';
import { Assembler } from '../../x64/assembler.ts';
import { mem } from '../../x64/operands.ts';
import type { CodeSpace } from './code-space.ts';
import {
  JUMP_BYTES,
  jumpBytes,
  jumpReaches,
  MAX_REACH,
  PatchMap,
  restsOn,
  SPRINGBOARD_BYTES,
  type PatchedSite,
} from './patches.ts';
import { punGoals, type PunGoals } from './pun.ts';
import type { OriginalBytes } from './restore.ts';
import type { CodeWrite } from './writes.ts';

/** The text around a pun, and the memory that it can lead to. */
export interface PunSurroundings {
  readonly space: CodeSpace;
  /** Sites that are live, and those that will be. */
  readonly live: PatchMap;
  /** Where jumps lie in padding. */
  readonly paddings: ReadonlySet<Address>;
  readonly original: OriginalBytes;
}

/** A jump to a stub, where a pun leads. */
export interface Springboard {
  readonly prefixBytes: number;
  readonly via: Address;
  readonly springboard: CodeWrite;
}

/** Bytes from a pun on that decide where it leads. */
export const PUN_BYTES = 12;
/** So many addresses serve where one would: the first ones of a hole are aligned. */
const SPREAD_WIDTH = 16n;
/** What the free bytes of a displacement are tried as. The last one decides how far and to which side a jump leads. */
const SPREAD = [0xf0, 0xc8, 0xa0, 0x88, 0x10, 0x30, 0x50, 0x70];
/** Each byte 1. */
const ONES = 0x0101_0101n;

/** Where a pun at a place can lead, given what the sites above it have written. */
export function goalsOf(
  at: Address,
  { patchBytes }: Pick<PatchedSite, 'patchBytes'>,
  bytes: Uint8Array,
  around: { readonly live: Pick<PatchMap, 'overlay'>; readonly paddings: ReadonlySet<Address> },
): PunGoals[] {
  const start = address(at + BigInt(patchBytes));
  const rest = bytesBehind({ address: at, patchBytes }, bytes, around.live);
  // A jump in padding goes when its site goes: no pun may rest on it.
  return punGoals(at, patchBytes, rest).filter(
    ({ prefixBytes }) => !holdsJump(around, start, at + BigInt(prefixBytes + JUMP_BYTES)),
  );
}

/** The file's bytes behind those that a site writes, with what the sites above it write over them. */
function bytesBehind(
  { address: at, patchBytes }: Pick<PatchedSite, 'address' | 'patchBytes'>,
  bytes: Uint8Array,
  sites: Pick<PatchMap, 'overlay'>,
): Uint8Array {
  return sites.overlay(address(at + BigInt(patchBytes)), bytes.subarray(patchBytes), at + 1n);
}

/**
 * Whether a pun leads elsewhere with other sites above it: not if what they write there is under the jump of one
 * that was there and lies below them.
 */
export function leadsElsewhere(
  pun: PatchedSite,
  bytes: Uint8Array,
  before: Pick<PatchMap, 'overlay'>,
  then: Pick<PatchMap, 'overlay'>,
): boolean {
  const rested = pun.prefixBytes + JUMP_BYTES - pun.patchBytes;
  const [was, is] = [before, then].map((sites) =>
    bytesBehind(pun, bytes, sites).subarray(0, rested),
  );
  return was === undefined || is === undefined || Buffer.compare(was, is) !== 0;
}

/** Whether the jump of a site lies in padding of which a byte is in start ≤ at < end. */
export function holdsJump(
  { paddings }: Pick<PunSurroundings, 'paddings'>,
  start: bigint,
  end: bigint,
): boolean {
  for (let at = start - BigInt(JUMP_BYTES - 1); at < end; at++) {
    // A brand of the same number.
    if (paddings.has(at as Address)) return true;
  }
  return false;
}

/**
 * Whether each pun that rests on what a site is about to write could be led anew, for all that is known before any
 * is: they may rest on each other.
 */
export function keepsPuns(candidate: PatchedSite, around: PunSurroundings): boolean {
  const { live, space, original } = around;
  const below = live.between(candidate.address - BigInt(MAX_REACH), candidate.address);
  const resting = below.filter((pun) => restsOn(pun, candidate));
  if (resting.length === 0) return true;
  const end = address(candidate.address + BigInt(MAX_REACH));
  const then = new PatchMap<PatchedSite>([...live.near({ start: candidate.address, end })]);
  then.add(candidate);
  return resting.every((pun) => {
    const bytes = original(pun, PUN_BYTES);
    if (bytes === undefined) return false;
    if (!leadsElsewhere(pun, bytes, live, then)) return true;
    const goals = goalsOf(pun.address, pun, bytes, { ...around, live: then });
    return goals.some((goal) => space.hasRoomWithin(goal, SPRINGBOARD_BYTES));
  });
}

/** Places for the goals of a jump, a few addresses each, that differ in every byte of it that is written. */
export function spreadGoals(
  at: Address,
  site: Pick<PatchedSite, 'patchBytes'>,
  bytes: Uint8Array,
  around: PunSurroundings,
): PunGoals[] {
  const { patchBytes } = site;
  if (patchBytes === JUMP_BYTES) {
    const end = at + BigInt(JUMP_BYTES);
    const all = SPREAD.map((byte) => end + BigInt.asIntN(32, BigInt(byte) * ONES));
    return all.map((first) => ({ prefixBytes: 0, first, last: first + SPREAD_WIDTH - 1n }));
  }
  return goalsOf(at, site, bytes, around).flatMap((goal) => {
    const free = patchBytes - 1 - goal.prefixBytes;
    if (free === 0) return [goal];
    const base = goal.last - BigInt.asUintN(8 * free, -1n);
    const all = SPREAD.map((byte) => base + BigInt.asUintN(8 * free, BigInt(byte) * ONES));
    return all
      .filter((first) => first >= goal.first)
      .map((first) => ({ ...goal, first, last: first + SPREAD_WIDTH - 1n }));
  });
}

/**
 * Places a jump to a stub where a pun can lead.
 * @param accepts whether it may lie at a place, for which nothing is mapped otherwise
 */
export function placeSpringboard(
  goals: readonly PunGoals[],
  stub: Address,
  space: CodeSpace,
  accepts: (made: Pick<Springboard, 'prefixBytes' | 'via'>) => boolean = () => true,
): Springboard | undefined {
  for (const mapsMore of [false, true]) {
    for (const goal of goals) {
      const { prefixBytes } = goal;
      const suits = (via: Address): boolean => accepts({ prefixBytes, via });
      if (mapsMore) {
        const wanted = space.roomWithin(goal, SPRINGBOARD_BYTES);
        if (wanted === undefined || !suits(wanted) || !space.mapWithin(goal, SPRINGBOARD_BYTES)) {
          continue;
        }
      }
      const board = space.placeWithin(goal, SPRINGBOARD_BYTES, (via) =>
        suits(via) ? { address: via, bytes: boardAt(via, stub) } : undefined,
      );
      if (board !== undefined) return { prefixBytes, via: board.address, springboard: board };
    }
  }
  return undefined;
}

function boardAt(origin: Address, stub: Address): Uint8Array {
  const board = new Uint8Array(SPRINGBOARD_BYTES).fill(0xcc);
  if (jumpReaches(origin, stub)) {
    board.set(jumpBytes(origin, stub));
    return board;
  }
  const code = new Assembler(origin);
  const word = code.label('stub');
  board.set(
    code
      .jmp(mem({ target: word }))
      .bind(word)
      .u64(stub)
      .finish(),
  );
  return board;
}
