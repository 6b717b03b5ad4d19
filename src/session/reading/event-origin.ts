/** One source of events as the collector sees it: a target's segment, or the kernel's rings. */

import type { BilledAccount } from '../../events/account.ts';
import type { SegmentLoss } from '../../events/segment.ts';
import type { ConsumerHandle } from '../protocol.ts';

/** Where events of a session come from. Used by the main thread only; the collector owns it. */
export interface EventOrigin {
  /** Whether it can't take many more tasks: dead ones are looked for then. */
  readonly isScarce: boolean;
  /** Makes a consumer known, before any of its records is read. */
  define(consumer: ConsumerHandle): void;
  /**
   * The counts of consumers of its own, as they are now.
   * @param isFinal nobody writes any more, and all was read
   */
  accounts(consumers: readonly ConsumerHandle[], isFinal: boolean): readonly BilledAccount[];
  /** These consumers of its own are about to be taken out. */
  closing(consumers: readonly number[]): void;
  /** What was passed over. */
  loss(): SegmentLoss;
  /** A process has ended: what its tasks have not committed now never will be. */
  markDead(pid: number): void;
  /** The process that it is of has ended, or runs another program now. */
  markEnded(): void;
  /** Gives back what dead tasks hold. */
  releaseDeadTasks(): void;
  /** The session is about to leave: what is recorded from here on is nobody's. */
  beginEnd(): void;
  /** Nothing more is written: what is read next is the rest. */
  markAllDead(): void;
  /** All was read; counts stay what they are. */
  finish(): void;
}
