/** The address spaces of followed processes: to which source each writes, and which sources nobody writes to any more. */

import type { Pid } from '../../base/brand.ts';
import { mapsIfReadable, SEGMENT_PATH } from '../../engines/jump/spaces.ts';
import type { HeldEvent } from '../../process/held-process.ts';
import type { WalkReply } from '../protocol.ts';

/** What is asked of the session. Numbers of sources are those of targets. */
export interface SpaceSession {
  /** The source of a process whose program has ended, if it had one; its children may go on. */
  depart(pid: Pid): number | undefined;
  /** The source to which a process writes, by the inode of its segment. */
  sourceOf(inode: bigint): number | undefined;
  /** The source of a process that is a target itself. */
  ownSource(pid: Pid): number | undefined;
}

/** An address space, by the source to which it writes: one that was forked writes to its parent's. */
interface Space {
  source: number | undefined;
}

/** Those of the processes that are held. */
export class FollowedSpaces {
  readonly #session: SpaceSession;
  readonly #spaces = new Map<Pid, Space>();
  /** Sources whose process has ended, while others may still write to them. */
  readonly #departed = new Set<number>();

  constructor(session: SpaceSession) {
    this.#session = session;
  }

  /** A process has memory in which nothing of ours is yet, or any more. */
  begin(pid: Pid): void {
    this.#spaces.set(pid, { source: undefined });
  }

  /** A process was made: it has a copy of its parent's memory, or shares it. */
  bear(event: HeldEvent & { readonly kind: 'born' }): void {
    this.#spaces.set(event.process.pid, this.#spaceOf(event));
  }

  /** The source to which a process writes, if it does. */
  sourceOf(pid: Pid): number | undefined {
    const space = this.#spaces.get(pid);
    return space && this.#sourceOf(space);
  }

  /** Whether another process has the same memory. */
  isShared(pid: Pid): boolean {
    const space = this.#spaces.get(pid);
    return [...this.#spaces].some(([other, one]) => other !== pid && one === space);
  }

  /** The processes that write to no source. */
  untouched(): Pid[] {
    return [...this.#spaces].flatMap(([pid, space]) => {
      return this.#sourceOf(space) === undefined ? [pid] : [];
    });
  }

  /**
   * What a process was has ended: a source to which nobody writes any more is read to its end.
   * @returns what is to be told of that, if anything is
   */
  depart(pid: Pid): WalkReply | undefined {
    // Before it departs: those that share its memory learn to what they write.
    const source = this.sourceOf(pid);
    const own = this.#session.depart(pid);
    this.#spaces.delete(pid);
    if (own !== undefined) this.#departed.add(own);
    const isWritten = [...this.#spaces.values()].some((one) => one.source === source);
    const isAbandoned = source !== undefined && !isWritten && this.#departed.delete(source);
    if (own === undefined && !isAbandoned) return undefined;
    const ended = own === undefined ? [] : [{ source: own, pid: Number(pid) }];
    return { candidates: [], ended, abandoned: isAbandoned ? [source] : [] };
  }

  #spaceOf({ process, parent, sharesMemory }: HeldEvent & { readonly kind: 'born' }): Space {
    const space = parent && this.#spaces.get(parent.pid);
    if (space !== undefined) return sharesMemory ? space : { source: this.#sourceOf(space) };
    const segments = mapsIfReadable(process.pid).filter(({ path }) => path === SEGMENT_PATH);
    const sources = segments.map(({ inode }) => this.#session.sourceOf(inode));
    return { source: sources.find((source) => source !== undefined) };
  }

  /** A process becomes a target at some time: whoever shares its memory writes to the same source. */
  #sourceOf(space: Space): number | undefined {
    if (space.source !== undefined) return space.source;
    for (const [pid, one] of this.#spaces) {
      if (one === space) space.source ??= this.#session.ownSource(pid);
    }
    return space.source;
  }
}
