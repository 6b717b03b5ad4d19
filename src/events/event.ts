/** Events as plain objects, for handlers and for keeping. */

/** Stands where a value could not be read. There is one, {@link FAULT}: compare with `===`. */
export interface Fault {
  readonly fault: true;
  /** `(fault)`, as the kernel prints it. */
  toString(): string;
  toJSON(): null;
}

/** The value of an argument whose memory could not be read. JSON shows it as null. */
export const FAULT: Fault = Object.freeze({
  fault: true as const, // the literal, not boolean
  toString: (): string => '(fault)',
  toJSON: (): null => null,
});

/** One value: up to 32 bits a number, 64 bits a bigint, a `char` a string of one character. */
export type SingleValue = number | bigint | string | Fault;

/** An argument's value; an array of integers that could not be read whole is one fault. */
export type EventValue = SingleValue | readonly SingleValue[];

/** One event. Owned by whoever has it. */
export interface TraceEvent {
  /** CLOCK_MONOTONIC in nanoseconds. */
  ts: bigint;
  /** As the target's own pid namespace numbers it. */
  pid: number;
  /** Likewise. */
  tid: number;
  cpu: number;
  /** The task's name. */
  comm: string;
  /** `group:event`. */
  event: string;
  /** Of the site. */
  address: bigint;
  /** By argument name; the object has no prototype, so that every name is safe. */
  args: Record<string, EventValue>;
  /** Older than an event that came before it. */
  late: boolean;
}
