/** Where new memory fits near a program's text. */

import { readFileSync } from 'node:fs';

import { address, type Address } from '../base/brand.ts';
import { PAGE_BYTES, pageDown, pageUp } from '../base/page.ts';
import { type MemoryMapping } from './maps.ts';

/** A range of addresses; its end is exclusive. */
export interface AddressRange {
  readonly start: Address;
  readonly end: Address;
}

const MEGABYTE = 1n << 20n;

/** How far a jump may go: rel32 reaches ±2^31, of which 1 MB is kept for what displacements add. */
export const DEFAULT_REACH: bigint = (1n << 31n) - MEGABYTE;

/** First address that user space on x86-64 never has with 4-level page tables (a guard page below 2^47). */
const USER_END = (1n << 47n) - BigInt(PAGE_BYTES);

/**
 * The main stack grows down until RLIMIT_STACK, 8 MB in most systems, unlimited in some. What grows is
 * kept clear of us by 256 MB: more than any stack that threads share code with has been seen to use, and
 * an eighth of what a jump reaches, so that a place is still found between libraries and a stack.
 */
const STACK_CLEARANCE = 256n * MEGABYTE;

/**
 * [heap] grows up by brk(2), and malloc falls back to mmap where brk fails: taking its room costs speed,
 * not correctness, but is not unnoticed. 256 MB keeps most programs on brk.
 */
const HEAP_CLEARANCE = 256n * MEGABYTE;

/** How {@link findFreeNear} searches. */
export interface FreeSpaceOptions {
  /** How far every byte of the new memory may be from every byte of the text. */
  readonly reach?: bigint;
  /** vm.mmap_min_addr; the system's when absent. */
  readonly minimum?: bigint;
}

/**
 * The nearest page-aligned free place of `size` bytes of which every byte is within reach of every byte
 * of `target`. `maps` must be in order.
 * @returns undefined when there is none.
 */
export function findFreeNear(
  maps: readonly MemoryMapping[],
  target: AddressRange,
  size: number,
  options: FreeSpaceOptions = {},
): Address | undefined {
  const reach = options.reach ?? DEFAULT_REACH;
  const wanted = pageUp(BigInt(size));
  // Both ends matter: the last byte of the one from the first of the other, and the reverse.
  const lowest = target.end - reach;
  const highest = target.start + reach;
  let best: Address | undefined;
  let bestDistance = 0n;
  for (const gap of gaps(maps, options.minimum ?? minimumAddress())) {
    const start = pageUp(max(gap.start, lowest));
    const end = pageDown(min(gap.end, highest));
    if (end - start < wanted) continue;
    const place = clamp(pageDown(target.start - wanted), start, end - wanted, target);
    const distance = place >= target.end ? place - target.end : target.start - (place + wanted);
    if (best !== undefined && distance >= bestDistance) continue;
    best = address(place);
    bestDistance = distance;
  }
  return best;
}

/**
 * The middle of the largest free range, for memory that may be anywhere: nothing that grows comes there, and
 * what is near a program's text stays free for what has to be near it.
 * @returns undefined when no free range has `size` bytes.
 */
export function findFreeAway(
  maps: readonly MemoryMapping[],
  size: number,
  minimum: bigint = minimumAddress(),
): Address | undefined {
  const wanted = pageUp(BigInt(size));
  let best = { start: 0n, end: 0n };
  for (const gap of gaps(maps, minimum)) {
    if (gap.end - gap.start > best.end - best.start) best = gap;
  }
  const room = best.end - best.start;
  return room < wanted ? undefined : address(pageDown(best.start + (room - wanted) / 2n));
}

/** The free ranges, from the lowest address on, without what may still grow. */
export function freeRanges(maps: readonly MemoryMapping[]): AddressRange[] {
  return Array.from(gaps(maps, minimumAddress()), ({ start, end }) => {
    return { start: address(start), end: address(end) };
  });
}

function* gaps(
  maps: readonly MemoryMapping[],
  minimum: bigint,
): Generator<{ readonly start: bigint; readonly end: bigint }> {
  let start = pageUp(max(minimum, BigInt(PAGE_BYTES)));
  for (const mapping of maps) {
    const before = mapping.path === '[stack]' ? mapping.start - STACK_CLEARANCE : mapping.start;
    const end = min(before, USER_END);
    if (end > start) yield { start, end };
    const after = mapping.path === '[heap]' ? mapping.end + HEAP_CLEARANCE : mapping.end;
    start = max(start, after);
  }
  if (USER_END > start) yield { start, end: USER_END };
}

/** The place in a gap that is closest to the text, which lies wholly below or above the gap. */
function clamp(below: bigint, start: bigint, last: bigint, target: AddressRange): bigint {
  return start >= target.end ? start : min(max(below, start), last);
}

function minimumAddress(): bigint {
  return BigInt(readFileSync('/proc/sys/vm/mmap_min_addr', 'latin1').trim());
}

function min(one: bigint, other: bigint): bigint {
  return one < other ? one : other;
}

function max(one: bigint, other: bigint): bigint {
  return one > other ? one : other;
}
