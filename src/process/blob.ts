/**
 * The blob: straight-line code that makes a list of system calls and goes back to where the task
 * was, by itself. It uses no stack and writes no memory; everything it needs is immediates and data
 * behind it. See docs/architecture.md, "Remote call".
 *
 *     rt_sigprocmask: block everything        a handler could leave by longjmp and never come back
 *     the calls; results that later calls use are kept in rbx rbp r13 r14 r15 r12
 *     ppoll: let pending signals in           only if it matters whether a handler ran
 *     rt_sigprocmask: the task's own mask
 *     every register from immediates, the flags by sahf (and add, for OF, which sahf leaves alone)
 *     jmp [rip + where the task was]
 *
 * The direction flag, and all but the arithmetic flags, are as they were: nothing here changes them.
 */

import { address, type Address } from '../base/brand.ts';
import { ensure, TraplineError } from '../base/errors.ts';
import { Registers } from '../sys/registers.ts';
import { Assembler } from '../x64/assembler.ts';
import { mem, type Label } from '../x64/operands.ts';
import { SYSCALL_REGISTERS, type Register64 } from '../x64/registers.ts';
import { restartOf } from './restart.ts';

/** One argument of a remote call. */
export type CallArgument =
  | bigint
  /** What an earlier call of the same batch answered, by its index. */
  | { readonly result: number }
  /** The address of these bytes, which lie in read-only memory during the batch, aligned to 8. */
  | { readonly data: Uint8Array };

/** One system call to be made by a task of the target. */
export interface RemoteCall {
  /** Its number on x86-64. */
  readonly number: number;
  /** Six at most. */
  readonly arguments: readonly CallArgument[];
}

/** What a task goes back to. */
export interface TaskState {
  readonly registers: Registers;
  /** The signals that it blocks. */
  readonly signalMask: bigint;
}

const SYS_RT_SIGPROCMASK = 14;
const SYS_PPOLL = 271;
const SIG_SETMASK = 2n;
const SIGSET_BYTES = 8n;
const ALL_SIGNALS = 0xffff_ffff_ffff_ffffn;

/** System calls keep these, and no argument goes through them. r12 last: the end needs it. */
const RESULT_REGISTERS: readonly Register64[] = ['rbx', 'rbp', 'r13', 'r14', 'r15', 'r12'];

/** All that the blob may have changed but rax, which is restored with the flags. */
const RESTORED = [
  'rbx',
  'rcx',
  'rdx',
  'rsi',
  'rdi',
  'rbp',
  'r8',
  'r9',
  'r10',
  'r11',
  'r12',
  'r13',
  'r14',
  'r15',
] as const;

/** The system calls that a blob makes before those of its batch. */
export const BLOB_PROLOGUE_CALLS = 1;

/**
 * Assembles a blob to run at `origin`.
 * @throws TraplineError `limit` when more than six results are referred to.
 */
export function assembleBlob(
  origin: Address,
  calls: readonly RemoteCall[],
  state: TaskState,
): Uint8Array {
  return new BlobWriter(origin, calls).write(state);
}

/** How many bytes the blob of a batch takes at most, whatever the task's registers hold. */
export function largestBlob(calls: readonly RemoteCall[]): number {
  // A call interrupted like ppoll has two ways back; numbers of this size need ten bytes each.
  const large = 0x7abc_def0_1234_5678n;
  const registers = new Registers().set('origRax', BigInt(SYS_PPOLL)).set('rax', -514n);
  for (const name of RESTORED) registers.set(name, large);
  registers.set('rip', large);
  const origin = address(0x7000_0000_0000n);
  const { byteLength } = assembleBlob(origin, calls, { registers, signalMask: ALL_SIGNALS });
  return byteLength + 8; // where the data is aligned from another origin
}

class BlobWriter {
  readonly #code: Assembler;
  readonly #calls: readonly RemoteCall[];
  readonly #data: { readonly label: Label; readonly bytes: Uint8Array }[] = [];
  /** Where the results that later calls use are kept, by index of the call. */
  readonly #kept: ReadonlyMap<number, Register64>;

  constructor(origin: Address, calls: readonly RemoteCall[]) {
    this.#code = new Assembler(origin);
    this.#calls = calls;
    this.#kept = allocateResults(calls);
  }

  write(state: TaskState): Uint8Array {
    const code = this.#code;
    this.#setMask(ALL_SIGNALS);
    this.#calls.forEach((call, index) => {
      this.#call(call);
      const register = this.#kept.get(index);
      if (register !== undefined) code.mov(register, 'rax');
    });
    this.#goBack(state);
    for (const { label, bytes } of this.#data) code.align(8).bind(label).raw(bytes);
    return code.finish();
  }

  #call(call: RemoteCall): void {
    ensure(call.arguments.length <= SYSCALL_REGISTERS.length, 'a system call has six arguments');
    SYSCALL_REGISTERS.forEach((register, index) => {
      const argument = call.arguments[index];
      if (argument !== undefined) this.#load(register, argument);
    });
    this.#code.mov('eax', call.number).syscall();
  }

  #load(register: Register64, argument: CallArgument): void {
    if (typeof argument === 'bigint') {
      this.#code.mov(register, BigInt.asUintN(64, argument));
    } else if ('data' in argument) {
      this.#code.lea(register, mem({ target: this.#place(argument.data) }));
    } else {
      const source = this.#kept.get(argument.result);
      ensure(source !== undefined, 'a call refers to a result that comes later');
      this.#code.mov(register, source);
    }
  }

  #place(bytes: Uint8Array): Label {
    const label = this.#code.label('data');
    this.#data.push({ label, bytes });
    return label;
  }

  #word(value: bigint): Uint8Array {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  }

  #setMask(mask: bigint): void {
    const set = { data: this.#word(mask) };
    this.#call({ number: SYS_RT_SIGPROCMASK, arguments: [SIG_SETMASK, set, 0n, SIGSET_BYTES] });
  }

  #goBack({ registers, signalMask }: TaskState): void {
    const code = this.#code;
    const restart = restartOf(registers);
    const handledMatters = restart.handled.rip !== restart.rip;
    if (handledMatters) {
      // With no time to wait it lets pending signals in and answers EINTR if a handler ran.
      const noTime = { data: new Uint8Array(16) };
      const mask = { data: this.#word(signalMask) };
      this.#call({ number: SYS_PPOLL, arguments: [0n, 0n, noTime, mask, SIGSET_BYTES] });
      code.mov('r12', 'rax');
    }
    this.#setMask(signalMask);
    const handled = code.label('handled');
    if (handledMatters) code.test('r12', 'r12');
    for (const name of RESTORED) code.mov(name, registers.get(name));
    if (handledMatters) code.jcc('s', handled);
    this.#leave(registers, restart);
    code.bind(handled);
    if (handledMatters) this.#leave(registers, restart.handled);
  }

  #leave(registers: Registers, to: { readonly rip: bigint; readonly rax: bigint }): void {
    const flags = Number(registers.get('flags') & 0xffffn);
    const overflow = (flags >> 11) & 1;
    this.#code
      .mov('eax', ((flags & 0xff) << 8) | overflow)
      .add('al', 0x7f)
      .sahf()
      .mov('rax', to.rax)
      .jmp(mem({ target: this.#place(this.#word(to.rip)), width: 8 }));
  }
}

function allocateResults(calls: readonly RemoteCall[]): Map<number, Register64> {
  const kept = new Map<number, Register64>();
  calls.forEach((call, at) => {
    for (const argument of call.arguments) {
      if (typeof argument === 'bigint' || 'data' in argument || kept.has(argument.result)) continue;
      ensure(argument.result < at, 'a call refers to a result that comes later');
      const register = RESULT_REGISTERS[kept.size];
      if (register === undefined) {
        throw new TraplineError({
          code: 'limit',
          message: `a batch can keep ${RESULT_REGISTERS.length} results, not more`,
        });
      }
      kept.set(argument.result, register);
    }
  });
  return kept;
}
