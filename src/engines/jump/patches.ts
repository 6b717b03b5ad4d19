/**
 * What the text of a target holds at its sites: the file's bytes, and over them what each live site has
 * written. A pure function of the rows of the control block: nothing that is written is remembered.
 *
 * Sites may overlap. Where a jump covers the start of another site, nobody comes there but through the stub
 * of the first, whose copy of that instruction leads to the other's stub (see slots.ts): the lower one wins.
 */

import { address, type Address } from '../../base/brand.ts';
import { ensure } from '../../base/errors.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { SiteRow } from '../../process/control-rows.ts';

/** Bytes of `jmp rel32`. */
export const JUMP_BYTES = 5;
/** Bytes of `jmp rel8`. */
export const SHORT_JUMP_BYTES = 2;
/** Bytes that are kept for the jump to which a site's own leads: `jmp rel32`, or `jmp [rip]` and a word. */
export const SPRINGBOARD_BYTES = 14;

/** The opcodes of `jmp rel32` and `jmp rel8` (Intel SDM volume 2, JMP). */
export const JUMP_OPCODE = 0xe9;
export const SHORT_JUMP_OPCODE = 0xeb;
/** CS: without a meaning in 64-bit mode; assemblers pad branches with it. */
export const PREFIX = 0x2e;

/** What a site's patch is made from. */
export type PatchedSite = Pick<
  SiteRow,
  'address' | 'method' | 'patchBytes' | 'prefixBytes' | 'stub' | 'via'
>;

/** Where a site's own jump leads. */
export function goalOf({ via, stub }: Pick<SiteRow, 'via' | 'stub'>): Address {
  return via ?? stub;
}

/** Where a site has a jump in padding: in the text, not in an arena. */
export function paddingOf({ method, via }: Pick<SiteRow, 'method' | 'via'>): Address | undefined {
  return method === 'short-jump' ? via : undefined;
}

/** By row, which is never changed: what was worked out while the target ran costs its stop nothing. */
const patches = new WeakMap<PatchedSite, Uint8Array>();

/** The bytes that are written at a site. Whoever gets them leaves them as they are. */
export function patchOf(site: PatchedSite): Uint8Array {
  let patch = patches.get(site);
  if (patch === undefined) patches.set(site, (patch = assemblePatch(site)));
  return patch;
}

function assemblePatch(site: PatchedSite): Uint8Array {
  const { address: at, prefixBytes, patchBytes } = site;
  if (site.method === 'short-jump') {
    const distance = Number(goalOf(site) - at) - SHORT_JUMP_BYTES;
    return Uint8Array.of(SHORT_JUMP_OPCODE, distance & 0xff);
  }
  return jumpBytes(at, goalOf(site), prefixBytes).slice(0, patchBytes);
}

/** A whole `jmp rel32` at `from`, behind so many prefixes. */
export function jumpBytes(from: Address, to: Address, prefixBytes = 0): Uint8Array {
  const bytes = new Uint8Array(prefixBytes + JUMP_BYTES).fill(PREFIX, 0, prefixBytes);
  bytes[prefixBytes] = JUMP_OPCODE;
  const distance = to - from - BigInt(bytes.byteLength);
  ensure(BigInt.asIntN(32, distance) === distance, 'a jump reaches where it leads');
  new DataView(bytes.buffer).setInt32(prefixBytes + 1, Number(distance), true);
  return bytes;
}

/** Whether a `jmp rel32` at `from` can lead to `to`. */
export function jumpReaches(from: Address, to: Address): boolean {
  const distance = to - from - BigInt(JUMP_BYTES);
  return BigInt.asIntN(32, distance) === distance;
}

/** The bytes behind a pun's own on which it rests: they are the rest of its jump, and must stay as they are. */
export function restOf(site: PatchedSite): AddressRange | undefined {
  if (site.method !== 'pun') return undefined;
  const start = address(site.address + BigInt(site.patchBytes));
  return { start, end: address(site.address + BigInt(site.prefixBytes + JUMP_BYTES)) };
}

/**
 * Whether `site` is a pun that rests on bytes that `other` writes. One below it that does covers the pun's own
 * start, too: then nobody comes to the pun but through the other's stub.
 */
export function restsOn(site: PatchedSite, other: PatchedSite): boolean {
  const rest = restOf(site);
  return rest !== undefined && other.address > site.address && overlaps(rest, patchRange(other));
}

/** The bytes that a site writes. */
export function patchRange({ address: start, patchBytes }: PatchedSite): AddressRange {
  return { start, end: address(start + BigInt(patchBytes)) };
}

/** Whether a site's patch is in the bytes that were found there, as far as no lower site lies over it. */
export function showsPatch(
  found: Uint8Array | undefined,
  site: PatchedSite,
  sites: PatchMap<PatchedSite>,
): boolean {
  const lower = sites.between(site.address - BigInt(JUMP_BYTES), site.address);
  return patchOf(site).every((byte, index) => {
    const at = site.address + BigInt(index);
    return lower.some((one) => patchRange(one).end > at) || found?.[index] === byte;
  });
}

/** Whether a pun's jump leads where it should by the bytes that were found behind its own. */
export function showsRest(found: Uint8Array | undefined, site: PatchedSite): boolean {
  const jump = jumpBytes(site.address, goalOf(site), site.prefixBytes);
  return found !== undefined && Buffer.compare(found, jump.subarray(site.patchBytes)) === 0;
}

/** Whether two ranges have a byte in common. */
export function overlaps(one: AddressRange, other: AddressRange): boolean {
  return one.start < other.end && one.end > other.start;
}

/** Behind its address, no site says anything about bytes so far on: patched, rested on, or displaced. */
export const MAX_REACH = 32;
const BUCKET = 64;

/** The patches of one address space, by address. */
export class PatchMap<Site extends PatchedSite = SiteRow> {
  readonly #buckets = new Map<number, Site[]>();
  #size = 0;

  constructor(sites: Iterable<Site> = []) {
    for (const site of sites) this.add(site);
  }

  /** Whether there is no site. */
  get isEmpty(): boolean {
    return this.#size === 0;
  }

  /** Another map of the same sites. */
  copy(): PatchMap<Site> {
    return new PatchMap([...this.#buckets.values()].flat());
  }

  add(site: Site): void {
    this.#size++;
    const key = bucketOf(site.address);
    const bucket = this.#buckets.get(key);
    if (bucket === undefined) this.#buckets.set(key, [site]);
    else bucket.push(site);
  }

  /** Takes a site out. There may be others at its address: retired ones. */
  delete(site: Site): void {
    const bucket = this.#buckets.get(bucketOf(site.address)) ?? [];
    const index = bucket.indexOf(site);
    if (index < 0) return;
    bucket.splice(index, 1);
    this.#size--;
  }

  at(where: Address): Site | undefined {
    return this.#buckets.get(bucketOf(where))?.find((site) => site.address === where);
  }

  /** The sites whose address lies in start ≤ address < end, ascending. */
  between(start: bigint, end: bigint): Site[] {
    const found: Site[] = [];
    if (this.isEmpty) return found;
    for (let key = bucketOf(start); key <= bucketOf(end); key++) {
      const bucket = this.#buckets.get(key);
      if (bucket === undefined) continue;
      for (const site of bucket) if (site.address >= start && site.address < end) found.push(site);
    }
    return found.sort((one, other) => (one.address < other.address ? -1 : 1));
  }

  /** The sites that could have to do with bytes in a range: nearly all begin a little before it. */
  near({ start, end }: AddressRange): Site[] {
    return this.between(start - BigInt(MAX_REACH), end);
  }

  /**
   * The bytes that belong at `start`: the file's, with what the sites write over them.
   * @param lowest only sites from this address on count
   */
  overlay(
    start: Address,
    original: Uint8Array,
    lowest: bigint = start - BigInt(JUMP_BYTES),
  ): Uint8Array {
    const end = address(start + BigInt(original.byteLength));
    const sites = this.between(lowest, end);
    if (sites.length === 0) return original;
    const bytes = new Uint8Array(original);
    // From above: the lower one wins.
    for (const site of sites.toReversed()) {
      const patch = patchOf(site);
      const from = Number(site.address - start);
      for (let at = Math.max(0, -from); at < patch.byteLength; at++) {
        if (from + at >= bytes.byteLength) break;
        bytes[from + at] = patch[at] ?? 0;
      }
    }
    return bytes;
  }
}

function bucketOf(at: bigint): number {
  return Math.floor(Number(at) / BUCKET); // exact: below 2^47
}
