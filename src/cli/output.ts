/**
 * Where events are written. A reader that is slower than the target makes {@link Output.write} wait, so
 * that nothing piles up here: the rings fill, and what they drop is counted.
 */

import { closeSync, fstatSync, openSync, write, writeSync } from 'node:fs';

import { messageOf, TraplineError } from '../base/errors.ts';
import { cantWrite, errorCode } from './messages.ts';

/** What an {@link Output} needs of the system. */
export interface OutputSystem {
  /** Writes what it can, at once or in a while; rejects with the system's error. */
  write(bytes: Uint8Array, from: number): number | Promise<number>;
  /** Resolves after so many milliseconds. */
  wait(milliseconds: number): Promise<void>;
  close(): void;
}

/** The reader has gone (`trapline … | head`): not an error, an end. */
export class ReaderGone extends Error {
  override readonly name = 'ReaderGone';
}

const LONGEST_PAUSE = 32;

/** A file, pipe or terminal. */
export class Output implements Disposable {
  readonly #system: OutputSystem;
  readonly #name: string;

  /** @param name for errors. */
  constructor(system: OutputSystem, name: string) {
    this.#system = system;
    this.#name = name;
  }

  /**
   * Writes all bytes; they may be changed when it has resolved.
   * @throws ReaderGone when nobody reads any more; TraplineError `system` for a full disk and the like.
   */
  async write(bytes: Uint8Array): Promise<void> {
    let pause = 1;
    for (let at = 0; at < bytes.length;) {
      try {
        at += await this.#system.write(bytes, at);
        pause = 1;
      } catch (error) {
        const code = errorCode(error);
        // A terminal that hung up says EIO.
        if (code === 'EPIPE' || code === 'EIO') throw new ReaderGone();
        if (code !== 'EAGAIN') throw cantWrite(this.#name, error);
        // Somebody who shares the pipe made it non-blocking.
        await this.#system.wait(pause);
        pause = Math.min(LONGEST_PAUSE, pause * 2);
      }
    }
  }

  [Symbol.dispose](): void {
    this.#system.close();
  }
}

/**
 * Opens a file, which is emptied, or standard output if no path is given. Whoever opens it disposes it.
 * @throws TraplineError `no-file` when it can't be opened.
 */
export function openOutput(path?: string): Output {
  if (path === undefined || path === '-') return new Output(descriptorSystem(1), 'standard output');
  try {
    const descriptor = openSync(path, 'w');
    return new Output(descriptorSystem(descriptor), path);
  } catch (cause) {
    throw new TraplineError({
      code: 'no-file',
      message: `can't write to ${path}: ${messageOf(cause)}`,
      cause,
    });
  }
}

/**
 * A regular file is written to at once. A write to anything else may block for as long as its reader
 * likes, so it happens in a thread of Node's, and signals are still answered. `close` leaves the three
 * standard descriptors open.
 */
export function descriptorSystem(descriptor: number): OutputSystem {
  const atOnce = fstatSync(descriptor).isFile();
  return {
    write: (bytes, from) =>
      atOnce ? writeSync(descriptor, bytes, from) : writeLater(descriptor, bytes, from),
    wait: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    close: () => {
      if (descriptor > 2) closeSync(descriptor);
    },
  };
}

function writeLater(descriptor: number, bytes: Uint8Array, from: number): Promise<number> {
  return new Promise((resolve, reject) => {
    write(descriptor, bytes, from, bytes.length - from, null, (error, written) => {
      if (error === null) resolve(written);
      else reject(error);
    });
  });
}
