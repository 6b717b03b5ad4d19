/**
 * What an engine is to the rest: a way to make probes real in one target. It is closed with its second
 * implementation, the kernel's; until then it holds what any engine must do.
 */

import type { Address, Pid } from '../base/brand.ts';
import type { Program } from './program.ts';

/** One consumer to be added at one place of a target. Engines extend it by what they need of the place. */
export interface EngineConsumer {
  /** Where the place is in the target. */
  readonly address: Address;
  readonly program: Program;
  /** Its index in the target's segment: the event id of its records. */
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

/** How long a target stood still for us. */
export interface StopAccount {
  stops: number;
  stoppedNanoseconds: bigint;
  longestNanoseconds: bigint;
}

/** One target under an engine. The session owns it, and has it leave before it disposes it. */
export interface EngineTarget<Consumer extends EngineConsumer> extends Disposable {
  readonly pid: Pid;
  readonly stops: StopAccount;
  /**
   * Adds consumers, all at once.
   * @returns those that could not be added; the others are in.
   * @throws TraplineError when nothing could be done at all.
   */
  add(requests: readonly Consumer[]): FailedConsumer<Consumer>[];
  /** Takes consumers out, by their indices. @returns what had to stay, for people. */
  remove(consumers: ReadonlySet<number>): string[];
  /** Takes everything of the session out. @returns what had to stay, for people. */
  leave(): string[];
}
