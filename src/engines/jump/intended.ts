/**
 * A change of the text as it is made where nothing is in its way: what is compared, what is watched, and what is
 * written. It is worked out before the stop, while the target runs, and again under it only where something is.
 */

import { address, type Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { CodePatch } from '../../process/patch.ts';
import type { Passage } from './passages.ts';
import {
  JUMP_BYTES,
  jumpBytes,
  paddingOf,
  patchOf,
  patchRange,
  restOf,
  SPRINGBOARD_BYTES,
  type PatchMap,
} from './patches.ts';
import type { NewSite, Repunned } from './site-preparation.ts';

/** What a change of the text is worked out from. */
export interface TextChange {
  /** The sites that are to get their patches. */
  readonly sites: readonly NewSite[];
  readonly repunned: readonly Repunned[];
  readonly passages: readonly Passage<NewSite>[];
  /** What is patched now. */
  readonly before: PatchMap;
}

/** A change of the text, with all that can be said of it before the stop. */
export interface IntendedChange extends TextChange {
  /** From the highest address down. */
  readonly sites: readonly NewSite[];
  /** What must be in memory. */
  readonly expected: readonly ExpectedBytes[];
  /** Where no task may stand, nor come back to. */
  readonly watched: readonly WatchedRange[];
  /** What is written where nothing is in the way. */
  readonly patches: TextPatches;
}

/** Bytes that memory has if nobody else has changed them. */
export interface ExpectedBytes {
  readonly site: NewSite;
  readonly address: Address;
  readonly bytes: Uint8Array;
}

/** Code that is about to be something else, for the sake of a site or of a pun that is led anew. */
export interface WatchedRange extends AddressRange {
  readonly site: NewSite | undefined;
  readonly pun: Repunned | undefined;
}

/** The writes to the text, in the order in which they are made. */
export interface TextPatches {
  /** Puns that are about to lead elsewhere go first. */
  readonly out: readonly CodePatch[];
  /** The jumps in padding. */
  readonly paddings: readonly CodePatch[];
  /** The sites and the puns as they will be, the highest first. */
  readonly into: readonly CodePatch[];
}

/** Works out all that is needed under the stop. */
export function intend(change: TextChange): IntendedChange {
  const sites = change.sites.toSorted((one, other) =>
    one.row.address > other.row.address ? -1 : 1,
  );
  return {
    ...change,
    sites,
    expected: expectedBytes(sites, change.before),
    watched: watchedRanges({ ...change, sites }),
    patches: patchesFor(sites, change.repunned, change.before),
  };
}

/** The writes for some sites and puns. */
export function patchesFor(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  before: PatchMap,
): TextPatches {
  const now = repunned.length === 0 ? before : before.copy();
  const out = takeOut(repunned, before, now);
  return { out, paddings: paddingPatches(sites), into: putIn(sites, repunned, now) };
}

/** Each site's bytes, as far as it displaces, writes or rests on them, and the padding of short jumps. */
function expectedBytes(sites: readonly NewSite[], before: PatchMap): ExpectedBytes[] {
  return sites.flatMap((site) => {
    const { row, way, plan, padding } = site;
    const rest = Number((restOf(row)?.end ?? row.address) - row.address);
    const length = Math.max(way.displaced.byteLength, row.patchBytes, rest);
    const bytes = before.overlay(row.address, plan.bytes.subarray(0, length));
    const own = { site, address: row.address, bytes };
    if (padding === undefined || row.via === undefined) return [own];
    return [own, { site, address: row.via, bytes: padding }];
  });
}

function watchedRanges({ sites, passages, repunned }: TextChange): WatchedRange[] {
  return [
    ...sites
      .filter((site) => site.way.innerBoundaries.length > 0)
      .map((site) => ({ ...insideOf(site), site, pun: undefined })),
    ...passages.map(({ range, site }) => ({ ...range, site, pun: undefined })),
    ...repunned.flatMap((pun) => boardOf(pun).map((range) => ({ ...range, site: undefined, pun }))),
  ];
}

/** Behind the first byte to be replaced, to the last. */
function insideOf({ row }: NewSite): AddressRange {
  return { start: address(row.address + 1n), end: patchRange(row).end };
}

/** The jump to which a pun leads that is to lead elsewhere: its memory is free afterwards. */
function boardOf({ before: { via } }: Repunned): AddressRange[] {
  return via === undefined ? [] : [{ start: via, end: address(via + BigInt(SPRINGBOARD_BYTES)) }];
}

/**
 * Takes puns out that are about to lead elsewhere, the lowest first: one may rest on the next.
 * @param before what is patched: all places are compared before the first is written
 * @param now the same; they are taken out of it
 */
function takeOut(repunned: readonly Repunned[], before: PatchMap, now: PatchMap): CodePatch[] {
  const ascending = repunned.toSorted((one, other) =>
    one.before.address < other.before.address ? -1 : 1,
  );
  return ascending.map(({ before: row, original }) => {
    const bytes = original.subarray(0, row.patchBytes);
    const expected = before.overlay(row.address, bytes);
    now.delete(row);
    return { address: row.address, expected, bytes: now.overlay(row.address, bytes) };
  });
}

function paddingPatches(sites: readonly NewSite[]): CodePatch[] {
  return sites.flatMap(({ row, padding }) => {
    const at = paddingOf(row);
    if (at === undefined || padding === undefined) return [];
    return [{ address: at, expected: padding, bytes: jumpBytes(at, row.stub) }];
  });
}

function putIn(
  sites: readonly NewSite[],
  repunned: readonly Repunned[],
  now: PatchMap,
): CodePatch[] {
  const then = now.copy();
  const all: { readonly row: SiteRow; readonly original: Uint8Array }[] = [
    ...sites.map(({ row, plan }) => ({ row, original: plan.bytes })),
    ...repunned.map(({ after, original }) => ({ row: after, original })),
  ].sort((one, other) => (one.row.address > other.row.address ? -1 : 1));
  return all.map(({ row, original }) => {
    const bytes = original.subarray(0, row.patchBytes);
    const expected = now.overlay(row.address, bytes);
    then.add(row);
    // From the highest down: only what was there before can lie over it.
    const isOpen = now.between(row.address - BigInt(JUMP_BYTES), row.address).length === 0;
    const patch = isOpen ? patchOf(row) : then.overlay(row.address, bytes);
    return { address: row.address, expected, bytes: patch };
  });
}
