/** Hardware shadow stacks (Intel SDM volume 1, chapter 17), under which returns must match calls. */

import { TraplineError } from '../../base/errors.ts';
import type { StoppedProcess } from '../../process/stop.ts';

/**
 * A displaced call pushes the return address of its original place by hand, which a shadow stack does not
 * see: the return would fault.
 * @throws TraplineError `unsupported` when a task of the process has a shadow stack.
 */
export function refuseShadowStacks(stopped: StoppedProcess): void {
  const task = stopped.tasks.find(({ status }) => status?.shadowStack === true);
  if (task === undefined) return;
  throw new TraplineError({
    code: 'unsupported',
    message: `task ${task.tid} of process ${stopped.pid} runs with a hardware shadow stack`,
    hint: 'Start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off to probe it.',
  });
}
