/** Numbers that must not be mixed up, told apart by the compiler and free at run time. */

declare const brand: unique symbol;

/** `T`, told apart from every other `T` by its name. */
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** A virtual address in the address space of one process. */
export type Address = Brand<bigint, 'Address'>;
/** An offset in bytes from the start of a file. */
export type FileOffset = Brand<number, 'FileOffset'>;
/** A process id, as our own pid namespace numbers it. */
export type Pid = Brand<number, 'Pid'>;
/** A task (thread) id, as our own pid namespace numbers it. */
export type Tid = Brand<number, 'Tid'>;

const U64_MAX = (1n << 64n) - 1n;

/**
 * Brands a number as an address.
 * @throws RangeError when it is negative or does not fit 64 bits.
 */
export function address(value: bigint | number): Address {
  const wide = BigInt(value);
  if (wide < 0n || wide > U64_MAX) throw new RangeError(`address out of range: ${wide}`);
  return wide as Address; // checked on the line above: the brand's one entrance
}

/**
 * Brands a number of bytes as a file offset.
 * @throws RangeError when it is negative, fractional or above 2^53.
 */
export function fileOffset(value: bigint | number): FileOffset {
  const narrow = Number(value);
  if (!Number.isSafeInteger(narrow) || narrow < 0) {
    throw new RangeError(`file offset out of range: ${value}`);
  }
  return narrow as FileOffset; // checked on the line above: the brand's one entrance
}

/**
 * Brands a process id.
 * @throws RangeError unless it is an integer from 1 to 2^22, the kernel's largest PID_MAX_LIMIT.
 */
export function pid(value: number): Pid {
  return taskNumber(value) as Pid; // checked by taskNumber: the brand's one entrance
}

/**
 * Brands a task id.
 * @throws RangeError unless it is an integer from 1 to 2^22, the kernel's largest PID_MAX_LIMIT.
 */
export function tid(value: number): Tid {
  return taskNumber(value) as Tid; // checked by taskNumber: the brand's one entrance
}

function taskNumber(value: number): number {
  if (!Number.isInteger(value) || value < 1 || value > 1 << 22) {
    throw new RangeError(`process id out of range: ${value}`);
  }
  return value;
}

/** `0x…`, as the kernel and every tool of the field print addresses. */
export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
