/**
 * Tasks that we seized and could not get to stop, so that they can't be detached yet: ptrace lets
 * go of stopped tasks only. They will stop when they leave the kernel, and have to be let go then.
 */

import { type Tid } from '../base/brand.ts';
import { detach, TraceEvent } from '../sys/ptrace.ts';
import { pollTask } from './expected.ts';
import { keepTaskCall } from './interrupted.ts';
import { ignoreGone } from './tasks.ts';

const lingering = new Set<Tid>();

/** Has a task let go as soon as it stops, by {@link releaseLingering}. */
export function linger(tid: Tid): void {
  lingering.add(tid);
}

/**
 * Lets go of every lingering task that has stopped. The tracer calls this regularly for as long as
 * it answers more than 0.
 * @returns how many still linger.
 */
export function releaseLingering(): number {
  for (const tid of lingering) if (tryRelease(tid)) lingering.delete(tid);
  return lingering.size;
}

/** @returns whether a task lingered; it is let go, then. */
export function releaseIfLingering(tid: Tid): boolean {
  if (!lingering.has(tid)) return false;
  if (tryRelease(tid)) lingering.delete(tid);
  return true;
}

/** Lets go of one seized task if it stops or has ended. @returns whether that is done. */
export function tryRelease(tid: Tid): boolean {
  const status = pollTask(tid);
  if (status === undefined) return false;
  if (status.kind !== 'stopped') return true;
  if (status.event === TraceEvent.stop) ignoreGone(() => keepTaskCall(tid));
  const isSignal = status.event === 0 && !status.systemCall;
  detach(tid, isSignal ? status.signal : 0);
  return true;
}
