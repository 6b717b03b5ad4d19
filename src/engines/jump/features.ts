/** What stubs can use: of the machine, and of one target. */

import type { EventClock } from '../../sys/clock.ts';

/** What the processor and the machine's clock allow a stub to use. */
export interface MachineFeatures {
  /** RDPID (CPUID.7.0:ECX[22]); without it the segment limit tells the processor. */
  readonly rdpid: boolean;
  /** What stamps events. */
  readonly clock: EventClock;
}

/** What a stub can use in one target. */
export interface StubFeatures extends MachineFeatures {
  /**
   * How the fs base is found. `memory`: by a load from `fs:[0]`, where the psABI's TLS variant II keeps
   * it (glibc, musl); 3 ns less than `rdfsbase`, whose late result delays every store that depends on
   * it. `register`: by `rdfsbase`, wherever a task may run without such a word: before the runtime
   * has set up its first thread, in Go, without libc.
   */
  readonly threadPointer: 'memory' | 'register';
}
