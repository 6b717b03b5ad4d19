/** The events of a session of the kernel engine. */

import { join } from 'node:path';

import { accountFor, withUnread, type KernelCount } from '../../engines/kernel/account.ts';
import { countLost } from '../../engines/kernel/instance.ts';
import { readProfile } from '../../engines/kernel/profile.ts';
import { passedInstance } from '../../engines/kernel/passed.ts';
import { KernelReader, type KernelRing } from '../../engines/kernel/reader.ts';
import { writeCommand } from '../../engines/kernel/tracefs.ts';
import type { BilledAccount } from '../../events/account.ts';
import type { SegmentLoss } from '../../events/segment.ts';
import { monotonicNanoseconds } from '../../sys/clock.ts';
import type { ConsumerHandle } from '../protocol.ts';
import type { EventOrigin } from './event-origin.ts';

/** The kernel has no contexts that could be used up. */
const NONE = { filtered: 0, aggregated: 0 };

type Profile = ReadonlyMap<string, readonly number[]>;

/** What the kernel said last, before it was told to forget. */
interface LastWords {
  /** Hits just before recording was switched off, and just behind. */
  readonly before: Profile;
  readonly after: Profile;
  lost: number;
  /** Of the records that only tell how many hits passed. */
  unread: number;
}

/** The kernel's rings of one session. */
export class KernelOrigin implements EventOrigin {
  readonly isScarce = false;
  readonly reader: KernelReader;
  readonly #ring: KernelRing;
  readonly #textConsumers = new Set<number>();
  #last: LastWords | undefined;

  /** @throws TraplineError `system` when the rings can't be opened. */
  constructor(ring: KernelRing) {
    this.#ring = ring;
    this.reader = new KernelReader(ring);
  }

  define({ consumer, event, layout, address, kernel }: ConsumerHandle): void {
    if (kernel === undefined) return;
    this.reader.define(consumer, kernel, { name: event, layout, address });
    if (kernel.texts !== undefined) this.#textConsumers.add(consumer);
  }

  accounts(consumers: readonly ConsumerHandle[], isFinal: boolean): readonly BilledAccount[] {
    const last = this.#last;
    const hits = last?.after ?? this.#profile();
    const lost = last === undefined || !isFinal ? this.#lost() : last.lost;
    const counts = consumers.map(({ consumer, kernel, program }): KernelCount => {
      const of = (profile: Profile): number =>
        kernel === undefined ? 0 : (profile.get(kernel.event)?.[kernel.line] ?? 0);
      return {
        hits: of(hits),
        ending: last === undefined ? 0 : Math.max(0, of(last.after) - of(last.before)),
        seen: this.reader.seen(consumer),
        isCounted: program.action === 'count',
        texts: this.reader.texts(consumer),
      };
    });
    const unread = last === undefined || !isFinal ? this.#unread() : last.unread;
    const accounts = accountFor(withUnread(counts, unread), lost, isFinal);
    return accounts.map((one) => ({ ...one, contextless: NONE }));
  }

  markEnded(): void {
    // Its process is every process.
  }

  closing(consumers: readonly number[]): void {
    const now = Number(monotonicNanoseconds());
    for (const consumer of consumers) this.reader.closeTexts(consumer, now);
  }

  loss(): SegmentLoss {
    return { abandoned: 0, corrupt: 0, overrun: 0 };
  }

  markDead(): void {
    // The kernel's records are whole.
  }

  releaseDeadTasks(): void {
    // They hold nothing.
  }

  beginEnd(): void {
    const { tracefs, name } = this.#ring;
    this.closing([...this.#textConsumers]);
    const before = this.#profile();
    // The probes go on for the tens of milliseconds that the kernel needs to let go of them.
    writeCommand(join(tracefs, 'instances', name, 'tracing_on'), '0');
    if (this.#textConsumers.size > 0) {
      writeCommand(join(tracefs, 'instances', passedInstance(name), 'tracing_on'), '0');
    }
    this.#last = { before, after: this.#profile(), lost: 0, unread: 0 };
  }

  markAllDead(): void {
    // Recording is off: what is there is the rest.
  }

  finish(): void {
    if (this.#last !== undefined) {
      this.#last.lost = this.#lost();
      this.#last.unread = this.#unread();
    }
    this.reader.close();
  }

  #profile(): Profile {
    return readProfile(this.#ring.tracefs, this.#ring.name);
  }

  #lost(): number {
    return countLost(this.#ring.tracefs, this.#ring.name);
  }

  #unread(): number {
    if (this.#textConsumers.size === 0) return 0;
    return countLost(this.#ring.tracefs, passedInstance(this.#ring.name));
  }
}
