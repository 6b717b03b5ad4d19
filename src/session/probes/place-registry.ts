/** A session's registry: the probes that its definitions mean, and where they lie in an address space. */

import { address, type Address, type FileOffset, type Pid } from '../../base/brand.ts';
import { ProbeRegistry, type Registration } from '../../probe/registry.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import type { MappedFile } from '../files/files.ts';
import type { NamedPlace, NamedPlaces } from './resolve.ts';

/** A probe in one address space. */
export interface ResolvedPlace extends NamedPlace {
  readonly address: Address;
}

/** One definition's interest in one probe. */
interface Interest<Owner> {
  readonly owner: Owner;
  readonly place: NamedPlace;
  /** The processes in which the definition means this place; all that map the file if undefined. */
  readonly pids: Set<Pid> | undefined;
  /** Where it has to be, for a definition that names an address. */
  readonly at: Address | undefined;
}

/** What one definition has registered of one file. */
interface OwnedFile<Owner> {
  readonly file: MappedFile;
  /** See {@link NamedPlaces}. */
  readonly isOfProcess: boolean;
  /** By offset. */
  readonly registrations: Map<FileOffset, Registration<Interest<Owner>>>;
}

/**
 * Probes by device, inode and offset, with the definitions that want them. What a mapping of a file shows of
 * them is found by range, for all definitions at once.
 */
export class PlaceRegistry<Owner extends object> {
  readonly #probes = new ProbeRegistry<Interest<Owner>>();
  readonly #owned = new Map<Owner, OwnedFile<Owner>[]>();

  /** How many probes there are, whoever wants them. */
  get size(): number {
    return this.#probes.size;
  }

  /** Whether what a definition means in a file is registered, for every process. */
  knows(owner: Owner, file: MappedFile): boolean {
    return this.#ownedOf(owner, file)?.isOfProcess === false;
  }

  /**
   * Registers what a definition means in a file; at once, as what could fail has been done. A probe that nobody
   * wanted before comes to life.
   * @param pid the process in which it means that
   * @param at the address that it names, if it does
   */
  register(owner: Owner, file: MappedFile, named: NamedPlaces, pid: Pid, at?: Address): void {
    const own = this.#ownedOf(owner, file) ?? this.#own(owner, file, named.isOfProcess);
    // By offset: each then comes behind the last, and nothing has to be moved.
    for (const place of named.places.toSorted((one, other) => one.offset - other.offset)) {
      const known = own.registrations.get(place.offset);
      if (known !== undefined) {
        known.consumer.pids?.add(pid);
        continue;
      }
      const pids = named.isOfProcess ? new Set([pid]) : undefined;
      const { device, inode } = file;
      const key = { device, inode, offset: place.offset };
      const interest = { owner, place, pids, at };
      own.registrations.set(place.offset, this.#probes.register(key, place.name, interest));
    }
  }

  /** Takes a definition out; with the last that wants it, a probe is gone. */
  unregister(owner: Owner): void {
    for (const own of this.#owned.get(owner) ?? []) dispose(own);
    this.#owned.delete(owner);
  }

  /** A process has ended: what definitions meant in it alone is gone. */
  forget(pid: Pid): void {
    for (const files of this.#owned.values()) {
      for (const { registrations, isOfProcess } of files) {
        if (!isOfProcess) continue;
        for (const [offset, registration] of registrations) {
          const { pids } = registration.consumer;
          if (pids?.delete(pid) !== true || pids.size > 0) continue;
          registration[Symbol.dispose]();
          registrations.delete(offset);
        }
      }
    }
  }

  /** The probes that a process's mappings show, by who wants them; of each file in order of its mappings. */
  placesIn(pid: Pid, maps: readonly MemoryMapping[]): Map<Owner, ResolvedPlace[]> {
    const found = new Map<Owner, ResolvedPlace[]>();
    for (const mapping of maps) {
      if (!mapping.executable || mapping.inode === 0n) continue;
      const from = Number(mapping.offset);
      const to = from + Number(mapping.end - mapping.start);
      for (const { key, consumers } of this.#probes.probesOf(mapping, from, to)) {
        const at = address(mapping.start + BigInt(key.offset - from));
        for (const { owner, place, pids, at: only } of consumers) {
          if (pids?.has(pid) === false || (only !== undefined && only !== at)) continue;
          const places = found.get(owner);
          if (places === undefined) found.set(owner, [{ ...place, address: at }]);
          else places.push({ ...place, address: at });
        }
      }
    }
    return found;
  }

  /** What a definition means in some files, in one process. */
  placesOf(owner: Owner, files: readonly MappedFile[], pid: Pid): NamedPlace[] {
    return files.flatMap((file) =>
      [...(this.#ownedOf(owner, file)?.registrations.values() ?? [])]
        .filter(({ consumer }) => consumer.pids?.has(pid) !== false)
        .map(({ consumer }) => consumer.place),
    );
  }

  #ownedOf(owner: Owner, file: MappedFile): OwnedFile<Owner> | undefined {
    return this.#owned.get(owner)?.find((own) => own.file === file);
  }

  /** A file that was written over has the number that it had: what was meant in the old one is gone. */
  #own(owner: Owner, file: MappedFile, isOfProcess: boolean): OwnedFile<Owner> {
    const own: OwnedFile<Owner> = { file, isOfProcess, registrations: new Map() };
    const others = this.#owned.get(owner) ?? [];
    const isOld = (one: OwnedFile<Owner>): boolean =>
      one.file.inode === file.inode && one.file.device === file.device;
    for (const old of others.filter(isOld)) dispose(old);
    this.#owned.set(owner, [...others.filter((one) => !isOld(one)), own]);
    return own;
  }
}

/** From the last: nothing has to be moved. */
function dispose<Owner>({ registrations }: OwnedFile<Owner>): void {
  for (const registration of [...registrations.values()].toReversed())
    registration[Symbol.dispose]();
}
