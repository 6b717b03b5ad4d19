/**
 * Waking a thread that waits for its tracees: a wait hears of nothing else. A child of that thread, seized by it, is
 * sent a signal by another thread, and its stop ends the wait. The child is a shell that waits for the end of a pipe which
 * only this process keeps open: it ends with us, however we end.
 */

import type { Pid, Tid } from '../base/brand.ts';
import { detach, resume, seize } from '../sys/ptrace.ts';
import { nameThread, sendSignal, Signal } from '../sys/signals.ts';
import { spawnHeld } from '../sys/spawn.ts';
import { takeEnd, waitFor } from '../sys/wait.ts';
import { expect, expectNoMore } from './expected.ts';
import { HOLDER_NAME } from './permission.ts';
import { ignoreGone } from './tasks.ts';

/** The words that both threads see. */
const CHILD = 0;
const USERS = 1;
const ENDING = 2;
const WORDS = 3;

/** What the waking thread has: makes the words. */
export class WakeCall {
  readonly table: SharedArrayBuffer = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT);
  readonly #words: Int32Array = new Int32Array(this.table);

  /** Ends the wait of the other thread, if it waits or is about to. */
  wake(): void {
    // While it is used, the child is not let go: its number stays its own.
    Atomics.add(this.#words, USERS, 1);
    const child = Atomics.load(this.#words, CHILD);
    try {
      if (child !== 0) ignoreGone(() => sendSignal(child as Pid, Signal.urgent)); // the thread's own number
    } finally {
      Atomics.sub(this.#words, USERS, 1);
    }
  }

  /** The other thread is to wait no more: it is about to be ended. */
  end(): void {
    Atomics.store(this.#words, ENDING, 1);
    this.wake();
  }
}

/** What the thread has that waits. */
export class Waker {
  readonly #words: Int32Array;
  #child: { readonly pid: Pid; readonly release: () => void } | undefined;

  constructor(table: SharedArrayBuffer) {
    this.#words = new Int32Array(table);
  }

  /** Whether the thread is to wait no more. */
  get isEnding(): boolean {
    return Atomics.load(this.#words, ENDING) !== 0;
  }

  /** From now on the thread can be woken. */
  begin(): void {
    if (this.#child !== undefined) return;
    // In a group of its own, so that keys of a terminal do not reach it; what it would execute, it never does.
    const child = spawnHeld(['/bin/true'], { ownGroup: true, environment: {} });
    // The first task of a process has the process's id.
    const tid = child.pid as unknown as Tid;
    this.#child = child;
    expect(tid, (status) => {
      if (status.kind === 'stopped') ignoreGone(() => resume(tid));
      else {
        // Somebody has killed it.
        takeEnd(tid);
        child.release();
        this.#forget();
        this.begin();
      }
    });
    seize(tid, 0);
    nameThread(HOLDER_NAME);
    Atomics.store(this.#words, CHILD, child.pid);
  }

  /** The thread does not wait for tracees any more. */
  end(): void {
    const child = this.#child;
    if (child === undefined) return;
    this.#forget();
    child.release();
    for (;;) {
      const status = waitFor(child.pid);
      if (status?.kind !== 'stopped') return;
      detach(child.pid as unknown as Tid); // see above
    }
  }

  #forget(): void {
    const child = this.#child;
    if (child === undefined) return;
    Atomics.store(this.#words, CHILD, 0);
    while (Atomics.load(this.#words, USERS) !== 0);
    expectNoMore(child.pid as unknown as Tid); // see above
    this.#child = undefined;
  }
}
