/** The main thread's side of the tracer's thread. */

import { Worker } from 'node:worker_threads';

import { TraplineError, type ErrorDetails } from '../base/errors.ts';
import { commandTable } from '../sys/commands.ts';
import { WakeCall } from '../process/waker.ts';
import type {
  Notice,
  NoticeMessage,
  ReplyMessage,
  RequestMessage,
  TracerData,
  TracerMethods,
} from './protocol.ts';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Of the tracer's heap. Planning thousands of sites makes a gigabyte of garbage, 13 MB of which live on, and V8
 * gives little back of what it has grown to. New objects get 12 MB instead of 48: attaching takes as long.
 * A heap that may become 2 GB is let grow to four times what lived at the last collection, one that may
 * not to twice (V8, src/heap/memory-controller).
 */
const MEMORY = { maxYoungGenerationSizeMb: 12, maxOldGenerationSizeMb: 2000 };

/** Asks the tracer; owns its thread. Dispose it when nothing of the session is in a target any more. */
export class TracerClient {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly #wake = new WakeCall();
  readonly #endWait = (): void => this.#wake.end();
  /** What was told before somebody listened. */
  #untold: Notice[] = [];
  #listener: ((notice: Notice) => void) | undefined;
  #nextId = 1;
  #failure: unknown;
  #onFailure: (error: unknown) => void = () => {};

  /** Started by {@link TracerClient.prepare}, and taken by nobody yet. */
  static #prepared: TracerClient | undefined;

  /** Starts the thread that the next {@link TracerClient.take} gives, and has it load what sessions need. */
  static prepare(): void {
    if (TracerClient.#prepared !== undefined) return;
    const client = new TracerClient();
    TracerClient.#prepared = client;
    // Not hidden: the client fails every later call with the same.
    client.call('prepare').catch(() => undefined);
  }

  /** The thread that was prepared, or a new one. The caller owns it. */
  static take(): TracerClient {
    const client = TracerClient.#prepared ?? new TracerClient();
    TracerClient.#prepared = undefined;
    return client;
  }

  constructor() {
    this.#worker = new Worker(new URL('./tracer-worker.js', import.meta.url), {
      // Node's own options are not for it: a program given by `-e` has some that a thread refuses.
      execArgv: [],
      resourceLimits: MEMORY,
      workerData: { commands: commandTable(), wake: this.#wake.table } satisfies TracerData,
    });
    this.#worker.on('message', (message: ReplyMessage | NoticeMessage) => {
      if ('notice' in message) this.#hear(message.notice);
      else this.#receive(message);
    });
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => {
      process.off('exit', this.#endWait);
      this.#fail(threadEnded());
    });
    // Node waits for its threads then, and this one may wait for tracees.
    process.on('exit', this.#endWait);
    // A session that is forgotten doesn't keep the process alive; a request under way does.
    this.#worker.unref();
  }

  /** Calls a method of the tracer. @throws what the tracer threw. */
  call<Name extends keyof TracerMethods>(
    method: Name,
    ...parameters: Parameters<TracerMethods[Name]>
  ): Promise<ReturnType<TracerMethods[Name]>> {
    if (this.#failure !== undefined) return Promise.reject(asError(this.#failure));
    const id = this.#nextId++;
    const request: RequestMessage = { id, method, arguments: parameters };
    this.#worker.ref();
    this.#worker.postMessage(request);
    this.#wake.wake();
    return new Promise((resolve, reject) => {
      const settle = (value: unknown): void => {
        // The tracer answers by the type of the method that was called.
        resolve(value as ReturnType<TracerMethods[Name]>);
      };
      this.#waiting.set(id, { resolve: settle, reject });
    });
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
    if (this.#failure !== undefined) told(asError(this.#failure));
  }

  /** Ends the thread. */
  async end(): Promise<void> {
    this.#failure ??= threadEnded();
    this.#wake.end();
    // Whoever waits for this has nothing else, perhaps, that keeps the program alive.
    this.#worker.ref();
    await this.#worker.terminate();
  }

  #hear(notice: Notice): void {
    if (this.#listener === undefined) this.#untold.push(notice);
    else this.#listener(notice);
  }

  #receive(reply: ReplyMessage): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if ('value' in reply) waiting?.resolve(reply.value);
    else waiting?.reject(asError(reply.error));
  }

  #fail(error: unknown): void {
    if (this.#failure === undefined) {
      this.#failure = error;
      this.#onFailure(asError(error));
    }
    for (const { reject } of this.#waiting.values()) reject(asError(error));
    this.#waiting.clear();
  }
}

function threadEnded(): TraplineError {
  return new TraplineError({ code: 'internal', message: 'the session has ended' });
}

function asError(error: unknown): Error {
  if (error instanceof Error) return error;
  // What the worker sends instead of an error is the parts of one.
  return TraplineError.revive(error as ErrorDetails);
}
