/** What one target has of each probe of a session. */

import type { Address } from '../../base/brand.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';

interface Served {
  /** The mappings in which it was looked for. */
  readonly mappings: Set<string>;
  /** Where it is, or was refused, and of which file's mapping that was. */
  readonly addresses: Map<Address, string>;
}

/** By probe: which mappings have been served, and which addresses. A file that is mapped again is served again. */
export class ServedProbes {
  readonly #probes = new Map<number, Served>();

  /** Whether nothing was done for any probe. */
  get isEmpty(): boolean {
    return this.#probes.size === 0;
  }

  /** Whether a mapping was looked at for a probe. */
  has(probe: number, mapping: MemoryMapping): boolean {
    return this.#probes.get(probe)?.mappings.has(keyOf(mapping)) === true;
  }

  /** All of these were looked at for a probe. */
  note(probe: number, maps: readonly MemoryMapping[]): void {
    const { mappings } = this.#of(probe);
    mappings.clear();
    for (const mapping of maps) if (mapping.executable) mappings.add(keyOf(mapping));
  }

  /** These are the mappings now. What was served in those that are gone counts no more: what lies there next is new. */
  sync(maps: readonly MemoryMapping[]): void {
    if (this.isEmpty) return;
    const keys = new Set(maps.map(keyOf));
    for (const { mappings, addresses } of this.#probes.values()) {
      for (const key of mappings) if (!keys.has(key)) mappings.delete(key);
      for (const [at, place] of addresses) {
        if (placeOf(maps, at) !== place) addresses.delete(at);
      }
    }
  }

  /** @returns whether the address was not served before. */
  take(probe: number, at: Address, maps: readonly MemoryMapping[]): boolean {
    const { addresses } = this.#of(probe);
    if (addresses.has(at)) return false;
    addresses.set(at, placeOf(maps, at));
    return true;
  }

  #of(probe: number): Served {
    const known = this.#probes.get(probe);
    if (known !== undefined) return known;
    const served = { mappings: new Set<string>(), addresses: new Map<Address, string>() };
    this.#probes.set(probe, served);
    return served;
  }
}

function keyOf({ start, end, offset, device, inode }: MemoryMapping): string {
  return `${start} ${end} ${offset} ${device} ${inode}`;
}

/** What lies at an address: it stays the same while parts of a mapping have another protection. */
function placeOf(maps: readonly MemoryMapping[], at: Address): string {
  const mapping = findMapping(maps, at);
  if (mapping === undefined) return '';
  return `${mapping.device} ${mapping.inode} ${mapping.start - mapping.offset}`;
}
