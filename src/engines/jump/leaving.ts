/** Taking consumers out of many targets at once: one look at the processes of the machine serves all of them. */

import { inEachSpace } from './each-space.ts';
import type { JumpTarget } from './target.ts';

/** Takes consumers out of targets and their children, by their indices. @returns what had to stay, for people. */
export function removeAll(consumers: ReadonlyMap<JumpTarget, ReadonlySet<number>>): string[] {
  const problems: string[] = [];
  const busy = new Set<JumpTarget>();
  inEachSpace([...consumers.keys()], (target, pid) => {
    const result = target.removeFrom(pid, consumers.get(target) ?? new Set());
    problems.push(...result.problems);
    if (!result.isQuiet) busy.add(target);
  });
  for (const [target, some] of consumers) target.noteRemoved(some, !busy.has(target));
  return problems;
}

/**
 * Takes everything of a session out of targets and their children. Children that are forked meanwhile are found too: it
 * ends when nobody maps the segments any more.
 * @returns what had to stay, for people.
 */
export function leaveAll(targets: readonly JumpTarget[]): string[] {
  const kept: string[] = [];
  inEachSpace(targets, (target, pid) => kept.push(...target.leaveSpace(pid)));
  // Last: what is hit until its site is restored is still recorded.
  for (const target of targets) target.endMemory();
  return kept;
}
