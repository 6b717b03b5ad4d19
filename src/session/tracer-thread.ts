/** The tracer's thread as the main thread has it; and those that wait for the next session. */

import { Worker } from 'node:worker_threads';

import { TraplineError, type ErrorDetails } from '../base/errors.ts';
import { commandTable } from '../sys/commands.ts';
import { WakeCall } from '../process/waker.ts';
import type {
  Notice,
  NoticeMessage,
  ReplyMessage,
  RequestMessage,
  ThreadMethods,
  TracerData,
} from './protocol.ts';

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** Who is told what nobody has asked for. */
export interface ThreadListener {
  readonly notice: (notice: Notice) => void;
  /** The thread has ended, and nobody has ended it. */
  readonly failed: (error: unknown) => void;
}

/**
 * Of the tracer's heap. Planning thousands of sites makes a gigabyte of garbage, 13 MB of which live on, and V8
 * gives little back of what it has grown to. New objects get 12 MB instead of 48: attaching takes as long.
 * A heap that may become 2 GB is let grow to four times what lived at the last collection, one that may
 * not to twice (V8, src/heap/memory-controller).
 */
const MEMORY = { maxYoungGenerationSizeMb: 12, maxOldGenerationSizeMb: 2000 };
/**
 * So many threads are kept for the next sessions. Each that ends leaves two mappings of 2 MB behind, some 60 KB of
 * which are resident: the library for foreign calls (koffi 3.3.4) never frees the stack on which it ran them.
 */
const MOST_IDLE = 4;

/** A tracer's thread. Whoever has it of {@link TracerThread.take} gives it back, or ends it. */
export class TracerThread {
  /** Those that nobody uses. */
  static readonly #idle: TracerThread[] = [];
  /** All that have not ended. */
  static readonly #all = new Set<TracerThread>();

  /** Told of what comes by itself; nobody is while nobody uses the thread. */
  listener: ThreadListener | undefined;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly #wake = new WakeCall();
  #nextId = 1;
  #failure: unknown;

  /** Starts the thread that the next {@link TracerThread.take} gives, and has it load what sessions need. */
  static prepare(): void {
    if (TracerThread.#idle.length > 0) return;
    const thread = new TracerThread();
    TracerThread.#idle.push(thread);
    // Not hidden: every later call fails with the same.
    thread.call('prepare').catch(() => undefined);
  }

  /** A thread that waits for a session, or a new one. The caller owns it. */
  static take(): TracerThread {
    return TracerThread.#idle.pop() ?? new TracerThread();
  }

  /** Ends those that wait for a session. */
  static async endIdle(): Promise<void> {
    await Promise.all(TracerThread.#idle.splice(0).map((thread) => thread.end()));
  }

  private constructor() {
    this.#worker = new Worker(new URL('./tracer-worker.js', import.meta.url), {
      // Node's own options are not for it: a program given by `-e` has some that a thread refuses.
      execArgv: [],
      resourceLimits: MEMORY,
      workerData: { commands: commandTable(), wake: this.#wake.table } satisfies TracerData,
    });
    this.#worker.on('message', (message: ReplyMessage | NoticeMessage) => {
      if ('notice' in message) this.listener?.notice(message.notice);
      else this.#receive(message);
    });
    this.#worker.on('error', (error) => this.#fail(error));
    this.#worker.on('exit', () => {
      TracerThread.#all.delete(this);
      if (TracerThread.#all.size === 0) process.off('exit', TracerThread.#endWaits);
      this.#fail(threadEnded());
    });
    // Node waits for its threads then, and these may wait for tracees.
    if (TracerThread.#all.size === 0) process.on('exit', TracerThread.#endWaits);
    TracerThread.#all.add(this);
    // A session that is forgotten doesn't keep the process alive; a request under way does.
    this.#worker.unref();
  }

  /** Calls a method of the tracer. @throws what the tracer threw. */
  call<Name extends keyof ThreadMethods>(
    method: Name,
    ...parameters: Parameters<ThreadMethods[Name]>
  ): Promise<ReturnType<ThreadMethods[Name]>> {
    if (this.#failure !== undefined) return Promise.reject(asError(this.#failure));
    const id = this.#nextId++;
    const request: RequestMessage = { id, method, arguments: parameters };
    this.#worker.ref();
    this.#worker.postMessage(request);
    this.#wake.wake();
    return new Promise((resolve, reject) => {
      const settle = (value: unknown): void => {
        // The tracer answers by the type of the method that was called.
        resolve(value as ReturnType<ThreadMethods[Name]>);
      };
      this.#waiting.set(id, { resolve: settle, reject });
    });
  }

  /** Keeps the thread for the next session, if this one has left nothing in it; else ends it. */
  async giveBack(): Promise<void> {
    this.listener = undefined;
    if (this.#waiting.size === 0 && TracerThread.#idle.length < MOST_IDLE) {
      // One that can't be asked has failed, and is ended.
      const isRenewed = await this.call('renew').catch(() => false);
      if (isRenewed && TracerThread.#idle.length < MOST_IDLE) {
        TracerThread.#idle.push(this);
        return;
      }
    }
    await this.end();
  }

  /** Ends the thread. What it holds by ptrace is let go by the kernel. */
  async end(): Promise<void> {
    this.#failure ??= threadEnded();
    this.#wake.end();
    // Whoever waits for this has nothing else, perhaps, that keeps the program alive.
    this.#worker.ref();
    await this.#worker.terminate();
  }

  static readonly #endWaits = (): void => {
    for (const thread of TracerThread.#all) thread.#wake.end();
  };

  #receive(reply: ReplyMessage): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if ('value' in reply) waiting?.resolve(reply.value);
    else waiting?.reject(asError(reply.error));
  }

  #fail(error: unknown): void {
    const at = TracerThread.#idle.indexOf(this);
    if (at >= 0) TracerThread.#idle.splice(at, 1);
    if (this.#failure === undefined) {
      this.#failure = error;
      this.listener?.failed(asError(error));
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
