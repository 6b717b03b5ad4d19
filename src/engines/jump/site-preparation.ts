/** The sites of a change that is being worked out: those that are there, new ones, and what has to be changed for them. */

import type { Address } from '../../base/brand.ts';
import type { SiteRow } from '../../process/control-rows.ts';
import type { AddressRange } from '../../process/free-space.ts';
import type { CodeSpace } from './code-space.ts';
import { isPlaceThere } from './gone.ts';
import { intend } from './intended.ts';
import { JUMP_BYTES, jumpReaches, paddingOf, PatchMap, restsOn } from './patches.ts';
import { placeSite, type PlacedSite, type Surroundings } from './place-site.ts';
import type { SitePlan } from './planner.ts';
import type { Way } from './ways.ts';
import type { ConsumerRequest, PreparationTarget, PreparedChange } from './prepare.ts';
import { findPassages } from './passages.ts';
import { goalsOf, leadsElsewhere, placeSpringboard, PUN_BYTES } from './springboard.ts';
import { copiersOf, copyMapOf, slotsIn, slotsOf, type CopyMap, type Slot } from './slots.ts';
import type { CodeWrite } from './writes.ts';

/** A site that is to lead to its stub. */
export interface NewSite {
  readonly row: SiteRow;
  readonly plan: SitePlan;
  /** The bytes that are displaced, and where instructions begin within those that are written. */
  readonly way: Pick<Way, 'displaced' | 'innerBoundaries'>;
  readonly request: ConsumerRequest;
  readonly map: CopyMap;
  /** The file's bytes at `via`, where that is in padding. */
  readonly padding: Uint8Array | undefined;
}

/** A slot that comes to lead to a site. */
export interface SlotChange extends Pick<CodeWrite, 'address'> {
  /** Whose stub it is in. */
  readonly from: SiteRow;
  readonly to: SiteRow;
}

/** A pun that was there, and that the bytes of new sites would lead elsewhere. */
export interface Repunned {
  readonly before: SiteRow;
  readonly after: SiteRow;
  /** The file's bytes from the site on. */
  readonly original: Uint8Array;
}

/** The sites of a change. */
export type PreparedSites = Pick<PreparedChange, 'newSites' | 'adopted' | 'slots' | 'intended'> & {
  /** Sites that had a row, and can't be: a pun that was there could not be led anew. */
  readonly dropped: ReadonlySet<SiteRow>;
};

/** A site for a consumer. */
export interface FoundSite {
  readonly row: SiteRow;
  readonly isNew: boolean;
}

/** Finds and makes the sites of one change. New rows go into the target's block at once. */
export class SitePreparation {
  readonly #target: PreparationTarget;
  readonly #space: CodeSpace;
  readonly #code: CodeWrite[];
  readonly #before = new Set<SiteRow>();
  readonly #was = new PatchMap();
  /** What will be live. */
  readonly #live = new PatchMap();
  /** The same, and stubs that may still be executed. */
  readonly #all = new PatchMap();
  readonly #paddings = new Set<Address>();
  readonly #newSites: NewSite[] = [];
  readonly #adopted: NewSite[] = [];
  readonly #repunned = new Map<Address, Repunned>();
  readonly #dropped = new Set<SiteRow>();
  /** Puns that were there, whose rest is about to change, by address. */
  readonly #stale = new Map<Address, SiteRow>();
  /** Sites that are known to be the change's own, or as it would make them. */
  readonly #checked = new Set<SiteRow>();

  /** @param code gets what has to be written to arenas */
  constructor(target: PreparationTarget, space: CodeSpace, code: CodeWrite[]) {
    this.#target = target;
    this.#space = space;
    this.#code = code;
    for (const row of target.block.sites.values()) {
      if (!isPlaceThere(target.maps, row)) continue;
      this.#all.add(row);
      const padding = paddingOf(row);
      if (padding !== undefined) this.#paddings.add(padding);
      if (row.state !== 'live') continue;
      this.#live.add(row);
      this.#before.add(row);
      this.#was.add(row);
    }
  }

  /**
   * The site for a request, made if it is not there. Requests come from the highest address down.
   * @returns why there can't be one, if so.
   */
  find(request: ConsumerRequest, text: AddressRange, left: number): FoundSite | string {
    const existing = this.#existing(request);
    if (existing !== undefined) {
      return existing.counter === request.counter
        ? { row: existing, isNew: false }
        : 'another probe at this place has another counter';
    }
    this.#settlePuns(request.address);
    const { plan, address: at } = request;
    const safe = plan.ways.filter(({ innerBoundaries }) => innerBoundaries.length === 0);
    const ways = this.#target.avoidsInside(request) && safe.length > 0 ? safe : plan.ways;
    const placed = placeSite({ plan, ways, address: at, text, left }, this.#surroundings());
    if (typeof placed === 'string') return placed;
    return { row: this.#add(request, placed), isNew: true };
  }

  /** What came of all requests. */
  finish(): PreparedSites {
    do {
      this.#settlePuns(0n);
      this.#dropUnreachable();
    } while (this.#stale.size > 0);
    return {
      newSites: this.#newSites,
      adopted: this.#adopted,
      slots: this.#slots(),
      intended: intend({
        sites: this.#newSites,
        repunned: [...this.#repunned.values()],
        passages: findPassages(this.#fresh(), this.#all, this.#target.original),
        before: this.#was,
      }),
      dropped: this.#dropped,
    };
  }

  /** The site that is there already; not one of another file that was mapped there before. */
  #existing(request: ConsumerRequest): SiteRow | undefined {
    const { plan, file } = request;
    const row = this.#live.at(request.address);
    if (row === undefined || row.inode !== file.inode || row.fileOffset !== plan.offset) {
      return undefined;
    }
    if (this.#checked.has(row)) return row;
    const map = copyMapOf(row, plan.bytes);
    if (map === undefined) return undefined;
    const innerBoundaries = map
      .slice(1)
      .flatMap(({ from }) => (from < row.patchBytes ? [from] : []));
    const displaced = plan.bytes.slice(0, row.displacedBytes);
    const padding = this.#paddingAt(row);
    this.#adopted.push({ row, plan, way: { displaced, innerBoundaries }, request, map, padding });
    this.#checked.add(row);
    return row;
  }

  #add(request: ConsumerRequest, placed: PlacedSite): SiteRow {
    const { plan } = request;
    const { way, stub, via, springboard, prefixBytes } = placed;
    this.#code.push({ address: stub.origin, bytes: stub.bytes });
    if (springboard !== undefined) this.#code.push(springboard);
    const row = this.#target.block.addSite({
      state: 'live',
      method: way.method,
      patchBytes: way.patchBytes,
      prefixBytes,
      via,
      address: request.address,
      stub: stub.origin,
      stubBytes: stub.bytes.byteLength,
      displacedBytes: way.displaced.byteLength,
      displaced: stub.displaced,
      list: stub.list,
      epilogue: stub.epilogue,
      redZone: plan.redZone,
      counter: request.counter,
      isRaised: false,
      fileOffset: plan.offset,
      ...request.file,
    });
    const inPadding = paddingOf(row);
    if (inPadding !== undefined) this.#paddings.add(inPadding);
    const padding = this.#paddingAt(row);
    this.#newSites.push({ row, plan, way, request, map: stub.map, padding });
    this.#checked.add(row);
    this.#live.add(row);
    this.#all.add(row);
    this.#noteStale(row);
    return row;
  }

  #paddingAt(row: SiteRow): Uint8Array | undefined {
    const padding = paddingOf(row);
    if (padding === undefined) return undefined;
    return this.#target.original({ address: padding, inode: row.inode }, JUMP_BYTES);
  }

  /** Puns that were there and rest on what a site is about to write have to be led anew. */
  #noteStale(changed: SiteRow): void {
    for (const site of this.#live.near({ start: changed.address, end: changed.address })) {
      if (this.#before.has(site) && restsOn(site, changed)) this.#stale.set(site.address, site);
    }
  }

  /** Leads puns anew above an address, from the highest down: one may rest on another. */
  #settlePuns(above: bigint): void {
    for (;;) {
      const [site] = [...this.#stale.values()]
        .filter(({ address: at }) => at > above)
        .sort((one, other) => (one.address > other.address ? -1 : 1));
      if (site === undefined) return;
      this.#stale.delete(site.address);
      if (!this.#isTouched(site)) continue;
      const led = this.#leadAnew(site);
      if (led === undefined) {
        for (const cause of this.#causesOf(site)) this.#drop(cause);
        continue;
      }
      const { after } = led;
      this.#repunned.set(site.address, led);
      for (const map of [this.#live, this.#all]) {
        map.delete(site);
        map.add(after);
      }
      this.#noteStale(after);
    }
  }

  /** The new sites for whose sake a pun would have to be led anew: also by way of other puns that are. */
  #causesOf(pun: SiteRow): NewSite[] {
    const between = [...this.#repunned.values()].filter(({ after }) => restsOn(pun, after));
    return [
      ...this.#newSites.filter(({ row }) => restsOn(pun, row)),
      ...between.flatMap(({ before }) => this.#causesOf(before)),
    ];
  }

  /** Whether something that is about to be written changes what a pun rests on. */
  #isTouched(pun: SiteRow): boolean {
    const bytes = this.#target.original(pun, PUN_BYTES);
    return bytes === undefined || leadsElsewhere(pun, bytes, this.#was, this.#live);
  }

  #leadAnew(site: SiteRow): Repunned | undefined {
    const original = this.#target.original(site, PUN_BYTES);
    if (original === undefined) return undefined;
    const goals = goalsOf(site.address, site, original, this.#surroundings());
    const board = placeSpringboard(goals, site.stub, this.#space);
    if (board === undefined) return undefined;
    this.#code.push(board.springboard);
    const after = { ...site, prefixBytes: board.prefixBytes, via: board.via };
    return { before: site, after, original };
  }

  /** A new site can't be, and with it those that rest on what it would have written. */
  #drop(site: NewSite): void {
    if (this.#dropped.has(site.row)) return;
    this.#dropped.add(site.row);
    this.#newSites.splice(this.#newSites.indexOf(site), 1);
    for (const map of [this.#live, this.#all]) map.delete(site.row);
    this.#forget(site.row);
  }

  /** What rests on bytes that will not be written after all: new sites go, and puns are led anew once more. */
  #forget(row: SiteRow): void {
    // What it leads to now need not rest there, behind fewer prefixes: others may not stand what it writes instead.
    const isLed = ({ before, after }: Repunned): boolean =>
      restsOn(before, row) || restsOn(after, row);
    for (const pun of [...this.#repunned.values()].filter(isLed)) {
      if (!this.#repunned.delete(pun.before.address)) continue;
      for (const map of [this.#live, this.#all]) {
        map.delete(pun.after);
        map.add(pun.before);
      }
      this.#stale.set(pun.before.address, pun.before);
      this.#forget(pun.after);
    }
    const resting = this.#newSites.filter((site) => restsOn(site.row, row));
    for (const other of resting) this.#drop(other);
  }

  /** Where memory near the text is scarce, two stubs may lie too far from each other. */
  #dropUnreachable(): void {
    for (const { from, to, address: at } of this.#slots()) {
      if (jumpReaches(at, to.stub)) continue;
      const both = this.#newSites.filter(({ row }) => row === from || row === to);
      for (const site of both) this.#drop(site);
    }
  }

  /** The slots of new stubs that lead to sites, and those of others that lead to new ones. */
  #slots(): SlotChange[] {
    const slots = new Map<Address, SlotChange>();
    for (const { row, map } of this.#fresh()) {
      for (const slot of slotsOf(row, map)) {
        const to = this.#live.at(slot.boundary);
        if (to !== undefined) slots.set(slot.at, changeOf(slot, row, to));
      }
      for (const from of copiersOf(row.address, this.#all)) {
        const slot = slotsIn(from, this.#target.original).find(
          ({ boundary }) => boundary === row.address,
        );
        if (slot !== undefined) slots.set(slot.at, changeOf(slot, from, row));
      }
    }
    return [...slots.values()];
  }

  #fresh(): NewSite[] {
    return [...this.#newSites, ...this.#adopted];
  }

  #surroundings(): Surroundings {
    const { original } = this.#target;
    const sites = { live: this.#live, all: this.#all, paddings: this.#paddings };
    return { space: this.#space, original, ...sites };
  }
}

function changeOf(slot: Slot, from: SiteRow, to: SiteRow): SlotChange {
  return { address: slot.at, from, to };
}
