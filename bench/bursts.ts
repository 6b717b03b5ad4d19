/** What one call costs: bursts of calls, the middle of them, less the calls without a probe. */

import { setTimeout as sleep } from 'node:timers/promises';

import { attach, type EventSummary, type Session } from '../src/index.ts';
import { median } from './rows.ts';
import type { MeasuredFunction, MeasuredTarget } from './targets.ts';

/** Calls in a burst that is recorded: less than a ring of 1 MiB holds of the shortest records, 32,768. */
export const RECORDED_CALLS = 30_000;
/** Calls in a burst of which nothing is recorded. */
export const COUNTED_CALLS = 500_000;
/** Calls in a burst that goes through the kernel each time. */
export const EMULATED_CALLS = 2000;
/** One lap of the ring, so that its pages are there. */
export const WARM_BURSTS = 2;
/** Those that are measured. */
export const BURSTS = 11;

const PATIENCE_MILLISECONDS = 10_000;

/** The middle of some bursts, each run by `burst`, in its unit. */
export async function bursts(burst: () => Promise<number>): Promise<number> {
  for (let warm = 0; warm < WARM_BURSTS; warm++) await burst();
  const figures: number[] = [];
  for (let at = 0; at < BURSTS; at++) figures.push(await burst());
  return median(figures);
}

/** A call as it is now, in nanoseconds. */
export function bare(
  program: MeasuredTarget,
  threads: number,
  calls: number = COUNTED_CALLS,
  what: MeasuredFunction = 'work',
): Promise<number> {
  return bursts(() => program.run(what, threads, calls));
}

/** What is probed by a session of ours, and how often it is called. */
export interface SessionBurst {
  readonly program: MeasuredTarget;
  readonly what: MeasuredFunction;
  readonly threads: number;
  /** In each thread, in one burst. What is recorded of it has to fit the ring. */
  readonly calls: number;
  readonly probe: string;
  /** Whether the hits become events; else the filter refuses all. */
  readonly isRecorded: boolean;
  /** Throws if the probe is not as it should be. */
  readonly inspect?: ((session: Session) => void) | undefined;
}

/**
 * What a probe of ours adds to a call, in nanoseconds. Each burst is read to its last event before the next.
 * @throws Error when an event is missing, or one too many.
 */
export async function sessionCost(burst: SessionBurst): Promise<number> {
  const { program, what, threads, calls, probe, isRecorded, inspect } = burst;
  const without = await bare(program, threads, calls, what);
  await using session = await attach({ pids: [program.pid] }, { probes: [probe] });
  inspect?.(session);
  const reader = new CountingReader(session);
  let due = 0;
  const cost = await bursts(async () => {
    const nanoseconds = await program.run(what, threads, calls);
    due += threads * calls;
    if (isRecorded) await reader.waitFor(due);
    return nanoseconds;
  });
  const summary = await session.stop();
  await reader.done;
  verify(summary.events[0], due, isRecorded, reader.count);
  return cost - without;
}

/**
 * What a probe of ours that only counts adds to a call, in nanoseconds.
 * @throws Error when a hit is missing, or one too many.
 */
export async function countCost(
  burst: Pick<SessionBurst, 'program' | 'what' | 'threads' | 'inspect'> & {
    readonly definition: string;
  },
): Promise<number> {
  const { program, what, threads, definition, inspect } = burst;
  const without = await bare(program, threads, COUNTED_CALLS, what);
  await using session = await attach(
    { pids: [program.pid] },
    { probes: [{ definition, action: 'count' }] },
  );
  inspect?.(session);
  const cost = await bursts(() => program.run(what, threads, COUNTED_CALLS));
  const { events } = await session.stop();
  const due = (BURSTS + WARM_BURSTS) * threads * COUNTED_CALLS;
  if (events[0]?.hits !== due) throw new Error(`${due} hits, ${events[0]?.hits} were counted`);
  return cost - without;
}

function verify(
  event: EventSummary | undefined,
  due: number,
  isRecorded: boolean,
  read: number,
): void {
  const recorded = isRecorded ? due : 0;
  if (
    event?.recorded === recorded &&
    event.hits === due &&
    event.filtered === due - recorded &&
    read === recorded
  ) {
    return;
  }
  const { hits, filtered } = event ?? {};
  throw new Error(
    `${recorded} of ${due} hits were to be events: of ${hits} hits ${filtered} were filtered, ` +
      `${event?.recorded} recorded, ${read} read`,
  );
}

/** Reads a session's events as fast as they come. */
class CountingReader {
  count = 0;
  readonly done: Promise<void>;

  constructor(session: Session) {
    this.done = this.#read(session);
  }

  /** @throws Error when they don't come. */
  async waitFor(count: number): Promise<void> {
    const deadline = performance.now() + PATIENCE_MILLISECONDS;
    while (this.count < count) {
      if (performance.now() > deadline) throw new Error(`${this.count} of ${count} events came`);
      await sleep(1);
    }
  }

  async #read(session: Session): Promise<void> {
    for await (const batch of session.batches()) this.count += batch.count;
  }
}
