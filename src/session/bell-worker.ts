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
import { PAGE_BYTES } from '../base/page.ts';
import { Announcements } from '../events/announcements.ts';
import { SegmentHeader } from '../events/layout.ts';
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

/** A word that is waited at. */
interface Watched {
  readonly word: Address;
  /** What it holds now. */
  readonly look: () => number;
  seen: number;
}

function watch(word: Address, look: () => number): Watched {
  return { word, look, seen: look() };
}

/** One that has announced knows at once that it was heard, and waits for longer. */
function watchTarget(segment: Address): Watched {
  const announcements = new Announcements(viewMemory(segment, PAGE_BYTES));
  const word = address(segment + BigInt(SegmentHeader.announced));
  return watch(word, () => announcements.hear());
}

function watchControl(word: Address): Watched {
  const words = new Int32Array(viewMemory(word, 4));
  return watch(word, () => Atomics.load(words, 0));
}

ensure(parentPort !== null, 'the bell hangs in a thread of its own');
const port: MessagePort = parentPort;
// What `Bell` gives.
const { control } = workerData as BellWords;
const own = watchControl(address(control));
const targets = new Map<number, Watched>();
/** Whether there may be something that nobody was told of. */
let isRung = false;

/** @returns false at the end. */
function receive(): boolean {
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return true;
    const { watch: more = [], forget = [], isEnd } = received.message as BellRequest; // ours
    for (const { source, segment } of more) targets.set(source, watchTarget(address(segment)));
    // What was announced before is heard by now, and the main thread may have looked before it was.
    isRung ||= more.length > 0;
    for (const source of forget) targets.delete(source);
    if (forget.length > 0) port.postMessage({ forgotten: true });
    if (isEnd === true) return false;
  }
}

port.postMessage({ ready: true });
for (;;) {
  own.seen = own.look();
  if (!receive()) break;
  for (const target of targets.values()) {
    const now = target.look();
    isRung ||= now !== target.seen;
    target.seen = now;
  }
  if (isRung) {
    isRung = false;
    port.postMessage({ rung: true });
    sleepMicroseconds(PAUSE);
  }
  const all = [own, ...targets.values()].map(({ word, seen }) => ({ address: word, value: seen }));
  waitForWords(all, LONGEST_WAIT);
}
