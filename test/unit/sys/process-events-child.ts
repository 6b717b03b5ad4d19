/**
 * Opens the process connector as somebody else, and writes to standard output as JSON what came of it.
 *
 *   node process-events-child.js [UID]    UID: who to become first, with a group of the same number
 */

import { spawnSync } from 'node:child_process';

import { ProcessEvents, type EventsRefusal } from '../../../src/sys/process-events.ts';

/** What is written to standard output. */
export interface Outcome {
  readonly refusal?: EventsRefusal;
  /** Whether the fork and the exec of a child of our own were told. */
  readonly isTold?: boolean;
}

const [uid] = process.argv.slice(2);
if (uid !== undefined) {
  process.setgroups?.([]);
  process.setgid?.(Number(uid));
  process.setuid?.(Number(uid));
}
console.log(JSON.stringify(outcome()));

function outcome(): Outcome {
  const events = ProcessEvents.open();
  if (!(events instanceof ProcessEvents)) return { refusal: events };
  using opened = events;
  const child = spawnSync('true');
  const { forked, executed } = opened.poll();
  const has = (pids: ReadonlySet<number>): boolean => pids.has(child.pid);
  return { isTold: has(forked) && has(executed) };
}
