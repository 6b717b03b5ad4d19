/**
 * The entry of the bell's thread: blocked in the kernel until a target announces a task. It costs nothing while nobody
 * does, which no look in intervals could be said of that come often enough for a task that waits.
 */

import {
  parentPort,
  receiveMessageOnPort,
  workerData,
  type MessagePort,
} from 'node:worker_threads';

import { address, type Address } from '../base/brand.ts';
import { ensure } from '../base/errors.ts';
import { waitForWords } from '../sys/futex.ts';
import { viewMemory } from '../sys/mapping.ts';
import { sleepMicroseconds } from '../sys/wait.ts';
import type { BellRequest, BellWords } from './bell.ts';

/**
 * No wait is longer, in milliseconds: a thread that is blocked in the kernel keeps its process from exiting. Our own
 * end wakes it, but for one that nobody told us of.
 */
const LONGEST_WAIT = 1000;
/** A target that announces on and on gets no more of us than a look so often, in microseconds. */
const PAUSE = 500;

class Watched {
  readonly at: Address;
  readonly #words: Int32Array;
  seen: number;

  constructor(at: Address) {
    this.at = at;
    this.#words = new Int32Array(viewMemory(at, 4));
    this.seen = this.now;
  }

  get now(): number {
    return Atomics.load(this.#words, 0);
  }
}

ensure(parentPort !== null, 'the bell hangs in a thread of its own');
const port: MessagePort = parentPort;
// What `Bell` gives.
const { control } = workerData as BellWords;
const own = new Watched(address(control));
const targets = new Map<number, Watched>();

/** @returns false at the end. */
function receive(): boolean {
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return true;
    const { watch = [], forget = [], isEnd } = received.message as BellRequest; // ours
    for (const { source, word } of watch) targets.set(source, new Watched(address(word)));
    for (const source of forget) targets.delete(source);
    if (forget.length > 0) port.postMessage({ forgotten: true });
    if (isEnd === true) return false;
  }
}

port.postMessage({ ready: true });
for (;;) {
  own.seen = own.now;
  if (!receive()) break;
  const rung = [...targets.values()].filter((target) => target.now !== target.seen);
  for (const target of rung) target.seen = target.now;
  if (rung.length > 0) {
    port.postMessage({ rung: true });
    sleepMicroseconds(PAUSE);
  }
  const all = [own, ...targets.values()].map(({ at, seen }) => ({ address: at, value: seen }));
  waitForWords(all, LONGEST_WAIT);
}
