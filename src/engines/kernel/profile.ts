/** `uprobe_profile`: how often each place was hit, by whomever, whether a record came of it or not. */

import { join } from 'node:path';

import { readText } from './tracefs.ts';

/**
 * The hits of the places of a session's events.
 * @returns by event, in the order in which its places were defined. The file names events without their
 * groups, which is why an event's name holds the session's.
 */
export function readProfile(tracefs: string, session: string): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const line of readText(join(tracefs, 'uprobe_profile')).split('\n')) {
    // "  PATH EVENT HITS", padded; newer kernels have a column for missed returns behind.
    const [, event, hits] = /\s(\w+)\s+(\d+)(?:\s+\d+)?\s*$/.exec(line) ?? [];
    if (event === undefined || !event.startsWith(`${session}_`)) continue;
    const places = found.get(event) ?? [];
    places.push(Number(hits));
    found.set(event, places);
  }
  return found;
}
