/** System calls that our stop interrupted, and how they go on as if it had not. */

import { type Registers } from '../sys/registers.ts';

// include/linux/errno.h: what an interrupted call leaves in rax for the kernel itself.
const ERESTARTSYS = -512n;
const ERESTARTNOINTR = -513n;
const ERESTARTNOHAND = -514n;
const ERESTART_RESTARTBLOCK = -516n;
const EINTR = -4n;
const SYS_RESTART_SYSCALL = 219n;

/** Length of `syscall` and `int 0x80`. */
const SYSCALL_BYTES = 2n;

/**
 * Calls that answer EINTR themselves when a tracer stops them, although no signal was there (signal(7),
 * "Interruption of system calls and library functions by stop signals"). Made again they do no harm:
 * nothing was transferred. A time-out begins anew. Not connect and close, which can't be made again.
 */
const answersInterrupted = new Set([
  0n, // read: of a socket with a time-out, of a FUSE file
  1n, // write
  19n, // readv
  20n, // writev
  43n, // accept
  44n, // sendto
  45n, // recvfrom
  46n, // sendmsg
  47n, // recvmsg
  65n, // semop
  128n, // rt_sigtimedwait
  208n, // io_getevents
  220n, // semtimedop
  232n, // epoll_wait
  281n, // epoll_pwait
  288n, // accept4
  299n, // recvmmsg
  333n, // io_pgetevents
  426n, // io_uring_enter
  441n, // epoll_pwait2
]);

/** What {@link keepInterruptedCall} changes. */
export interface RegisterHolder {
  readonly registers: Registers;
  setRegisters(registers: Registers): void;
}

/**
 * Turns an EINTR that our stop caused into ERESTARTNOHAND: when the task goes on, the kernel answers
 * EINTR if a handler runs, and makes the call again if none does. One write of the registers: if we die
 * before it the program sees an EINTR, as after SIGSTOP and SIGCONT.
 */
export function keepInterruptedCall(task: RegisterHolder): void {
  const { registers } = task;
  if (!isInterrupted(registers)) return;
  task.setRegisters(registers.set('rax', ERESTARTNOHAND));
}

/** Whether a stopped task's system call answers EINTR and can be made again: see {@link keepInterruptedCall}. */
export function isInterrupted(registers: Registers): boolean {
  return registers.signed('rax') === EINTR && answersInterrupted.has(registers.signed('origRax'));
}

/**
 * Has a task that is at its entry into a system call pass it over and make it from the beginning: one write of the
 * registers; if we die behind it, the task goes on so.
 */
export function redoCall(task: RegisterHolder): void {
  const { registers } = task;
  const rax = registers.get('origRax');
  // Without a number the call is passed over, and rax left alone (arch/x86/entry/common.c, do_syscall_64).
  registers
    .set('rip', registers.get('rip') - SYSCALL_BYTES)
    .set('rax', rax)
    .set('origRax', -1n);
  task.setRegisters(registers);
}

/** How an interrupted system call is made again from user mode, where the kernel can't do it for us. */
export interface Restart {
  readonly rip: bigint;
  readonly rax: bigint;
  /** Where to go on if a signal's handler ran meanwhile: the kernel would answer EINTR. */
  readonly handled: { readonly rip: bigint; readonly rax: bigint };
}

/**
 * Where a task goes on when its registers are restored by plain instructions: what the kernel does at
 * the end of a signal-free `arch_do_signal_or_restart` (arch/x86/kernel/signal.c). For ERESTARTSYS a
 * handler decides by SA_RESTART, which can't be seen from outside: the call is made again.
 */
export function restartOf(registers: Registers): Restart {
  const rip = registers.get('rip');
  const rax = registers.get('rax');
  const call = registers.signed('origRax');
  const again = { rip: rip - SYSCALL_BYTES, rax: registers.get('origRax') };
  const interrupted = { rip, rax: BigInt.asUintN(64, EINTR) };
  const error = registers.signed('rax');
  if (call >= 0n && (error === ERESTARTSYS || error === ERESTARTNOINTR)) {
    return { ...again, handled: again };
  }
  if (call >= 0n && error === ERESTARTNOHAND) return { ...again, handled: interrupted };
  if (call >= 0n && error === ERESTART_RESTARTBLOCK) {
    return { ...again, rax: SYS_RESTART_SYSCALL, handled: interrupted };
  }
  return { rip, rax, handled: { rip, rax } };
}

/** Whether a system call's answer means that the kernel is about to make it again. */
export function isRestarting(answer: bigint): boolean {
  return (
    answer === ERESTARTSYS ||
    answer === ERESTARTNOINTR ||
    answer === ERESTARTNOHAND ||
    answer === ERESTART_RESTARTBLOCK
  );
}
