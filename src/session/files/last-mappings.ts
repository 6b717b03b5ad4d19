/** What processes mapped when they were last looked at: of one that has ended nothing else tells what lay where. */

import type { Pid } from '../../base/brand.ts';
import type { MemoryMapping } from '../../process/maps.ts';

/** Of so many processes: those that were looked at last. */
const MOST_PROCESSES = 1024;

/** Keeps them where somebody may ask for names of addresses; nothing else is done with them. */
export class LastMappings {
  readonly #known = new Map<Pid, readonly MemoryMapping[]>();
  #isWanted = false;

  /** From now on they are kept. */
  want(): void {
    this.#isWanted = true;
  }

  /** @param look reads the mappings of the process; not called where nobody wants them */
  note(pid: Pid, look: () => readonly MemoryMapping[]): void {
    if (!this.#isWanted) return;
    const maps = look();
    if (maps.length > 0) this.#keep(pid, maps);
  }

  /** A process was forked: it maps what its parent does. */
  inherit(child: Pid, parent: Pid): void {
    const maps = this.#known.get(parent);
    if (maps !== undefined) this.#keep(child, maps);
  }

  /** Empty for one that is not known. */
  of(pid: Pid): readonly MemoryMapping[] {
    return this.#known.get(pid) ?? [];
  }

  #keep(pid: Pid, maps: readonly MemoryMapping[]): void {
    this.#known.delete(pid); // the last one that is looked at is the last one that goes
    this.#known.set(pid, maps);
    if (this.#known.size <= MOST_PROCESSES) return;
    for (const first of this.#known.keys()) {
      this.#known.delete(first);
      return;
    }
  }
}
