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
}

/** Which process a task is in. */
interface Membership {
  pid: number;
  asked: number;
}

/**
 * The tasks of a session's events. Of all tasks of some records it is told first ({@link meet}), then {@link settle}
 * looks up those that have ended, and only then they are identified: what the kernel's table says of a task counts
 * if it was read when the task was gone already.
 */
export class KernelTasks {
  readonly #table: string;
  readonly #known = new Map<number, KnownTask>();
  readonly #memberships = new Map<number, Membership>();
  /** Those that have ended and are not looked up yet. */
  readonly #gone = new Set<number>();
  #last = -1;

  /** @param tracefs where tracefs is */
  constructor(tracefs: string) {
    this.#table = join(tracefs, 'saved_tgids');
  }

  /** A record's task: the process that it is in is asked for, unless that is known. */
  meet(tid: number, now: number): void {
    // Most records are of the task of the one before.
    if (tid === this.#last) return;
    // Not between a meeting and what follows from it.
    if (this.#last < 0 && this.#memberships.size >= MOST_TASKS) this.#memberships.clear();
    this.#last = tid;
    const known = this.#memberships.get(tid);
    if (known !== undefined && now - known.asked < ANSWER_MILLISECONDS) return;
    const living = /^Tgid:\t(\d+)$/m.exec(textOf(`/proc/${tid}/status`))?.[1];
    if (living === undefined) this.#gone.add(tid);
    else this.#note(tid, Number(living), now);
  }

  /**
   * A task that has ended is in the kernel's table, which `record-tgid` makes it keep; so are those that had
   * its id long ago.
   */
  settle(now: number): void {
    this.#last = -1;
    if (this.#gone.size === 0) return;
    // It is noted when its processor turns to another one (kernel/trace/trace_sched_switch.c), just behind the
    // moment at which its parent can let its id go.
    sleepMicroseconds(NOTING_MICROSECONDS);
    for (const line of textOf(this.#table).split('\n')) {
      const space = line.indexOf(' ');
      const tid = Number(line.slice(0, space));
      if (space > 0 && this.#gone.delete(tid)) this.#note(tid, Number(line.slice(space + 1)), now);
    }
    // Not in the table: as it was known, or the only one of its process.
    for (const tid of this.#gone) this.#note(tid, this.#memberships.get(tid)?.pid ?? tid, now);
    this.#gone.clear();
  }

  /**
   * The task of a record that was met. The same object as long as nothing of it changes.
   * @param start of its name in `page`
   * @param length of the name in bytes, without the NUL
   */
  identify(tid: number, page: Buffer, start: number, length: number): TaskIdentity {
    const pid = this.#memberships.get(tid)?.pid ?? tid;
    const known = this.#known.get(tid);
    if (known === undefined || !isSame(known, page, start, length)) {
      return this.#learn({ pid, tid }, page, start, length);
    }
    if (pid !== known.identity.pid) known.identity = { ...known.identity, pid };
    return known.identity;
  }

  #note(tid: number, pid: number, asked: number): void {
    const known = this.#memberships.get(tid);
    if (known === undefined) {
      this.#memberships.set(tid, { pid, asked });
    } else {
      known.pid = pid;
      known.asked = asked;
    }
  }

  #learn(
    ids: { readonly pid: number; readonly tid: number },
    page: Buffer,
    start: number,
    length: number,
  ): TaskIdentity {
    if (this.#known.size >= MOST_TASKS) this.#known.clear();
    const used = Math.min(length, COMM_BYTES);
    const name = new Uint8Array(COMM_BYTES);
    name.set(page.subarray(start, start + used));
    const comm = Buffer.from(name.buffer, 0, used).toString('utf8');
    const identity = { ...ids, comm };
    this.#known.set(ids.tid, { identity, name, nameLength: used });
    return identity;
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
