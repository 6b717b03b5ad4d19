/**
 * ptrace(2). A tracee belongs to the *thread* that seized it: everything here must be called by
 * that one thread.
 */

import { address, type Address, type Tid } from '../base/brand.ts';
import { bind, check, lastErrno, errnoName, systemError, type Long, type Pointer } from './call.ts';
import { Registers } from './registers.ts';

// include/uapi/linux/ptrace.h
const GETREGS = 12;
const SETREGS = 13;
const DETACH = 17;
const CONT = 7;
const SYSCALL = 24;
const GETEVENTMSG = 0x4201;
const GETSIGINFO = 0x4202;
const SEIZE = 0x4206;
const INTERRUPT = 0x4207;
const LISTEN = 0x4208;
const GETSIGMASK = 0x420a;
const SETSIGMASK = 0x420b;
const SECCOMP_GET_FILTER = 0x420c;
const GET_SYSCALL_INFO = 0x420e;
const GET_RSEQ_CONFIGURATION = 0x420f;

/** Options for {@link seize} and {@link setOptions}. */
export const TraceOption = {
  /** System call stops are told apart from a SIGTRAP by bit 7 of the signal. */
  sysgood: 1,
  /** Children are seized at birth, with the same options. */
  fork: 2,
  vfork: 4,
  /** New threads too. */
  clone: 8,
  exec: 0x10,
} as const;

/** What a stop's event field can hold. */
export const TraceEvent = {
  fork: 1,
  vfork: 2,
  clone: 3,
  exec: 4,
  /** PTRACE_EVENT_STOP: our interrupt, or a group stop (then the signal says which). */
  stop: 128,
} as const;

const ptrace: (request: number, tid: number, address: Long, data: Pointer) => Long = bind(
  'int64_t ptrace(int request, int tid, uint64_t address, void *data)',
);

/** Attaches without stopping the task. @throws TraplineError, `no-process` when it is gone. */
export function seize(tid: Tid, options: number): void {
  check(ptrace(SEIZE, tid, 0, BigInt(options)), `attach to task ${tid}`);
}

/** Asks a seized task to stop; it stops inside `get_signal` with {@link TraceEvent.stop}. */
export function interrupt(tid: Tid): void {
  check(ptrace(INTERRUPT, tid, 0, null), `interrupt task ${tid}`);
}

/** Lets a stopped task run. `signal` is delivered if it is in a signal-delivery-stop. */
export function resume(tid: Tid, signal = 0): void {
  check(ptrace(CONT, tid, 0, BigInt(signal)), `resume task ${tid}`);
}

/** Lets a stopped task run to its next entry into, or exit from, a system call. */
export function resumeToSystemCall(tid: Tid, signal = 0): void {
  check(ptrace(SYSCALL, tid, 0, BigInt(signal)), `step task ${tid}`);
}

/** Leaves a task in the stop of its process (SIGSTOP) and has it report when that ends; only from {@link TraceEvent.stop}. */
export function listen(tid: Tid): void {
  check(ptrace(LISTEN, tid, 0, null), `leave task ${tid} stopped`);
}

/**
 * Lets go of a stopped task. A task of a stopped process (SIGSTOP) stays stopped.
 * @returns false when the task is gone, or is not in a stop.
 */
export function detach(tid: Tid, signal = 0): boolean {
  if (Number(ptrace(DETACH, tid, 0, BigInt(signal))) !== -1) return true;
  const name = errnoName(lastErrno());
  if (name === 'ESRCH') return false;
  throw systemError(`detach from task ${tid}`);
}

/** The general registers of a stopped task. */
export function getRegisters(tid: Tid): Registers {
  const registers = new Registers();
  check(ptrace(GETREGS, tid, 0, registers.bytes), `read the registers of task ${tid}`);
  return registers;
}

/** Sets all general registers of a stopped task at once. */
export function setRegisters(tid: Tid, registers: Registers): void {
  check(ptrace(SETREGS, tid, 0, registers.bytes), `set the registers of task ${tid}`);
}

/**
 * The signals that a stopped task blocks, bit `signal - 1` each; inside a call such as sigsuspend
 * the mask that it will return to (kernel/ptrace.c, PTRACE_GETSIGMASK).
 */
export function getSignalMask(tid: Tid): bigint {
  const mask = Buffer.alloc(8);
  check(ptrace(GETSIGMASK, tid, 8, mask), `read the signal mask of task ${tid}`);
  return mask.readBigUInt64LE();
}

/** Sets the signals that a stopped task blocks. */
export function setSignalMask(tid: Tid, signals: bigint): void {
  const mask = Buffer.alloc(8);
  mask.writeBigUInt64LE(signals);
  check(ptrace(SETSIGMASK, tid, 8, mask), `set the signal mask of task ${tid}`);
}

/** The siginfo_t of a task in a signal-delivery-stop, 128 bytes (include/uapi/asm-generic/siginfo.h). */
export function getSignalInfo(tid: Tid): Uint8Array {
  const info = Buffer.alloc(128);
  check(ptrace(GETSIGINFO, tid, 0, info), `read the signal of task ${tid}`);
  return info;
}

/** What came with a ptrace event: after an exec the task's former id, after a fork the child's. */
export function getEventMessage(tid: Tid): bigint {
  const message = Buffer.alloc(8);
  check(ptrace(GETEVENTMSG, tid, 0, message), `read the ptrace event of task ${tid}`);
  return message.readBigUInt64LE();
}

/** Where a stopped task is: at its entry into a system call, at its exit from one, or at neither. */
export type CallStop = 'entry' | 'exit' | 'neither';

/** By the operation of struct ptrace_syscall_info (include/uapi/linux/ptrace.h). */
const CALL_STOPS: readonly (CallStop | undefined)[] = ['neither', 'entry', 'exit'];
const ENOSYS = -38n;

/**
 * Which stop of a system call a task is in. A kernel before 5.3 can't tell: there the answer that each call has at its entry
 * does (arch/x86/entry/entry_64.S), and a call that answers ENOSYS is taken for one that has not begun.
 */
export function getCallStop(tid: Tid): CallStop {
  const info = Buffer.alloc(88);
  if (Number(ptrace(GET_SYSCALL_INFO, tid, info.byteLength, info)) !== -1) {
    return CALL_STOPS[info.readUInt8()] ?? 'neither';
  }
  const name = errnoName(lastErrno());
  if (name !== 'EIO' && name !== 'EINVAL') throw systemError(`read the stop of task ${tid}`);
  const registers = getRegisters(tid);
  if (registers.signed('origRax') < 0n) return 'neither';
  return registers.signed('rax') === ENOSYS ? 'entry' : 'exit';
}

/**
 * Where a stopped task's `struct rseq` is (include/uapi/linux/rseq.h).
 * @returns undefined when it registered none, or the kernel (before 5.13) can't tell.
 */
export function getRseqArea(tid: Tid): Address | undefined {
  // struct ptrace_rseq_configuration: u64 address, u32 size, u32 signature, u32 flags, u32 pad.
  const configuration = Buffer.alloc(24);
  const result = ptrace(GET_RSEQ_CONFIGURATION, tid, configuration.byteLength, configuration);
  if (Number(result) === -1) {
    const name = errnoName(lastErrno());
    if (name === 'EIO' || name === 'EINVAL') return undefined;
    throw systemError(`read the rseq configuration of task ${tid}`);
  }
  const area = configuration.readBigUInt64LE();
  return area === 0n ? undefined : address(area);
}

/** More instructions than a filter can have (BPF_MAXINSNS). */
const MAX_FILTER_INSTRUCTIONS = 4096;

/**
 * A seccomp filter of a stopped task, the newest first, as classic BPF: 8 bytes an instruction.
 * @returns undefined when it has no filter of that number; 'not-permitted' when only root may look.
 */
export function getSeccompFilter(
  tid: Tid,
  index: number,
): Uint8Array | undefined | 'not-permitted' {
  const program = Buffer.alloc(MAX_FILTER_INSTRUCTIONS * 8);
  const count = Number(ptrace(SECCOMP_GET_FILTER, tid, index, program));
  if (count >= 0) return program.subarray(0, count * 8);
  const name = errnoName(lastErrno());
  if (name === 'ENOENT') return undefined;
  // EACCES without CAP_SYS_ADMIN; EIO where the kernel lacks it; EMEDIUMTYPE (124) for another kind of filter.
  if (['EACCES', 'EPERM', 'EIO', 'EINVAL', '124'].includes(name)) return 'not-permitted';
  throw systemError(`read the seccomp filter of task ${tid}`);
}
