/** Taking out what dead sessions left in processes. */

import type { Pid } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import { ControlBlock } from '../../engines/jump/block.ts';
import { depart } from '../../engines/jump/depart.ts';
import { mapsIfReadable, MemoryReader } from '../../engines/jump/spaces.ts';
import { isOurs } from '../../engines/jump/withdraw.ts';
import type { SessionRow } from '../../process/control-rows.ts';
import { refuseOwnChild } from '../../process/permission.ts';
import { StoppedProcess } from '../../process/stop.ts';
import type { FileCache } from '../files/files.ts';
import type { CleanReport } from './held.ts';
import { chosen, isAlive, mappedBytes } from './leftovers.ts';
import { cleanRest, hasRemains } from './remains.ts';

/**
 * Takes out what dead sessions left in the given processes, or in every one that holds something. One in which that can't
 * be done keeps nobody from cleaning the others: it is reported with what it keeps.
 * @throws TraplineError when a process that was named is not there, or the only one that was named can't be stopped.
 */
export function cleanProcesses(
  pids: readonly number[] | undefined,
  files: FileCache,
): CleanReport[] {
  return chosen(pids).flatMap((pid) => {
    try {
      return [cleanProcess(pid, files)];
    } catch (error) {
      if (pids?.length === 1 || !(error instanceof TraplineError)) throw error;
      // It took everything with it.
      if (error.code === 'no-process') return [];
      return [{ ...nothingDone(pid), kept: [error.message] }];
    }
  });
}

function nothingDone(pid: Pid): CleanReport {
  return { pid, sessionsRemoved: 0, sitesRestored: 0, bytesUnmapped: 0, kept: [] };
}

function cleanProcess(pid: Pid, files: FileCache): CleanReport {
  const before = mapsIfReadable(pid);
  const found = lookAt(pid, files);
  // Whoever holds it for a living session is not asked to let it go.
  if (found.isLivingOnly && !found.hasRemains) return nothingDone(pid);
  try {
    refuseOwnChild(pid);
    const done = takeOut(pid, found, files);
    const left = new Set(mapsIfReadable(pid).map(({ start }) => start));
    const unmapped = before.filter(({ start }) => !left.has(start));
    return { ...done, bytesUnmapped: mappedBytes(unmapped) };
  } catch (error) {
    // What else is there the living one gives back as it leaves: it may well be its own, of a change under way.
    const isBusy = error instanceof TraplineError && error.code === 'busy';
    if (isBusy && found.isLivingOnly) return nothingDone(pid);
    throw error;
  }
}

/** What a look tells, without holding anybody. */
interface Found {
  readonly dead: readonly SessionRow[];
  /** Why the dead ones are not known, if so. */
  readonly unreadable?: string;
  /** Sessions are there, and all of them live. */
  readonly isLivingOnly: boolean;
  /** Whether something seems to be there that is no session's; not looked for where there are dead ones. */
  readonly hasRemains: boolean;
}

const NOTHING: Found = { dead: [], isLivingOnly: false, hasRemains: false };

function lookAt(pid: Pid, files: FileCache): Found {
  const maps = mapsIfReadable(pid);
  if (!maps.some(isOurs)) return NOTHING;
  try {
    using reader = new MemoryReader(pid);
    const block = ControlBlock.read(maps, reader.read);
    // Read after the rows: what a row names that has just come is mapped by now.
    const mapped = mapsIfReadable(pid);
    const sessions = [...block.sessions.values()];
    const dead = sessions.filter((row) => !isAlive(row, mapped, reader.read));
    const isLivingOnly = sessions.length > 0 && dead.length === 0 && block.contradictions === 0;
    const view = { pid, maps, read: reader.read };
    return { dead, isLivingOnly, hasRemains: isLivingOnly && hasRemains(view, block, files) };
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    if (error.code === 'not-permitted' || error.code === 'no-process') throw error;
    return { ...NOTHING, unreadable: error.message };
  }
}

function takeOut(
  pid: Pid,
  { dead, unreadable }: Found,
  files: FileCache,
): Omit<CleanReport, 'bytesUnmapped'> {
  const kept = unreadable === undefined ? [] : [unreadable];
  let sessionsRemoved = 0;
  let sitesRestored = 0;
  for (const row of dead) {
    const result = depart({
      pid,
      files,
      leaving: true,
      session: ({ id }) => id === row.id,
      which: () => true,
      stopped: (action) => {
        using stopped = StoppedProcess.stop(pid);
        return action(stopped);
      },
    });
    sitesRestored += result.sitesRestored;
    kept.push(...result.problems);
    if (result.problems.length === 0) sessionsRemoved++;
  }
  if (kept.length === 0) {
    const rest = cleanRest(pid, files);
    sitesRestored += rest.sitesRestored;
    kept.push(...rest.kept);
  }
  return { pid, sessionsRemoved, sitesRestored, kept };
}
