/** One task while it is held. */

import type { Pid, Tid } from '../base/brand.ts';
import { getRegisters, setRegisters } from '../sys/ptrace.ts';
import type { Registers } from '../sys/registers.ts';
import { readTaskStatus, type TaskStatus } from './tasks.ts';

/** How a task came to its stop: by us, or its process was stopped already (SIGSTOP) and will stay so. */
export type StopKind = 'interrupt' | 'group-stop';

/** One task, held in a stop. Valid until its StoppedProcess is disposed. */
export class StoppedTask {
  readonly tid: Tid;
  readonly pid: Pid;
  readonly kind: StopKind;
  #registers: Registers | undefined;
  #status: TaskStatus | undefined;

  constructor(pid: Pid, tid: Tid, kind: StopKind) {
    this.pid = pid;
    this.tid = tid;
    this.kind = kind;
  }

  /** The general registers; a change counts only when given to {@link setRegisters}. */
  get registers(): Registers {
    this.#registers ??= getRegisters(this.tid);
    return this.#registers.copy();
  }

  /** What the kernel says of it, asked once: while it is held it changes nothing; undefined when it was killed. */
  get status(): TaskStatus | undefined {
    return (this.#status ??= readTaskStatus(this.tid));
  }

  setRegisters(registers: Registers): void {
    setRegisters(this.tid, registers);
    this.#registers = registers.copy();
  }

  /** Forgets what is known of it: the task ran. */
  forget(): void {
    this.#registers = undefined;
    this.#status = undefined;
  }
}
