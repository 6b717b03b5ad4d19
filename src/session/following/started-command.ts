/** How the command of a session ends. */

import type { Pid, Tid } from '../../base/brand.ts';
import { expect, expectNoMore } from '../../process/expected.ts';
import { held } from '../../process/held.ts';
import { signalName } from '../../sys/signals.ts';
import { takeEnd, waitFor, type EndStatus } from '../../sys/wait.ts';
import { cpuNanoseconds } from '../targets/processor-time.ts';
import type { EndReply } from '../protocol.ts';

/** A command that this thread has started, whose end only it is told. */
export class StartedCommand {
  readonly pid: Pid;
  #end: EndReply | undefined;

  constructor(pid: Pid) {
    this.pid = pid;
    // The first task of a process has the process's id.
    const tid = pid as unknown as Tid;
    // When it was let go, and others are held still.
    expect(tid, (status) => {
      if (status.kind !== 'exited' && status.kind !== 'signaled') return;
      const spent = cpuNanoseconds(pid);
      takeEnd(tid);
      this.noteEnd(status, spent);
    });
  }

  /** How it has ended, if it has. */
  poll(): EndReply | undefined {
    // While it is held, its end is told to who follows.
    if (this.#end !== undefined || held.get(this.pid) !== undefined) return this.#end;
    // Read before the wait takes it away: a zombie still has its times.
    const spent = cpuNanoseconds(this.pid);
    const status = waitFor(this.pid, { poll: true });
    if (status?.kind === 'exited' || status?.kind === 'signaled') this.noteEnd(status, spent);
    return this.#end;
  }

  /** It was told. @param spent what it used of the processor */
  noteEnd(status: EndStatus, spent: number): void {
    expectNoMore(this.pid as unknown as Tid); // see above
    this.#end = {
      pid: this.pid,
      code: status.kind === 'exited' ? status.code : undefined,
      signal: status.kind === 'signaled' ? signalName(status.signal) : undefined,
      cpuNanoseconds: spent,
    };
  }
}
