/** Leaving an address space: stop after stop, until what is taken out has been found quiet. */

import type { Pid } from '../../base/brand.ts';
import { debugLog } from '../../base/debug.ts';
import { messageOf, TraplineError } from '../../base/errors.ts';
import type { ProgramRow, SessionRow } from '../../process/control-rows.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { pause as pauseHolding } from '../../process/hold.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { writeRows } from './apply.ts';
import { ControlBlock, type ReadMemory } from './block.ts';
import { mapsIfReadable, MemoryReader } from './spaces.ts';
import { BlobForesight, type TargetFiles } from './target-files.ts';
import { patchOf } from './patches.ts';
import { isCache } from './verify.ts';
import { isOurs, releaseQuiet, removeSession, unmapUnused, withdrawPrograms } from './withdraw.ts';

const log = debugLog('jump');

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
    const ahead = lookAhead(departure);
    const isDone = departure.stopped((stopped) =>
      tryDeparture(stopped, departure, progress, ahead),
    );
    if (isDone) return { sitesRestored: progress.sitesRestored, problems, isQuiet: true };
    pauseHolding(pause);
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

/** What is looked up before a stop, to be believed under it only if nothing changed. */
interface Ahead {
  readonly maps: readonly MemoryMapping[];
  readonly block: ControlBlock | undefined;
  readonly blobs: BlobForesight;
}

function lookAhead({ pid, files }: Departure): Ahead {
  const maps = mapsIfReadable(pid);
  using reader = new MemoryReader(pid);
  let block: ControlBlock | undefined;
  try {
    block = ControlBlock.read(maps, reader.read);
    for (const site of block.sites.values()) patchOf(site);
  } catch (error) {
    // It may just be on its way: under the stop it is read again, and what is wrong then is said.
    if (!(error instanceof TraplineError)) throw error;
    log('the control block of process %d could not be read: %s', pid, messageOf(error));
  }
  return { maps, block, blobs: new BlobForesight(files, pid, maps) };
}

/** The control block, verified against the mappings as they are under the stop. */
function blockUnderStop(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  ahead: Ahead,
): ControlBlock {
  const read: ReadMemory = (from, length) => stopped.read(from, length);
  const { block } = ahead;
  const holds =
    block !== undefined &&
    holdsTheSame(ahead.maps, maps) &&
    block.generation === ControlBlock.readGeneration(maps, read);
  return holds ? block : ControlBlock.read(maps, read);
}

/** Whether what rows are verified against is still the same: our mappings. */
function holdsTheSame(before: readonly MemoryMapping[], now: readonly MemoryMapping[]): boolean {
  const known = describeOurs(before);
  const found = describeOurs(now);
  return known.length === found.length && known.every((one, index) => one === found[index]);
}

function describeOurs(maps: readonly MemoryMapping[]): string[] {
  return maps
    .filter((mapping) => isOurs(mapping) || isCache(mapping, maps))
    .map((one) => `${one.path} ${one.start} ${one.end} ${one.executable} ${one.shared}`);
}

/** @returns whether all is done. */
function tryDeparture(
  stopped: StoppedProcess,
  { pid, files, leaving, session: isLeaving, which }: Departure,
  progress: Progress,
  ahead: Ahead,
): boolean {
  const maps = stopped.maps();
  const block = blockUnderStop(stopped, maps, ahead);
  const target = { stopped, maps, original: files.original(pid, maps) };
  const session = [...block.sessions.values()].find(isLeaving);
  if (session === undefined && block.contradictions > 0) {
    progress.problems.push(
      `process ${pid} has overwritten its control block: nothing is given back`,
    );
    return true;
  }
  // Another process that shares this memory was left before, where nobody can tell that they share it.
  if (block.address === undefined) return true;
  if (progress.removed === undefined) {
    const removed = [...block.programs.values()].filter(
      (program) => program.session === session?.index && which(program),
    );
    progress.removed = removed;
    const withdrawal = withdrawPrograms(target, block, removed);
    progress.problems.push(...withdrawal.problems);
    progress.sitesRestored += withdrawal.sitesRestored;
    if (!withdrawal.isQuiet) return false;
  } else {
    const released = releaseQuiet(target, block, progress.removed);
    writeRows(stopped, block);
    progress.problems.push(...released.problems);
    if (!released.isQuiet) return false;
  }
  if (!leaving) return true;
  if (session !== undefined && !removeSession(stopped, maps, block, session)) return false;
  return unmapUnused(stopped, maps, () => ahead.blobs.choose(stopped, maps), block);
}
