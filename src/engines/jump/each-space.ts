/** The address spaces that hold targets' memory: their own, and those of the children that have inherited it. */

import type { Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { TraplineError } from '../../base/errors.ts';
import { held } from '../../process/held.ts';
import { oneForEachMemory } from '../../process/tasks.ts';
import { findProcesses, SEGMENT_PATH } from './spaces.ts';

const log = debugLog('jump');

/** A target, as far as its memory is looked for. */
export interface SpaceOwner {
  readonly pid: Pid;
  /** Its segment; undefined while nothing of ours is anywhere. */
  readonly memory: { readonly inode: bigint } | undefined;
}

/**
 * One process for each address space that maps a target's segment. For all that share the target's own memory it stands
 * itself. One look at the processes of the machine serves all targets.
 */
export function findHolders<Owner extends SpaceOwner>(
  owners: Iterable<Owner>,
): Map<Owner, readonly Pid[]> {
  const found = new Map<Owner, readonly Pid[]>();
  const wanted = new Map<bigint, { readonly owner: Owner; readonly pids: Pid[] }>();
  for (const owner of owners) {
    if (owner.memory === undefined) continue;
    // A program that starts up has forked nobody.
    if (held.isStarting(owner.pid)) found.set(owner, [owner.pid]);
    else wanted.set(owner.memory.inode, { owner, pids: [] });
  }
  if (wanted.size === 0) return found;
  findProcesses((maps, pid) => {
    for (const { inode, path } of maps) {
      if (path !== SEGMENT_PATH) continue;
      const pids = wanted.get(inode)?.pids;
      if (pids?.includes(pid) === false) pids.push(pid);
    }
    return false;
  });
  for (const { owner, pids } of wanted.values()) {
    const own = pids.filter((pid) => pid === owner.pid);
    found.set(owner, oneForEachMemory([...own, ...pids.filter((pid) => pid !== owner.pid)]));
  }
  return found;
}

/**
 * Does something in each address space of some targets: in those too that are forked meanwhile, by one in which it was
 * not done yet. One that ends meanwhile is passed over.
 */
export function inEachSpace<Owner extends SpaceOwner>(
  owners: readonly Owner[],
  action: (owner: Owner, pid: Pid) => void,
): void {
  const done = new Map(owners.map((owner) => [owner, new Set<Pid>()]));
  for (let isDone = false; !isDone;) {
    isDone = true;
    for (const [owner, pids] of findHolders(owners)) {
      for (const pid of pids) {
        if (done.get(owner)?.has(pid) !== false) continue;
        done.get(owner)?.add(pid);
        isDone = false;
        ignoreGone(pid, () => action(owner, pid));
      }
    }
  }
}

function ignoreGone(pid: Pid, action: () => void): void {
  try {
    action();
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'no-process') throw error;
    log('process %d ended: %s', pid, error.message);
  }
}
