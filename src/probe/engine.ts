/** What an engine is to the rest: a way to make probes real for one session. */

import type { Program } from './program.ts';

/**
 * The engines that there are: `jump` puts jumps to code of ours into single processes, `kernel` hands the
 * same definitions to the kernel's uprobes.
 */
export type EngineName = 'jump' | 'kernel';

/** One consumer to be added at one place. Engines extend it by what they need of the place. */
export interface EngineConsumer {
  readonly program: Program;
  /** The event id of its records, unique in its source of events. */
  readonly consumer: number;
  /** Its probe in the session. */
  readonly probe: number;
}

/** A consumer that could not be added. */
export interface FailedConsumer<Consumer extends EngineConsumer> {
  readonly request: Consumer;
  /** For people. */
  readonly reason: string;
}

/** Why a hit goes another way than those that are recorded, counted or refused. */
export type LostHit = 'ringFull' | 'noContext' | 'tracerGone';

/** Nanoseconds that one hit of a consumer costs its task. */
export interface HitCost {
  /** Of one that is recorded, or counted. */
  readonly passed: number;
  /** Of one that the event filter refuses, or that is another's. */
  readonly refused: number;
  /** Of those that were asked about. `noContext` is also what a hit costs that is counted without a context. */
  readonly lost: Readonly<Partial<Record<LostHit, number>>>;
}

/** How long targets stood still for us. */
export interface StopAccount {
  stops: number;
  stoppedNanoseconds: bigint;
  longestNanoseconds: bigint;
}

/**
 * What probes are put into: one process and its children (jump), or all that the kernel is told to watch
 * (kernel). The session owns it; it calls `leave`, reads what was recorded, calls `release`, disposes it.
 */
export interface EngineTarget<Consumer extends EngineConsumer> extends Disposable {
  readonly stops: StopAccount;
  /**
   * Adds consumers, all at once.
   * @returns those that could not be added; the others are in.
   * @throws TraplineError when nothing could be done at all.
   */
  add(requests: readonly Consumer[]): FailedConsumer<Consumer>[];
  /** Takes consumers out, by their event ids. @returns what had to stay, for people. */
  remove(consumers: ReadonlySet<number>): string[];
  /** Takes everything of the session out of the processes. @returns what had to stay, for people. */
  leave(): string[];
  /** Gives back what was kept so that events could be read after `leave`. @returns what had to stay. */
  release(): string[];
}
