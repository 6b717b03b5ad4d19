/** How a session's probes get to where they are wanted after it has begun: what finds such places. */

import { Answering } from '../libraries/answering.ts';
import type { Collector } from '../reading/collector.ts';
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
 * processes hears of their children and programs.
 */
export class LateProbes {
  readonly #collector: Collector;
  readonly #walker: Walker;
  readonly #answering: Answering;
  readonly #notices: Notices | undefined;

  constructor({ client, collector, accepts, named, isFollowing, listener }: LateParts) {
    this.#collector = collector;
    this.#answering = new Answering(client, collector, accepts, listener);
    this.#walker = new Walker(client, accepts, listener, named);
    if (isFollowing) this.#notices = new Notices(client, accepts, listener);
  }

  /** Sources that are new, in which tasks may announce themselves. */
  watch(sources: readonly SourceHandle[]): void {
    this.#answering.watch(sources);
  }

  /** The sources that were read to their end since the last call; nothing here looks at them any more. */
  async takeFinished(): Promise<readonly number[]> {
    const finished = this.#collector.takeFinished();
    if (finished.length > 0) await this.#answering.forget(finished);
    return finished;
  }

  /** Ends it. Resolves when nothing is under way, and no source is looked at any more. */
  async end(): Promise<void> {
    await this.#walker.end();
    await this.#notices?.end();
    await this.#answering.end();
  }
}
