/** Leaving an address space: stop after stop, until what is taken out has been found quiet. */

import type { Pid } from '../../base/brand.ts';
import { findBlobPlace } from '../../process/blob-place.ts';
import type { ProgramRow, SessionRow } from '../../process/control.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { sleepMicroseconds } from '../../sys/wait.ts';
import { writeRows } from './apply.ts';
import { ControlBlock } from './block.ts';
import type { TargetFiles } from './target.ts';
import { releaseQuiet, unmapSession, withdrawPrograms } from './withdraw.ts';

/** Bytes of the longest batch of injected calls. */
export const BLOB_BYTES = 1024;
/** How often a stop is repeated while a task is in the way. */
export const ATTEMPTS = 40;
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
}

/** Takes programs, and if `leaving` the session's memory, out of one address space. */
export function depart(departure: Departure): DepartureResult {
  const { pid, files, leaving } = departure;
  const problems: string[] = [];
  let sitesRestored = 0;
  let removed: readonly ProgramRow[] | undefined;
  let pause = FIRST_PAUSE;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const isDone = departure.stopped((stopped) => {
      const maps = stopped.maps();
      const block = ControlBlock.read(maps, (from, length) => stopped.read(from, length));
      const session = [...block.sessions.values()].find(departure.session);
      if (session === undefined) return true;
      let isQuiet: boolean;
      if (removed === undefined) {
        removed = [...block.programs.values()].filter(
          (program) => program.session === session.index && departure.which(program),
        );
        const withdrawal = withdrawPrograms(stopped, block, removed, files.original(pid));
        problems.push(...withdrawal.problems);
        ({ sitesRestored, isQuiet } = withdrawal);
      } else {
        isQuiet = releaseQuiet(stopped, block, removed);
        writeRows(stopped, block);
      }
      if (!isQuiet || !leaving) return isQuiet;
      const blob = findBlobPlace(stopped, files.blobPlaces(pid, maps), BLOB_BYTES);
      return unmapSession(stopped, blob, block, session);
    });
    if (isDone) return { sitesRestored, problems };
    sleepMicroseconds(pause);
    pause = nextPause(pause);
  }
  if (leaving) {
    problems.push(
      `the stubs of process ${pid} stay: a task still stands in one, or its stack says so`,
    );
  }
  return { sitesRestored, problems };
}
