/**
 * System calls made by a task of the target. See docs/architecture.md, "Remote call", and blob.ts.
 *
 * While we live, the task is led from system call to system call, and at the end it is brought back
 * into a stop inside `get_signal` before it gets its own registers: an interrupted system call is then
 * restarted, or answered by EINTR, by the kernel itself. If we die, the blob ends alone.
 */

import { address, type Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import {
  getRegisters,
  getRseqArea,
  getSignalMask,
  interrupt,
  resume,
  resumeToSystemCall,
  setSignalMask,
  TraceEvent,
} from '../sys/ptrace.ts';
import { type Registers } from '../sys/registers.ts';
import { sleepMicroseconds, type WaitStatus } from '../sys/wait.ts';
import { assembleBlob, BLOB_PROLOGUE_CALLS, type RemoteCall, type TaskState } from './blob.ts';
import { type BlobPlace } from './blob-place.ts';
import { held } from './held.ts';
import { isRestarting, restartOf } from './restart.ts';
import { ensureCallsPass } from './seccomp.ts';
import { type StoppedProcess } from './stop.ts';
import { type StoppedTask } from './stopped-task.ts';
import { ignoreGone, isLive } from './tasks.ts';

/** How long one system call of the target may take, in milliseconds. */
const STEP_PATIENCE = 10_000;
/** How many signals in a row may come before a blob gets to its first instruction. */
const MAX_SIGNALS = 1000;

/** Told of each result while the task is held at that call's end; negative is -errno. */
export type ResultHandler = (index: number, result: bigint) => void;

/** Batches of system calls by one task of a stopped process. Disposing it puts the place's bytes back. */
export class RemoteBatch implements Disposable {
  readonly task: StoppedTask;
  readonly #stopped: StoppedProcess;
  readonly #place: BlobPlace;
  #written = false;

  private constructor(stopped: StoppedProcess, place: BlobPlace, task: StoppedTask) {
    this.#stopped = stopped;
    this.#place = place;
    this.task = task;
  }

  /**
   * Picks the task. Its descriptors are in `/proc/PID/task/TID/fd`.
   * @param place see `findBlobPlace`
   * @throws TraplineError `not-permitted` when a seccomp filter does not let our calls through;
   * `unsupported` for 32-bit tasks.
   */
  static begin(stopped: StoppedProcess, place: BlobPlace, task?: StoppedTask): RemoteBatch {
    const chosen = task ?? chooseTask(stopped);
    ensureCallsPass(stopped.tasks);
    return new RemoteBatch(stopped, place, chosen);
  }

  /**
   * Makes the calls in order. A call that fails does not end the batch; an error thrown by `onResult` does,
   * and is passed on when the task has its registers back.
   * @returns what each call answered, -errno for an error.
   * @throws TraplineError `limit` when the place is too small, `no-process`, `busy`.
   */
  run(calls: readonly RemoteCall[], onResult: ResultHandler = () => {}): bigint[] {
    for (let left = MAX_SIGNALS; left > 0; left--) {
      const state = this.#prepare(calls);
      const first = this.#step(0);
      if (isEntry(first)) return this.#follow(calls.length, state, onResult);
      this.#deliver(state, first);
    }
    throw new TraplineError({
      code: 'busy',
      message: `task ${this.task.tid} does nothing but handle signals`,
    });
  }

  [Symbol.dispose](): void {
    if (!this.#written) return;
    this.#written = false;
    ignoreGone(() => this.#stopped.write(this.#place.address, this.#place.original));
  }

  /** Writes the blob and points the task at it. From this SETREGS on, it would end by itself. */
  #prepare(calls: readonly RemoteCall[]): TaskState {
    const { tid } = this.task;
    const registers = getRegisters(tid);
    leaveRestartableSequence(this.#stopped, tid, registers);
    const state = { registers, signalMask: leaveTemporaryMask(tid) };
    const bytes = assembleBlob(this.#place.address, calls, state);
    const room = this.#place.original.byteLength;
    if (bytes.byteLength > room) {
      throw new TraplineError({
        code: 'limit',
        message: `${calls.length} remote calls take ${bytes.byteLength} bytes, there are ${room}`,
      });
    }
    this.#written = true;
    this.#stopped.write(this.#place.address, bytes);
    this.task.setRegisters(registers.copy().set('rip', this.#place.address).set('origRax', -1n));
    return state;
  }

  /** From the stop at the entry of the blob's first call to the end. */
  #follow(count: number, state: TaskState, onResult: ResultHandler): bigint[] {
    const results: bigint[] = [];
    let failure: { readonly error: unknown } | undefined;
    for (let index = -BLOB_PROLOGUE_CALLS; index < count && failure === undefined; index++) {
      const result = this.#finishCall();
      if (index >= 0) {
        results.push(result);
        try {
          onResult(index, result);
        } catch (error) {
          failure = { error }; // thrown below, when the task is itself again
        }
      }
      if (index < count - 1 && failure === undefined) this.#runToSystemCall(0);
    }
    this.#restore(state);
    if (failure !== undefined) throw failure.error;
    return results;
  }

  /** From the entry of a call to its exit, through restarts. @returns its answer. */
  #finishCall(): bigint {
    for (;;) {
      this.#runToSystemCall(0);
      const answer = getRegisters(this.task.tid).signed('rax');
      if (!isRestarting(answer)) return answer;
      this.#runToSystemCall(0);
    }
  }

  /** Every signal is blocked but those that stop or kill: they take effect, and the blob goes on. */
  #runToSystemCall(first: number): void {
    let status = this.#step(first);
    while (!isEntry(status)) {
      status = this.#step(status.event === 0 ? status.signal : 0);
    }
  }

  #step(signal: number): Stopped {
    resumeToSystemCall(this.task.tid, signal);
    this.task.forget();
    return this.#wait();
  }

  /**
   * A signal came before the blob's first instruction: the task gets its registers back, takes the signal,
   * and stops at the handler.
   */
  #deliver(state: TaskState, status: Stopped): void {
    this.task.setRegisters(state.registers);
    this.#runIntoStop(status.event === 0 ? status.signal : 0);
  }

  /** The blob is at a call's exit. The mask comes first: if we die between, the blob goes on rightly. */
  #restore(state: TaskState): void {
    this.#runIntoStop(0);
    setSignalMask(this.task.tid, state.signalMask);
    this.task.setRegisters(state.registers);
  }

  /** Brings the task into a stop inside get_signal, before a signal is taken from the queue. */
  #runIntoStop(signal: number): void {
    let pass = signal;
    for (;;) {
      interrupt(this.task.tid);
      resume(this.task.tid, pass);
      this.task.forget();
      const status = this.#wait();
      if (status.event === TraceEvent.stop) return;
      pass = status.event === 0 && !status.systemCall ? status.signal : 0;
    }
  }

  #wait(): Stopped {
    const status = waitBriefly(this.task.tid);
    if (status?.kind === 'stopped') return status;
    this.#written = false;
    if (status === undefined) {
      throw new TraplineError({
        code: 'busy',
        message: `a system call of task ${this.task.tid} takes too long`,
        hint: 'it goes on by itself; try again later',
      });
    }
    throw new TraplineError({
      code: 'no-process',
      message: `process ${this.#stopped.pid} ended while it was prepared`,
    });
  }
}

type Stopped = WaitStatus & { readonly kind: 'stopped' };

/** Entry and exit of a system call look the same; a batch counts them. */
function isEntry(status: Stopped): boolean {
  return status.event === 0 && status.systemCall;
}

/** Polls before the processor is left to others: a call takes tens of microseconds as a rule, a poll a few. */
const POLLS = 50;

/** A call is polled for at first: to sleep and be woken would take longer. */
function waitBriefly(tid: Tid): WaitStatus | undefined {
  for (let polls = 0; polls < POLLS; polls++) {
    const status = held.poll(tid);
    if (status !== undefined) return status;
  }
  const deadline = performance.now() + STEP_PATIENCE;
  for (let pause = 10; performance.now() < deadline; pause = Math.min(pause * 2, 1000)) {
    const status = held.poll(tid);
    if (status !== undefined) return status;
    // The end of a process's first task is not told before its others, which we hold, are let go.
    if (!isLive(tid)) return { kind: 'none' };
    sleepMicroseconds(pause);
  }
  return undefined;
}

/**
 * Inside sigsuspend, ppoll and their like a task has a mask for the time of the call. A signal that only this
 * one lets in must find the call waiting, or its EINTR is lost; so the task is given the mask that it will
 * return to. If we die next, the kernel makes the call again, with its mask (kernel/ptrace.c,
 * PTRACE_SETSIGMASK ends the temporary one).
 * @returns the mask
 */
export function leaveTemporaryMask(tid: Tid): bigint {
  const mask = getSignalMask(tid);
  setSignalMask(tid, mask);
  return mask;
}

/** The `cs` of 64-bit user code (__USER_CS, arch/x86/include/asm/segment.h). */
const USER_CS = 0x33n;

/**
 * Best a task outside of system calls; else one whose call the kernel restarts whether or not a handler
 * runs. Processes that only share the memory have other descriptors and can't serve.
 */
function chooseTask(stopped: StoppedProcess): StoppedTask {
  let best: StoppedTask | undefined;
  let bestRank = 3;
  for (const task of stopped.tasks) {
    const { registers } = task;
    if (task.pid !== stopped.pid || registers.get('cs') !== USER_CS) continue;
    const restart = restartOf(registers);
    const simple = restart.rip === registers.get('rip');
    const rank = simple ? 0 : restart.handled.rip === restart.rip ? 2 : 1;
    if (rank >= bestRank) continue;
    best = task;
    bestRank = rank;
  }
  if (best !== undefined) return best;
  throw new TraplineError({
    code: 'unsupported',
    message: `process ${stopped.pid} has no 64-bit task`,
  });
}

/**
 * A task in a restartable sequence was interrupted by us, so the sequence has to be aborted: the kernel
 * would do it on the way back to user mode, but not once rip points elsewhere (kernel/rseq.c,
 * rseq_ip_fixup).
 */
function leaveRestartableSequence(stopped: StoppedProcess, tid: Tid, registers: Registers): void {
  const area = getRseqArea(tid);
  if (area === undefined) return;
  // struct rseq: u32 cpu_id_start, u32 cpu_id, u64 rseq_cs.
  const pointer = readWords(stopped, area + 8n, 1)?.[0];
  if (pointer === undefined || pointer === 0n) return;
  // struct rseq_cs: u32 version, u32 flags, u64 start_ip, u64 post_commit_offset, u64 abort_ip.
  const [, start, length, abort] = readWords(stopped, pointer, 4) ?? [];
  if (start === undefined || length === undefined || abort === undefined) return;
  if (BigInt.asUintN(64, registers.get('rip') - start) < length) registers.set('rip', abort);
}

function readWords(stopped: StoppedProcess, at: bigint, count: number): BigUint64Array | undefined {
  const words = new BigUint64Array(count);
  const bytes = new Uint8Array(words.buffer);
  return stopped.readInto(address(at), bytes) === bytes.byteLength ? words : undefined;
}
