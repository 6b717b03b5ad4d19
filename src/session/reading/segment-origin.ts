/** The events of one target of the jump engine, and of its children. */

import { existsSync, readFileSync } from 'node:fs';

import { address, type Address } from '../../base/brand.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { Announcements, type Announcement } from '../../events/announcements.ts';
import { accountFor, type BilledAccount } from '../../events/account.ts';
import { DescriptorTable } from '../../events/descriptor.ts';
import { SegmentHeader } from '../../events/layout.ts';
import { SegmentReader, type SegmentLoss } from '../../events/segment.ts';
import { monotonicNanoseconds } from '../../sys/clock.ts';
import { wakeAll } from '../../sys/futex.ts';
import { viewMemory } from '../../sys/mapping.ts';
import { NamespaceTasks } from '../targets/name-spaces.ts';
import type { ConsumerHandle, SegmentHandle } from '../protocol.ts';
import type { AnnouncedTasks } from './collector.ts';
import type { EventOrigin } from './event-origin.ts';

/** The largest process number that the kernel gives (PID_MAX_LIMIT). */
const MOST_PROCESSES = 1 << 22;

/** A target's segment. */
export class SegmentOrigin implements EventOrigin {
  readonly reader: SegmentReader;
  readonly #announcements: Announcements;
  readonly #table = new DescriptorTable();
  readonly #address: Address;
  readonly #pid: number;
  /** For a target in another pid namespace. */
  readonly #tasks: NamespaceTasks | undefined;

  constructor(handle: SegmentHandle) {
    const { address: at, shape } = handle;
    const part = (offset: number, length: number): DataView =>
      new DataView(viewMemory(address(at + BigInt(offset)), length));
    const tasks = handle.samePidNamespace ? undefined : new NamespaceTasks(handle.pid);
    this.#pid = handle.pid;
    this.#address = address(at);
    this.#tasks = tasks;
    this.#announcements = new Announcements(viewMemory(address(at), PAGE_BYTES));
    this.reader = new SegmentReader({
      part,
      shape,
      table: this.#table,
      taskName,
      ...(tasks && { translate: (pid, tid) => tasks.find(pid, tid) }),
    });
  }

  define({ consumer, event, layout, address: site }: ConsumerHandle): void {
    this.#table.set(consumer, { name: event, layout, address: site });
  }

  accounts(consumers: readonly ConsumerHandle[], isFinal: boolean): readonly BilledAccount[] {
    // Counts are asked for where nobody reads events, too.
    this.reader.discover();
    const ids = consumers.map(({ consumer }) => consumer);
    return accountFor(this.reader, ids, isFinal).consumers;
  }

  loss(): SegmentLoss {
    return this.reader.loss();
  }

  get isScarce(): boolean {
    const { reader } = this;
    reader.discover();
    const half = reader.layout.contextCount / 2;
    if (reader.contexts.length <= half) return false;
    let taken = 0;
    for (const context of reader.contexts) if (context.isTaken) taken++;
    return taken > half;
  }

  closing(): void {
    // Every hit says itself what became of it.
  }

  markDead(pid: number): void {
    if (pid === this.#pid) this.reader.markDead(pid);
  }

  markEnded(): void {
    this.reader.markDead(this.#pid);
  }

  releaseDeadTasks(): void {
    const { reader } = this;
    const tasks = this.#tasks;
    reader.identify(Number(monotonicNanoseconds()) / 1e6);
    const isOwnerAlive = (pid: number, tid: number): boolean =>
      tasks === undefined ? isTaskAlive(pid, tid) : tasks.find(pid, tid) !== undefined;
    reader.contexts.forEach(({ identity: { pid, tid } }, index) => {
      // Asked first: a living task whose context is looked at this way would claim a second one.
      if (pid !== 0 && !isTaskAlive(pid, tid)) reader.release(index, isOwnerAlive);
    });
  }

  beginEnd(): void {
    // What is hit until its site is restored is still recorded; but nobody waits for us.
    this.#announcements.close();
    this.#wake();
  }

  /** Tasks that wait for us; undefined where none does. */
  announced(): Omit<AnnouncedTasks, 'source'> | undefined {
    const pending = this.#announcements.pending();
    if (pending === undefined) return undefined;
    this.#announcements.hear();
    const { last, known, unknown } = pending;
    const tasks = known.flatMap((one) => this.#withOwnIds(one) ?? []);
    const areKnown = unknown === 0 && tasks.length === known.length;
    return { last, tasks: areKnown ? tasks : undefined };
  }

  #withOwnIds(announcement: Announcement): Announcement | undefined {
    const { pid, tid } = announcement;
    if (!isNumber(pid) || !isNumber(tid)) return undefined;
    if (this.#tasks === undefined) return announcement;
    const own = this.#tasks.find(pid, tid);
    return own && { ...announcement, ...own };
  }

  /** All announcements to this one are served: who made them goes on. */
  serve(last: number): void {
    this.#announcements.serve(last);
    this.#wake();
  }

  markAllDead(): void {
    this.reader.markAllDead();
  }

  finish(): void {
    // The tracer unmaps the segment.
  }

  #wake(): void {
    wakeAll(address(this.#address + BigInt(SegmentHeader.served)));
  }
}

/** What a target has written need not be one. */
function isNumber(pid: number): boolean {
  return pid > 0 && pid <= MOST_PROCESSES;
}

function taskName(pid: number, tid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/task/${tid}/comm`, 'utf8').slice(0, -1);
  } catch {
    return undefined; // ended: the name that it had when it claimed its context stays
  }
}

function isTaskAlive(pid: number, tid: number): boolean {
  return existsSync(`/proc/${pid}/task/${tid}`);
}
