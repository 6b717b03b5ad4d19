/** What one session, or one question outside of any, has of a tracer's thread. */

import { TraplineError } from '../base/errors.ts';
import type { Notice, TracerMethods } from './protocol.ts';
import { TracerThread } from './tracer-thread.ts';

/** Asks a tracer. Whoever made it ends it, when nothing of the session is in a target any more. */
export class TracerClient {
  /** Undefined at the end: then the thread is another's. */
  #thread: TracerThread | undefined;
  /** What was told before somebody listened. */
  #untold: Notice[] = [];
  #listener: ((notice: Notice) => void) | undefined;
  #failure: unknown;
  #onFailure: (error: unknown) => void = () => {};

  constructor() {
    this.#thread = TracerThread.take();
    this.#thread.listener = {
      notice: (notice) => this.#hear(notice),
      failed: (error) => this.#onFailure((this.#failure = error)),
    };
  }

  /** Calls a method of the tracer. @throws what the tracer threw. */
  async call<Name extends keyof TracerMethods>(
    method: Name,
    ...parameters: Parameters<TracerMethods[Name]>
  ): Promise<ReturnType<TracerMethods[Name]>> {
    if (this.#thread !== undefined) return this.#thread.call(method, ...parameters);
    throw new TraplineError({ code: 'internal', message: 'the session has ended' });
  }

  /** Has a function told what the tracer tells without being asked; what it told before, at once. */
  listen(listener: (notice: Notice) => void): void {
    this.#listener = listener;
    const untold = this.#untold;
    this.#untold = [];
    for (const notice of untold) listener(notice);
  }

  /** Has a function told when the thread ends that nobody has ended: nothing can be asked of it any more. */
  onFailure(told: (error: unknown) => void): void {
    this.#onFailure = told;
    if (this.#failure !== undefined) told(this.#failure);
  }

  /** Gives the thread back. Nothing can be asked from here on. */
  async end(): Promise<void> {
    const thread = this.#thread;
    this.#thread = undefined;
    await thread?.giveBack();
  }

  #hear(notice: Notice): void {
    if (this.#listener === undefined) this.#untold.push(notice);
    else this.#listener(notice);
  }
}
