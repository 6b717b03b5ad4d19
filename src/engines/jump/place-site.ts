/**
 * Makes a site of a plan in one address space: the first of its ways that suits what is there, its stub, and
 * what lies between the two.
 */

import { address, type Address } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { relocate } from '../../x64/relocate.ts';
import { HALF_REACH, reaches, type TextRange } from './arena.ts';
import type { SiteMethod } from '../../process/control-rows.ts';
import type { AddressRange } from '../../process/free-space.ts';
import { JUMP_BYTES, overlaps, patchRange, restOf, type PatchMap } from './patches.ts';
import {
  goalsOf,
  holdsJump,
  keepsPuns,
  placeSpringboard,
  spreadGoals,
  type PunSurroundings,
} from './springboard.ts';
import { exitsOf } from './slots.ts';
import type { SitePlan } from './planner.ts';
import type { Way } from './ways.ts';
import { assembleStub, type StubCode } from './stub.ts';
import type { CodeWrite } from './writes.ts';

/** A site, ready to be described. */
export interface PlacedSite {
  readonly way: Way;
  readonly prefixBytes: number;
  readonly via: Address | undefined;
  /** What is written at `via`, if that is in an arena; padding is text, and is written as sites are. */
  readonly springboard: CodeWrite | undefined;
  readonly stub: PlacedStub;
}

/** A stub and where it lies. */
export type PlacedStub = StubCode & { readonly origin: Address };

/** What is there, and what is about to be. */
export interface Surroundings extends PunSurroundings {
  /** The sites that are live and will be, and those whose stubs may still be executed. */
  readonly all: PatchMap;
}

/** More than any stub takes; what is not used is given back at once. */
const STUB_ROOM = 512;

/** Where a plan's site is to be, in one address space. */
export interface SitePlaceRequest {
  readonly plan: SitePlan;
  readonly ways: readonly Way[];
  readonly address: Address;
  readonly text: TextRange;
  /** How many sites may follow, for the size of new arenas. */
  readonly left: number;
}

/**
 * Places a site, so that the puns below that rest on its bytes can be led anew, if that can be.
 * @returns why no way serves here, if so.
 */
export function placeSite(request: SitePlaceRequest, around: Surroundings): PlacedSite | string {
  const reasons = new Map<string, Set<SiteMethod>>();
  let inconsiderate: PlacedSite | undefined;
  for (const way of request.ways) {
    const result = tryWay(request, way, around);
    if (typeof result === 'string') {
      reasons.set(result, (reasons.get(result) ?? new Set()).add(way.method));
      continue;
    }
    const { address: at } = request;
    const { stub, via, prefixBytes } = result;
    const asMade = { address: at, ...way, prefixBytes, via, stub: stub.origin };
    const considerate = keepsPuns(asMade, around) ? result : overBoard(request, result, around);
    if (considerate !== undefined) return considerate;
    inconsiderate ??= result;
  }
  return inconsiderate ?? listReasons(reasons);
}

/** Each reason once, behind the methods that it holds for: `short-jump and pun: …`. */
export function listReasons(reasons: ReadonlyMap<string, ReadonlySet<SiteMethod>>): string {
  const each = Array.from(reasons, ([reason, methods]) => {
    return `${[...methods].join(' and ')}: ${reason}`;
  });
  return each.join('; ');
}

/** The same stub by way of a springboard, which can lie where the bytes of the jump suit the puns below. */
function overBoard(
  { address: at, plan }: SitePlaceRequest,
  { way, stub }: PlacedSite,
  around: Surroundings,
): PlacedSite | undefined {
  if (way.method === 'short-jump') return undefined;
  const asPun: Way = { ...way, method: 'pun' };
  const goals = spreadGoals(at, way, plan.bytes, around);
  const board = placeSpringboard(goals, stub.origin, around.space, (made) =>
    keepsPuns({ address: at, ...asPun, ...made, stub: stub.origin }, around),
  );
  return board === undefined ? undefined : placed(asPun, stub, board);
}

function tryWay(request: SitePlaceRequest, way: Way, around: Surroundings): PlacedSite | string {
  const covered = coversReturn(request, way, around) ?? returnsInto(request.address, way, around);
  if (covered !== undefined) return covered;
  const end = request.address + BigInt(way.patchBytes);
  if (holdsJump(around, request.address, end)) {
    return 'a jump of another site lies in the padding behind it';
  }
  switch (way.method) {
    case 'nop':
    case 'jump':
      return placed(way, stubNear(request, way, around));
    case 'short-jump':
      return placeShort(request, way, around);
    case 'pun':
      return placePun(request, way, around);
  }
  throw new TypeError('an unknown method');
}

function placed(
  way: Way,
  stub: PlacedStub,
  more: Partial<Pick<PlacedSite, 'prefixBytes' | 'via' | 'springboard'>> = {},
): PlacedSite {
  return { way, stub, prefixBytes: 0, via: undefined, springboard: undefined, ...more };
}

/** A stub that goes back into the bytes that are about to be written would land in the middle of a jump. */
function coversReturn(
  { address: at, plan }: SitePlaceRequest,
  { patchBytes }: Way,
  { all }: Surroundings,
): string | undefined {
  const range = { start: at, end: address(at + BigInt(patchBytes)) };
  const inside = all.between(at + 1n, range.end).some((site) => {
    const from = Number(site.address - at);
    const displaced = plan.bytes.subarray(from, from + site.displacedBytes);
    return exitsOf(displaced, site.address).some((exit) => isBehindFirst(exit, range));
  });
  return inside
    ? 'the stub of another probe goes back into the bytes that it would replace'
    : undefined;
}

/** The same for the stub of a site that would lie in the bytes of another's jump. */
function returnsInto(at: Address, { displaced }: Way, { live }: Surroundings): string | undefined {
  const exits = exitsOf(displaced, at);
  const inside = live
    .between(at - BigInt(JUMP_BYTES), at)
    .map((site) => patchRange(site))
    .some((range) => range.end > at && exits.some((exit) => isBehindFirst(exit, range)));
  return inside
    ? 'its stub would go back into the bytes that another probe has replaced'
    : undefined;
}

function isBehindFirst(at: bigint, { start, end }: AddressRange): boolean {
  return at > start && at < end;
}

function stubNear(
  { plan, address: at, text, left }: SitePlaceRequest,
  way: Way,
  { space }: Surroundings,
): PlacedStub {
  return space.place(text, STUB_ROOM, left, (origin) => {
    const stub = stubAt(origin, at, plan, way);
    if (stub !== undefined) return stub;
    throw new TraplineError({
      code: 'refused',
      message: 'an operand of the instructions there is out of reach of memory near them',
    });
  });
}

/** The stub at a given place; undefined where an operand would not reach what it is about. */
function stubAt(
  origin: Address,
  at: Address,
  { redZone }: SitePlan,
  { displaced }: Way,
): PlacedStub | undefined {
  let isOutOfReach = false;
  const stub = assembleStub({
    origin,
    redZone,
    displace: (to) => {
      const moved = relocate(displaced, at, to, { slots: true });
      if (moved.kind === 'relocated') return moved;
      isOutOfReach = true;
      return { bytes: new Uint8Array(), map: [] };
    },
    back: address(at + BigInt(displaced.byteLength)),
  });
  return isOutOfReach ? undefined : { ...stub, origin };
}

/** The jump in padding is as near to the text as the site, and so is the stub. */
function placeShort(
  request: SitePlaceRequest,
  way: Way,
  around: Surroundings,
): PlacedSite | string {
  const distance = request.address - request.plan.address;
  const via = way.paddings
    .map((padding) => address(padding + distance))
    .find((slot) => isUnused(slot, around));
  if (via === undefined) return 'all padding in its reach is in use';
  return placed(way, stubNear(request, way, around), { via });
}

function isUnused(slot: Address, around: Surroundings): boolean {
  const range = { start: slot, end: address(slot + BigInt(JUMP_BYTES)) };
  const isUsed = around.all.near(range).some((site) => {
    const rest = restOf(site);
    return overlaps(patchRange(site), range) || (rest !== undefined && overlaps(rest, range));
  });
  return !isUsed && !holdsJump(around, range.start, range.end);
}

/** The stub where the pun leads, or a jump to it where that is too far or too narrow. */
function placePun(request: SitePlaceRequest, way: Way, around: Surroundings): PlacedSite | string {
  const goals = goalsOf(request.address, way, request.plan.bytes, around);
  const { space } = around;
  for (const mapsMore of [false, true]) {
    for (const goal of goals) {
      if (mapsMore && !space.mapWithin(goal, STUB_ROOM)) continue;
      const stub = space.placeWithin(goal, STUB_ROOM, (origin) =>
        isHalfNear(origin, request.text)
          ? stubAt(origin, request.address, request.plan, way)
          : undefined,
      );
      if (stub !== undefined) return placed(way, stub, { prefixBytes: goal.prefixBytes });
    }
  }
  const stub = stubNear(request, way, around);
  const board = placeSpringboard(goals, stub.origin, space);
  return board === undefined
    ? 'no memory can be had where it would lead'
    : placed(way, stub, board);
}

/** Near enough that all stubs of a text reach each other, on whichever side of it they lie: slots need that. */
function isHalfNear(origin: Address, text: TextRange): boolean {
  return reaches(origin, origin + BigInt(STUB_ROOM), text, HALF_REACH);
}
