/** Consumers that announce: whether a target's tasks may make the calls that it takes. */

import { TraplineError } from '../../base/errors.ts';
import type { FailedConsumer } from '../../probe/engine.ts';
import { ensureCallsPass } from '../../process/seccomp.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import type { ConsumerRequest } from './prepare.ts';

/** The requests that announce, where the filters of a task would not let it: others can be served. */
export function refuseAnnouncing(
  stopped: StoppedProcess,
  requests: readonly ConsumerRequest[],
): FailedConsumer<ConsumerRequest>[] {
  const announcing = requests.filter(({ program }) => program.action === 'announce');
  if (announcing.length === 0) return [];
  try {
    ensureCallsPass(stopped.tasks, 'announcements');
    return [];
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    return announcing.map((request) => ({ request, reason: error.message }));
  }
}
