/**
 * The registry: which probes there are, and who wants them. Bookkeeping only; it knows no target and
 * no machine. One probe per location, whoever asks: its first consumer creates it, its last removes it.
 */

import type { FileOffset } from '../base/brand.ts';

/** A file as the kernel tells files apart, with the numbers that `/proc/PID/maps` prints. */
export interface FileIdentity {
  /** `MAJOR:MINOR` in hexadecimal, as printed there: `fe:01`. */
  readonly device: string;
  readonly inode: bigint;
}

/** A location `device:inode:offset`. */
export interface ProbeKey extends FileIdentity {
  readonly offset: FileOffset;
}

/** A location with its consumers. Never without one while it is in the registry. */
export interface Probe<Consumer> {
  readonly key: ProbeKey;
  /** For people, as its first consumer named it: `zfree@zsh`. */
  readonly name: string;
  /** In the order in which they came. */
  readonly consumers: readonly Consumer[];
}

/** One consumer's interest in one probe. Disposing it ends the interest; a second time does nothing. */
export interface Registration<Consumer> extends Disposable {
  readonly probe: Probe<Consumer>;
  readonly consumer: Consumer;
  /** Whether this registration created the probe. */
  readonly isFirst: boolean;
}

interface MutableProbe<Consumer> extends Probe<Consumer> {
  readonly consumers: Consumer[];
}

/** All probes of a session, ordered by device, inode and offset. */
export class ProbeRegistry<Consumer> implements Iterable<Probe<Consumer>> {
  readonly #probes: MutableProbe<Consumer>[] = [];

  /** How many probes there are. */
  get size(): number {
    return this.#probes.length;
  }

  /**
   * Adds a consumer to the probe at `key`, which is created if nobody wanted it before. The caller owns
   * the registration. The same consumer may register several times and counts as often.
   */
  register(key: ProbeKey, name: string, consumer: Consumer): Registration<Consumer> {
    const index = this.#lowerBound(key);
    const found = this.#probes[index];
    const isFirst = found === undefined || compareKeys(found.key, key) !== 0;
    const probe = isFirst ? { key, name, consumers: [] } : found;
    if (isFirst) this.#probes.splice(index, 0, probe);
    probe.consumers.push(consumer);
    let active = true;
    return {
      probe,
      consumer,
      isFirst,
      [Symbol.dispose]: () => {
        if (active) this.#removeConsumer(probe, consumer);
        active = false;
      },
    };
  }

  /** The probe at a location, if anybody wants it. */
  probeAt(key: ProbeKey): Probe<Consumer> | undefined {
    const found = this.#probes[this.#lowerBound(key)];
    return found !== undefined && compareKeys(found.key, key) === 0 ? found : undefined;
  }

  /** The probes of a file with `from` ≤ offset < `to`, in order: those that one mapping of it shows. */
  probesOf(file: FileIdentity, from: number = 0, to: number = Infinity): Probe<Consumer>[] {
    const found: Probe<Consumer>[] = [];
    for (let at = this.#lowerBound({ ...file, offset: from }); at < this.#probes.length; at++) {
      const probe = this.#probes[at];
      if (probe === undefined || compareFiles(probe.key, file) !== 0) break;
      if (probe.key.offset >= to) break;
      found.push(probe);
    }
    return found;
  }

  /** All probes in order, as they are at this moment. */
  [Symbol.iterator](): Iterator<Probe<Consumer>> {
    return this.#probes.slice().values();
  }

  #removeConsumer(probe: MutableProbe<Consumer>, consumer: Consumer): void {
    const place = probe.consumers.indexOf(consumer);
    if (place >= 0) probe.consumers.splice(place, 1);
    if (probe.consumers.length === 0) this.#probes.splice(this.#lowerBound(probe.key), 1);
  }

  /** Index of the first probe that does not come before `key`. */
  #lowerBound(key: Position): number {
    let low = 0;
    let high = this.#probes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const probe = this.#probes[middle];
      if (probe !== undefined && compareKeys(probe.key, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

type Position = FileIdentity & { readonly offset: number };

function compareKeys(a: Position, b: Position): number {
  return compareFiles(a, b) || a.offset - b.offset;
}

function compareFiles(a: FileIdentity, b: FileIdentity): number {
  if (a.device !== b.device) return a.device < b.device ? -1 : 1;
  if (a.inode !== b.inode) return a.inode < b.inode ? -1 : 1;
  return 0;
}
