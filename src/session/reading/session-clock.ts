/** The clock of a session's records: the time stamp counter's, or the system's own. */

import { Clock } from '../../events/clock.ts';
import type { EngineName } from '../../probe/engine.ts';
import { eventClock, monotonicNanoseconds, readClockPair } from '../../sys/clock.ts';

/** How often the clocks are compared, in milliseconds. */
const CALIBRATION_INTERVAL = 1000;
/** Two clock readings this far apart give a rate that holds for the first second. */
const FIRST_CALIBRATION_NANOSECONDS = 2_000_000n;
const NANOSECONDS = 1_000_000_000;
/**
 * How far behind now a time must be to be taken for passed by all processors: stubs reserve at once; the kernel
 * takes a record's time, and may be held up by a hypervisor before it commits it.
 */
const MARGIN_NANOSECONDS: Readonly<Record<EngineName, number>> = {
  jump: 20_000,
  kernel: 2_000_000,
};

/** Keeps a clock right. */
export class SessionClock {
  readonly clock: Clock;
  readonly marginNanoseconds: number;
  readonly #isCounter: boolean;
  #calibrated = performance.now();

  constructor(engine: EngineName) {
    this.marginNanoseconds = MARGIN_NANOSECONDS[engine];
    this.#isCounter = engine === 'jump' && eventClock() === 'counter';
    this.clock = this.#isCounter ? counterClock() : systemClock();
  }

  /** Compares the clocks again, if it is time. */
  calibrate(): void {
    if (!this.#isCounter || performance.now() - this.#calibrated <= CALIBRATION_INTERVAL) return;
    this.#calibrated = performance.now();
    this.clock.add(clockPoint());
  }
}

function counterClock(): Clock {
  const first = clockPoint();
  let second = clockPoint();
  while (second.nanoseconds - first.nanoseconds < FIRST_CALIBRATION_NANOSECONDS) {
    second = clockPoint();
  }
  return new Clock(first, second);
}

/**
 * Stubs that ask the system, and the kernel's `mono` clock, give CLOCK_MONOTONIC in nanoseconds: nothing has
 * to be converted.
 */
function systemClock(): Clock {
  const now = monotonicNanoseconds();
  return new Clock({ ticks: now, nanoseconds: now }, NANOSECONDS);
}

function clockPoint(): { ticks: bigint; nanoseconds: bigint } {
  const { tsc, nanoseconds } = readClockPair();
  return { ticks: tsc, nanoseconds };
}
