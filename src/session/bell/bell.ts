/** Tells the main thread that a target has announced a task, whatever that thread waits for. */

import { Socket } from 'node:net';

import { address, type Address } from '../../base/brand.ts';
import { SegmentHeader } from '../../events/layout.ts';
import { close, makePipe, neverWait } from '../../sys/descriptor.ts';
import { startThread, type NativeThread } from '../../sys/thread.ts';
import type { SegmentHandle } from '../protocol.ts';
import { BellMemory } from './memory.ts';

/** Somebody who waits until the thread has taken notice of a number. */
interface Forgetting {
  readonly number: number;
  readonly resolve: () => void;
}

/** A thread that waits for announcements. {@link Bell.end} it before any source's memory is unmapped. */
export class Bell {
  readonly #memory: BellMemory;
  readonly #thread: NativeThread;
  /** Reads a byte for whatever the thread has to tell. */
  readonly #socket: Socket;
  /** Where announcements are counted, by source. */
  readonly #words = new Map<number, Address>();
  #forgetting: Forgetting[] = [];
  readonly #ended: Promise<void>;
  #isEnding = false;
  #hasEnded = false;

  /**
   * @param rung called whenever there may be announcements
   * @throws TraplineError `system` where there can be no thread, or no memory for its code.
   */
  constructor(rung: () => void) {
    const { reading, writing } = makePipe();
    let memory: BellMemory | undefined;
    try {
      // Where nobody reads for long it has said what there is to say.
      neverWait(writing);
      memory = new BellMemory(writing);
      this.#thread = startThread(memory.code, memory.page);
    } catch (error) {
      memory?.[Symbol.dispose]();
      close(writing);
      close(reading);
      throw error;
    }
    this.#memory = memory;
    // The other end is the thread's: it is closed when the thread ends.
    this.#socket = new Socket({ fd: reading, readable: true, writable: false });
    this.#socket.on('data', () => {
      this.#settle();
      rung();
    });
    this.#ended = new Promise((resolve) => {
      this.#socket.on('close', () => {
        this.#cleanUp();
        resolve();
      });
    });
    this.#socket.unref();
  }

  /** Rings for these sources, too, and once for what they have announced before. */
  watch(handles: readonly SegmentHandle[]): void {
    if (handles.length === 0 || this.#hasEnded) return;
    for (const { source, address: segment } of handles) {
      this.#words.set(source, address(segment + BigInt(SegmentHeader.announced)));
    }
    this.#memory.watch(this.#words.values());
  }

  /** Resolves when these sources' memory is not looked at any more. */
  async forget(sources: readonly number[]): Promise<void> {
    if (this.#hasEnded) return;
    for (const source of sources) this.#words.delete(source);
    const number = this.#memory.watch(this.#words.values());
    // Whoever waits for this has nothing else, perhaps, that keeps the program alive.
    this.#socket.ref();
    await new Promise<void>((resolve) => this.#forgetting.push({ number, resolve }));
  }

  /** Ends the thread. Resolves when it looks at nothing any more. */
  async end(): Promise<void> {
    if (this.#hasEnded) return;
    this.#isEnding = true;
    this.#socket.ref();
    this.#memory.end();
    await this.#ended;
  }

  #settle(): void {
    const isDone = ({ number }: Forgetting): boolean => this.#memory.hasTaken(number);
    for (const { resolve } of this.#forgetting.filter(isDone)) resolve();
    this.#forgetting = this.#forgetting.filter((one) => !isDone(one));
    if (this.#forgetting.length === 0 && !this.#isEnding) this.#socket.unref();
    this.#memory.releaseOldTables();
  }

  #cleanUp(): void {
    this.#hasEnded = true;
    this.#thread.join();
    this.#memory[Symbol.dispose]();
    for (const { resolve } of this.#forgetting) resolve();
  }
}
