/** How a session's probes get to where they are wanted after it has begun: what finds such places. */

import { Answering } from '../libraries/answering.ts';
import type { Collector } from '../reading/collector.ts';
import { DeadTasks } from '../reading/dead-tasks.ts';
import { Retiring } from '../reading/retiring.ts';
import { Notices, type FollowListener } from '../following/notices.ts';
import type { SourceHandle } from '../protocol.ts';
import type { TracerClient } from '../tracer-client.ts';
import { Walker, type Acceptance } from './walker.ts';

/** What a session gives. */
export interface LateParts {
  readonly client: TracerClient;
  readonly collector: Collector;
  readonly accepts: Acceptance;
  /** The targets by name; undefined where every process is one. */
  readonly named: (() => readonly number[]) | undefined;
  /** Whether the tracer holds them, and tells of what they make. */
  readonly isFollowing: boolean;
  readonly listener: FollowListener;
}

/**
 * Announcements are answered; walks find new processes, and what targets have mapped without telling; who holds its
 * processes hears of their children and programs. Contexts are there for who comes: those of dead tasks are freed.
 */
export class LateProbes {
  readonly #walker: Walker;
  readonly #answering: Answering;
  readonly #notices: Notices | undefined;
  readonly #retiring: Retiring;
  readonly #deadTasks: DeadTasks;

  constructor({ client, collector, accepts, named, isFollowing, listener }: LateParts) {
    const failed = (error: unknown): void => listener.failed(error);
    this.#answering = new Answering(client, collector, accepts, listener);
    const forget = (sources: readonly number[]): Promise<void> => this.#answering.forget(sources);
    this.#retiring = new Retiring({ client, collector, forget, failed });
    this.#walker = new Walker(client, accepts, listener, named);
    this.#deadTasks = new DeadTasks(collector);
    if (isFollowing) this.#notices = new Notices(client, accepts, listener);
  }

  /** Sources that are new, in which tasks may announce themselves. */
  watch(sources: readonly SourceHandle[]): void {
    this.#answering.watch(sources);
  }

  /** Nobody writes to a source any more: it is let go when it was read to its end. */
  retireSoon(): void {
    this.#retiring.soon();
  }

  /**
   * Ends it. Resolves when nothing is under way, and no source is looked at any more.
   * @throws the first error of those that were told of what came last; all is ended then, too.
   */
  async end(): Promise<void> {
    this.#deadTasks.end();
    const ends = [this.#walker, this.#notices, this.#retiring, this.#answering];
    const problems: unknown[] = [];
    // One after another: what asks the tracer first, what looks at the memory of sources last, whatever happens.
    for (const one of ends) await one?.end().catch((error: unknown) => problems.push(error));
    if (problems.length > 0) throw problems[0];
  }
}
