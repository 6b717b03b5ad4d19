/** What one target has of each probe of a session. */

import type { Address } from '../base/brand.ts';
import { findMapping, type MemoryMapping } from '../process/maps.ts';

interface Served {
  /** The mappings in which it was looked for. */
  readonly mappings: Set<string>;
  /** Where it is, or was refused. */
  readonly addresses: Set<Address>;
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

  /** All of these were looked at for a probe. Those that are gone count no more: what lies there next is new. */
  note(probe: number, maps: readonly MemoryMapping[]): void {
    const { mappings, addresses } = this.#of(probe);
    const executable = maps.filter((mapping) => mapping.executable);
    mappings.clear();
    for (const mapping of executable) mappings.add(keyOf(mapping));
    for (const at of addresses) if (findMapping(executable, at) === undefined) addresses.delete(at);
  }

  /** @returns whether the address was not served before. */
  take(probe: number, at: Address): boolean {
    const { addresses } = this.#of(probe);
    if (addresses.has(at)) return false;
    addresses.add(at);
    return true;
  }

  #of(probe: number): Served {
    const known = this.#probes.get(probe);
    if (known !== undefined) return known;
    const served = { mappings: new Set<string>(), addresses: new Set<Address>() };
    this.#probes.set(probe, served);
    return served;
  }
}

function keyOf({ start, end, offset, device, inode }: MemoryMapping): string {
  return `${start} ${end} ${offset} ${device} ${inode}`;
}
