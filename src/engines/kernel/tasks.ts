/**
 * Whose events the kernel's records are. A record holds the thread's id and, by our own argument, the name of
 * the task at that moment; the process it belongs to has to be asked for.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import type { TaskIdentity } from '../../events/context.ts';
import { sleepMicroseconds } from '../../sys/wait.ts';

/** How old the answer may be to which process a thread belongs, in milliseconds: ids are used again. */
const ANSWER_MILLISECONDS = 100;
/** How long the kernel may take to note a task that has gone, in microseconds: some, unless the machine itself stands still. */
const NOTING_MICROSECONDS = 1000;
/** The kernel's names have 15 bytes (TASK_COMM_LEN). */
const COMM_BYTES = 16;
/** More tasks than this are forgotten, all at once, and asked for again. */
const MOST_TASKS = 32_768;

interface KnownTask {
  identity: TaskIdentity;
  /** The name as the records have it, and how many of its bytes are in use. */
  readonly name: Uint8Array;
  nameLength: number;
  asked: number;
}

/** The tasks of a session's events. */
export class KernelTasks {
  readonly #table: string;
  readonly #known = new Map<number, KnownTask>();
  #processes = '';
  #tableRead = Number.NEGATIVE_INFINITY;

  /** @param tracefs where tracefs is */
  constructor(tracefs: string) {
    this.#table = join(tracefs, 'saved_tgids');
  }

  /**
   * The task of a record. The same object as long as nothing of it changes.
   * @param start of its name in `page`
   * @param length of the name in bytes, without the NUL
   */
  identify(tid: number, page: Buffer, start: number, length: number, now: number): TaskIdentity {
    const known = this.#known.get(tid);
    if (known !== undefined && isSame(known, page, start, length)) {
      if (now - known.asked < ANSWER_MILLISECONDS) return known.identity;
      const pid = this.#processOf(tid, now, known.identity.pid);
      known.asked = now;
      if (pid !== known.identity.pid) known.identity = { ...known.identity, pid };
      return known.identity;
    }
    return this.#learn(tid, page, start, length, now);
  }

  #learn(tid: number, page: Buffer, start: number, length: number, now: number): TaskIdentity {
    if (this.#known.size >= MOST_TASKS) this.#known.clear();
    const used = Math.min(length, COMM_BYTES);
    const name = new Uint8Array(COMM_BYTES);
    name.set(page.subarray(start, start + used));
    const comm = Buffer.from(name.buffer, 0, used).toString('utf8');
    const identity = { pid: this.#processOf(tid, now, tid), tid, comm };
    this.#known.set(tid, { identity, name, nameLength: used, asked: now });
    return identity;
  }

  /**
   * A task that has ended is in the kernel's table, which `record-tgid` makes it keep; so are those that had
   * its id long ago, so that what was read before this poll says nothing.
   */
  #processOf(tid: number, now: number, otherwise: number): number {
    const text = textOf(`/proc/${tid}/status`);
    const living = /^Tgid:\t(\d+)$/m.exec(text)?.[1];
    if (living !== undefined) return Number(living);
    if (now !== this.#tableRead) {
      this.#tableRead = now;
      // A task that ends is noted when its processor turns to another one (kernel/trace/trace_sched_switch.c), just
      // behind the moment at which its parent can let its id go: until then the table has whoever had the id before.
      sleepMicroseconds(NOTING_MICROSECONDS);
      this.#processes = textOf(this.#table);
    }
    const ended = new RegExp(`^${tid} (\\d+)$`, 'm').exec(this.#processes)?.[1];
    return ended === undefined ? otherwise : Number(ended);
  }
}

function isSame(known: KnownTask, page: Buffer, start: number, length: number): boolean {
  if (known.nameLength !== length) return false;
  const { name } = known;
  for (let at = 0; at < length; at++) if (name[at] !== page[start + at]) return false;
  return true;
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // ended; or a kernel that keeps no table
  }
}
