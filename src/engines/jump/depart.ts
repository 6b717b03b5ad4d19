/** Leaving an address space: stop after stop, until what is taken out has been found quiet. */

import type { Pid } from '../../base/brand.ts';
import { findBlobPlace, type BlobPlace } from '../../process/blob-place.ts';
import type { ProgramRow, SessionRow } from '../../process/control.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { sleepMicroseconds } from '../../sys/wait.ts';
import { writeRows } from './apply.ts';
import { ControlBlock } from './block.ts';
import type { TargetFiles } from './target.ts';
import { releaseQuiet, removeSession, unmapUnused, withdrawPrograms } from './withdraw.ts';

/** Bytes of the longest batch of injected calls. */
export const BLOB_BYTES = 1024;
/** How often a stop is repeated while a task is in the way. */
export const ATTEMPTS = 40;
/** The same where what stays may be given back with the next change. */
const ATTEMPTS_TO_RELEASE = 4;
/** The pause after the first attempt, in microseconds. */
export const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 20_000;

/** The pause after the next attempt. */
export function nextPause(pause: number): number {
  return Math.min(pause * 2, LONGEST_PAUSE);
}

/** What is to be taken out of which address space. */
export interface Departure {
  readonly pid: Pid;
  readonly files: TargetFiles;
  /** The session whose programs go. */
  readonly session: (row: SessionRow) => boolean;
  readonly which: (program: ProgramRow) => boolean;
  /** Whether the session's memory goes too. */
  readonly leaving: boolean;
  /** Runs an action under a stop of the address space. */
  readonly stopped: <T>(action: (stopped: StoppedProcess) => T) => T;
}

/** What a departure came to. */
export interface DepartureResult {
  readonly sitesRestored: number;
  /** What had to stay, for people. */
  readonly problems: string[];
  /** False when a task may still be in the code of what was taken out: the next departure gives it back. */
  readonly isQuiet: boolean;
}

/** Takes programs, and if `leaving` the session's memory, out of one address space. */
export function depart(departure: Departure): DepartureResult {
  const { pid, leaving } = departure;
  const problems: string[] = [];
  const progress: Progress = { removed: undefined, sitesRestored: 0, problems };
  let pause = FIRST_PAUSE;
  const attempts = leaving ? ATTEMPTS : ATTEMPTS_TO_RELEASE;
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const isDone = departure.stopped((stopped) => tryDeparture(stopped, departure, progress));
    if (isDone) return { sitesRestored: progress.sitesRestored, problems, isQuiet: true };
    sleepMicroseconds(pause);
    pause = nextPause(pause);
  }
  if (leaving) {
    problems.push(
      `the stubs of process ${pid} stay: a task still stands in one, or its stack says so`,
    );
  }
  return { sitesRestored: progress.sitesRestored, problems, isQuiet: false };
}

interface Progress {
  /** What the first stop took out of the lists. */
  removed: readonly ProgramRow[] | undefined;
  sitesRestored: number;
  readonly problems: string[];
}

/** @returns whether all is done. */
function tryDeparture(
  stopped: StoppedProcess,
  { pid, files, leaving, session: isLeaving, which }: Departure,
  progress: Progress,
): boolean {
  const maps = stopped.maps();
  const block = ControlBlock.read(maps, (from, length) => stopped.read(from, length));
  const session = [...block.sessions.values()].find(isLeaving);
  if (session === undefined && block.contradictions > 0) {
    progress.problems.push(
      `process ${pid} has overwritten its control block: nothing is given back`,
    );
    return true;
  }
  if (progress.removed === undefined) {
    const removed = [...block.programs.values()].filter(
      (program) => program.session === session?.index && which(program),
    );
    progress.removed = removed;
    const withdrawal = withdrawPrograms(stopped, block, removed, files.original(pid, maps));
    progress.problems.push(...withdrawal.problems);
    progress.sitesRestored += withdrawal.sitesRestored;
    if (!withdrawal.isQuiet) return false;
  } else {
    const isQuiet = releaseQuiet(stopped, block, progress.removed);
    writeRows(stopped, block);
    if (!isQuiet) return false;
  }
  if (!leaving) return true;
  if (session !== undefined && !removeSession(stopped, block, session)) return false;
  const place = (): BlobPlace => findBlobPlace(stopped, files.blobPlaces(pid, maps), BLOB_BYTES);
  return unmapUnused(stopped, place, block);
}
