/** The main thread's side of following: what the tracer tells of the processes that it holds. */

import type { Notice, WalkReply } from '../protocol.ts';
import type { TracerClient } from '../tracer-client.ts';
import { chooseProcesses, type Acceptance, type WalkListener } from '../walks/walker.ts';

/** Between two looks at processes that were let go and have not executed their programs yet, in milliseconds. */
const SETTLE_INTERVAL = 250;

/** What is told of processes that are followed. */
export interface FollowListener extends WalkListener {
  /** Something that a person should know. */
  said(text: string): void;
  /** No process is held any more: all have ended. */
  alone(): void;
}

/** Hears what the tracer tells, until it is ended. */
export class Notices {
  readonly #client: TracerClient;
  readonly #accepts: Acceptance;
  readonly #listener: FollowListener;
  #settling: NodeJS.Timeout | undefined;
  /** What is under way. */
  readonly #asking = new Set<Promise<void>>();
  #hasEnded = false;

  constructor(client: TracerClient, accepts: Acceptance, listener: FollowListener) {
    this.#client = client;
    this.#accepts = accepts;
    this.#listener = listener;
    client.listen((notice) => {
      try {
        this.#hear(notice);
      } catch (error) {
        listener.failed(error);
      }
    });
  }

  /** Ends it, but for what is still told of sources that are there: their events are to be read. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#settling);
    await Promise.all(this.#asking);
  }

  #hear(notice: Notice): void {
    const listener = this.#listener;
    switch (notice.kind) {
      case 'walked':
        this.#hearOf(notice.reply);
        return;
      case 'extended':
        listener.extended(notice.reply);
        return;
      case 'said':
        listener.said(notice.text);
        return;
      case 'released':
        this.#settleSoon();
        return;
      case 'alone':
        listener.alone();
    }
  }

  #hearOf({ candidates, ended, abandoned }: WalkReply): void {
    for (const source of ended) this.#listener.ended(source);
    for (const source of abandoned) this.#listener.abandoned(source);
    if (candidates.length === 0 || this.#hasEnded) return;
    const pids = candidates.map(({ process }) => process.pid);
    this.#await(this.#client.call('decide', pids, this.#choose(candidates)));
  }

  /** A filter that throws lets nobody pass, and nobody wait. */
  #choose(candidates: WalkReply['candidates']): ReturnType<typeof chooseProcesses> {
    try {
      return chooseProcesses(candidates, this.#accepts);
    } catch (error) {
      this.#listener.failed(error);
      return [];
    }
  }

  #settleSoon(): void {
    if (this.#settling !== undefined || this.#hasEnded) return;
    this.#settling = setTimeout(() => {
      this.#await(this.#settle());
    }, SETTLE_INTERVAL).unref();
  }

  async #settle(): Promise<void> {
    const isUnsettled = await this.#client.call('settle');
    this.#settling = undefined;
    if (isUnsettled) this.#settleSoon();
  }

  #await(asked: Promise<void>): void {
    const settled = asked
      .catch((error: unknown) => this.#listener.failed(error))
      .finally(() => this.#asking.delete(settled));
    this.#asking.add(settled);
  }
}
