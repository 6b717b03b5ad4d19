/** Putting the file's bytes back where our jumps are. */

import { address, hex, type Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { readMany } from '../../process/read-many.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { isPlaceThere, isThereToo } from './gone.ts';
import { JUMP_BYTES, jumpBytes, MAX_REACH, paddingOf, PatchMap, restsOn } from './patches.ts';
import { findAbsent } from './presence.ts';
import { copiersOf, slotBytes, slotsIn } from './slots.ts';

/** The file's own bytes at an address, or undefined when the file can't be read any more. */
export type OriginalBytes = (
  place: { readonly address: Address; readonly inode: bigint },
  length: number,
) => Uint8Array | undefined;

/** What is restored in. */
export interface RestoreTarget {
  readonly stopped: StoppedProcess;
  readonly maps: readonly MemoryMapping[];
  readonly original: OriginalBytes;
}

/** What became of sites that were to be restored. */
export interface Restoration {
  readonly restored: readonly SiteRow[];
  /** What is wrong at others, for people. One on whose bytes the jump of another rests stays, without a word. */
  readonly problems: readonly string[];
}

/**
 * Puts the file's bytes back, or those of the sites that lay under them; then the slots of other stubs that led
 * there. From the lowest address up: a pun goes before what it rests on.
 * @param rows all sites of the address space
 */
export function restoreSites(
  target: RestoreTarget,
  rows: readonly SiteRow[],
  sites: readonly SiteRow[],
): Restoration {
  const isThere = (site: SiteRow): boolean => isPlaceThere(target.maps, site);
  const gone = sites.filter((site) => !isThere(site));
  const present = rows.filter(isThere);
  const left = new PatchMap(present.filter(({ state }) => state === 'live'));
  const places = sites.map(({ address: start }) => {
    return { start, end: address(start + BigInt(MAX_REACH)) };
  });
  // Their maker died before it wrote the patch, or after it took it out.
  const gaps = findAbsent(target.stopped, left, places, target.original);
  for (const site of gaps) left.delete(site);
  const problems: string[] = [];
  const restored: SiteRow[] = [...gone];
  const absent = sites.filter((site) => gaps.has(site));
  const asked = sites.filter((site) => isThere(site) && !gaps.has(site));
  const patched = check(target, asked, left, problems);
  const stubs = new PatchMap(present);
  for (const site of ascending([...absent, ...patched])) {
    const below = left.between(site.address - BigInt(2 * JUMP_BYTES), site.address);
    if (below.some((pun) => restsOn(pun, site))) continue;
    if (!gaps.has(site)) {
      left.delete(site);
      putBack(target, site, left);
    }
    emptySlots(target, site, stubs);
    restored.push(site);
  }
  return { restored, problems };
}

/**
 * Puts the file's bytes back into the padding that held a site's jump, when no task can be in it any more.
 * @returns what is wrong, if it can't.
 */
export function restorePadding(target: RestoreTarget, site: SiteRow): string | undefined {
  const { inode, stub } = site;
  const padding = paddingOf(site);
  if (padding === undefined) return undefined;
  if (!isThereToo(target.maps, site, padding)) return undefined;
  const original = target.original({ address: padding, inode }, JUMP_BYTES);
  if (original === undefined) return unreadable(target, site);
  const found = target.stopped.read(padding, JUMP_BYTES);
  if (Buffer.compare(found, original) === 0) return undefined;
  if (Buffer.compare(found, jumpBytes(padding, stub)) !== 0) return foreign(target, padding, found);
  target.stopped.write(padding, original);
  return undefined;
}

/** @returns those that hold what they should. */
function check(
  target: RestoreTarget,
  sites: readonly SiteRow[],
  live: PatchMap,
  problems: string[],
): SiteRow[] {
  const found = readMany(
    target.stopped,
    sites.map((site) => ({ address: site.address, length: site.patchBytes })),
  );
  const patched: SiteRow[] = [];
  sites.forEach((site, index) => {
    const bytes = found[index] ?? new Uint8Array();
    const original = target.original(site, site.patchBytes);
    if (original === undefined) {
      problems.push(unreadable(target, site));
      return;
    }
    if (Buffer.compare(bytes, live.overlay(site.address, original)) === 0) patched.push(site);
    // Whoever changed the bytes may put our jump back: its stub stays, and does nothing.
    else problems.push(foreign(target, site.address, bytes));
  });
  return patched;
}

function putBack({ stopped, original }: RestoreTarget, site: SiteRow, left: PatchMap): void {
  const bytes = original(site, site.patchBytes);
  if (bytes !== undefined) stopped.write(site.address, left.overlay(site.address, bytes));
}

/** The slots that led to a site lead on to the instruction behind them, of which they are a copy. */
function emptySlots({ stopped, original }: RestoreTarget, site: SiteRow, stubs: PatchMap): void {
  for (const copier of copiersOf(site.address, stubs)) {
    const slot = slotsIn(copier, original).find(({ boundary }) => boundary === site.address);
    if (slot !== undefined) stopped.write(slot.at, slotBytes(slot.at, undefined));
  }
}

function ascending(sites: readonly SiteRow[]): SiteRow[] {
  return sites.toSorted((one, other) => (one.address < other.address ? -1 : 1));
}

function unreadable({ stopped }: RestoreTarget, { address: at }: SiteRow): string {
  return `the file of the site at ${hex(at)} of process ${stopped.pid} can't be read any more`;
}

function foreign({ stopped }: RestoreTarget, at: Address, found: Uint8Array): string {
  const bytes = Buffer.from(found).toString('hex');
  return `somebody else changed the code at ${hex(at)} of process ${stopped.pid}: ${bytes}`;
}
