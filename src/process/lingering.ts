/**
 * Tasks that we seized and could not get to stop, so that they can't be detached yet: ptrace lets
 * go of stopped tasks only. They will stop when they leave the kernel, and have to be let go then.
 */

import { type Tid } from '../base/brand.ts';
import { detach, TraceEvent } from '../sys/ptrace.ts';
import type { StopStatus, WaitStatus } from '../sys/wait.ts';
import { keepTaskCall } from './interrupted.ts';
import { ignoreGone } from './tasks.ts';

/** Looks whether a task has something to tell, without waiting; undefined when it has not. */
export type PollTask = (tid: Tid) => WaitStatus | undefined;

const lingering = new Set<Tid>();

/** Has a task let go as soon as it stops, by {@link releaseLingering}. */
export function linger(tid: Tid): void {
  lingering.add(tid);
}

/** Lets go of every lingering task that has stopped. To be called now and then. @returns how many still linger */
export function releaseLingering(poll: PollTask): number {
  for (const tid of lingering) if (tryRelease(tid, poll)) lingering.delete(tid);
  return lingering.size;
}

/** @returns whether a task that has stopped lingered; it is let go, then. */
export function releaseIfLingering(tid: Tid, status: StopStatus): boolean {
  if (!lingering.delete(tid)) return false;
  release(tid, status);
  return true;
}

/** Lets go of one seized task if it stops or has ended. @returns whether that is done. */
export function tryRelease(tid: Tid, poll: PollTask): boolean {
  const status = poll(tid);
  if (status?.kind === 'stopped') release(tid, status);
  return status !== undefined;
}

function release(tid: Tid, { event, signal, systemCall }: StopStatus): void {
  if (event === TraceEvent.stop) ignoreGone(() => keepTaskCall(tid));
  const isSignal = event === 0 && !systemCall;
  detach(tid, isSignal ? signal : 0);
}
