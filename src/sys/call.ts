/**
 * The one door to libc: every foreign call of Trapline is bound here, and every failure is turned
 * into a TraplineError here.
 *
 * Two environment variables serve the tests, which kill a tracer after each of its calls in turn:
 *
 * - `TRAPLINE_TEST_KILL_AFTER=K` sends SIGKILL to this process right after the K-th call, counted
 *   from 1, that the thread makes after {@link enableKillSwitch};
 * - `TRAPLINE_TEST_COUNT_CALLS=FILE` writes the number of those calls to FILE when the thread ends.
 *
 * Calls that leave no trace anywhere (a poll that found nothing, reading a clock, comparing, sleeping) are
 * not counted: their number differs from run to run, and dying after them is dying after the call before.
 * Where neither is set, {@link counted} gives back the function it was given: no cost.
 */

import { writeFileSync } from 'node:fs';
import { constants } from 'node:os';

import koffi from 'koffi';

import { TraplineError, type ErrorCode } from '../base/errors.ts';

const killAfter = Number(process.env['TRAPLINE_TEST_KILL_AFTER'] ?? 0);
const countFile = process.env['TRAPLINE_TEST_COUNT_CALLS'];

let armed = false;
let calls = 0;

/**
 * Starts to count the foreign calls of the calling thread (see the top of this file). Does nothing
 * unless one of the two variables is set.
 */
export function enableKillSwitch(): void {
  if (armed || (killAfter === 0 && countFile === undefined)) return;
  armed = true;
  if (countFile !== undefined) process.on('exit', () => writeFileSync(countFile, `${calls}\n`));
}

/**
 * Wraps `call` so that the test switches see it; `call` itself where no switch is set.
 * @param counts whether a call that answered this is counted; every one is when absent
 */
export function counted<A extends readonly unknown[], R>(
  call: (...parameters: A) => R,
  counts: (result: R) => boolean = () => true,
): (...parameters: A) => R {
  if (killAfter === 0 && countFile === undefined) return call;
  return (...parameters) => {
    const result = call(...parameters);
    if (armed && counts(result) && ++calls === killAfter) process.kill(process.pid, 'SIGKILL');
    return result;
  };
}

// Already in every Node process: libc, and in most builds libstdc++.
const program = koffi.load(null);

/**
 * Binds a C function that the process has loaded. `prototype` is C; the caller states the same
 * signature for TypeScript. A pointer is a bigint, or bytes that live as long as the call; a 64-bit
 * result is a number, or a bigint where a number can't hold it. `counts` is as for {@link counted}.
 */
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- they state the C prototype
export function bind<A extends readonly unknown[], R>(
  prototype: string,
  counts?: (result: R) => boolean,
): (...parameters: A) => R {
  // koffi types every function as any: this is where the prototype's types are stated.
  return counted(program.func(prototype) as unknown as (...parameters: A) => R, counts);
}

/** What a pointer parameter takes. */
export type Pointer = bigint | Uint8Array | null;
/** What a 64-bit integer parameter takes and a result is. */
export type Long = number | bigint;

type SystemCall = (number: number, a: Long, b: Long, c: Long, d: Long, e: Long, f: Long) => Long;

const SYSCALL_PROTOTYPE =
  'int64_t syscall(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)';

/** syscall(2), for calls that not every libc wraps. */
export const systemCall: SystemCall = bind(SYSCALL_PROTOTYPE);

/** syscall(2), for calls that only ask and change nothing: they are not counted. */
export const systemQuestion: SystemCall = bind(SYSCALL_PROTOTYPE, () => false);

/** Makes a system call whose arguments are all 0, only to see that it does us no harm. */
export function rehearseCall(number: number): void {
  systemQuestion(number, 0, 0, 0, 0, 0, 0);
}

/** The address of bytes that JavaScript owns; valid while `bytes` is reachable. */
export function addressOf(bytes: Uint8Array): bigint {
  return koffi.address(bytes);
}

const errnoNames = new Map<number, string>(
  Object.entries(constants.errno).map(([name, value]) => [value, name]),
);

/** The name of an errno value ("EPERM"), or its number as text where the system has no name for it. */
export function errnoName(errno: number): string {
  return errnoNames.get(errno) ?? String(errno);
}

/** The errno that the last foreign call of this thread left. */
export function lastErrno(): number {
  return koffi.errno();
}

/**
 * The error for a foreign call that failed just now, to be thrown.
 * @param what what was being done, for the person: "attach to process 123"
 */
export function systemError(what: string, errno: number = lastErrno()): TraplineError {
  const name = errnoName(errno);
  return new TraplineError({
    code: codeOf(name),
    message: `cannot ${what}: ${name}`,
    errno: name,
  });
}

function codeOf(name: string): ErrorCode {
  if (name === 'EPERM' || name === 'EACCES') return 'not-permitted';
  return name === 'ESRCH' ? 'no-process' : 'system';
}

/**
 * Passes on the result of a call that answers -1 on failure.
 * @throws TraplineError with the errno's name when it did.
 */
export function check(result: Long, what: string): number {
  const narrow = Number(result);
  if (narrow === -1) throw systemError(what);
  return narrow;
}
