/**
 * What a session leaves that was killed before it could describe itself, or in the middle of a call that
 * it had injected. Nothing of it is named by a row: it is found by what it is.
 */

import { readdirSync, readlinkSync } from 'node:fs';

import { address, hex, type Pid } from '../../base/brand.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import { ControlBlock, readIfThere, type ReadMemory } from '../../engines/jump/block.ts';
import { ATTEMPTS, FIRST_PAUSE, nextPause } from '../../engines/jump/depart.ts';
import { BLOB_BYTES, closeFiles } from '../../engines/jump/injection.ts';
import {
  JUMP_BYTES,
  JUMP_OPCODE,
  PREFIX,
  SHORT_JUMP_BYTES,
  SHORT_JUMP_OPCODE,
} from '../../engines/jump/patches.ts';
import { isTracer } from '../../engines/jump/spaces.ts';
import { findUnused, isOurs, releaseQuiet, unmapUnused } from '../../engines/jump/withdraw.ts';
import { cleanBlobPlace, findBlobPlace, type BlobPlace } from '../../process/blob-place.ts';
import { CONTROL_NAME, LIVENESS_NAME, SEGMENT_NAME } from '../../process/control.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { findModified } from '../../process/modified.ts';
import { StoppedProcess } from '../../process/stop.ts';
import { visibleTask } from '../../process/tasks.ts';
import { sleepMicroseconds } from '../../sys/wait.ts';
import { isFile, type FileCache } from '../files/files.ts';

/** What was done about remains. */
export interface RemainsReport {
  readonly sitesRestored: number;
  /** What stays, and why. */
  readonly kept: readonly string[];
}

/**
 * Gives back what no row names: the bytes of injected calls, mappings, descriptors. What living sessions use
 * is named by their rows.
 * @throws TraplineError when the process can't be stopped.
 */
export function cleanRest(pid: Pid, files: FileCache): RemainsReport {
  let pause = FIRST_PAUSE;
  let sitesRestored = 0;
  for (let attempt = 1; ; attempt++) {
    const report = tryCleanRest(pid, files);
    sitesRestored += report.sitesRestored;
    // A task that stood in a stub leaves it as soon as it may run again.
    if (!report.isBusy || attempt >= ATTEMPTS) return { sitesRestored, kept: report.kept };
    sleepMicroseconds(pause);
    pause = nextPause(pause);
  }
}

/** A process that is looked at, and not held. */
export interface View {
  readonly pid: Pid;
  readonly maps: readonly MemoryMapping[];
  readonly read: ReadMemory;
}

/**
 * Whether {@link cleanRest} would find something. Nobody is held: what a living session is about to do may be taken for it.
 */
export function hasRemains(
  { pid, maps, read }: View,
  block: ControlBlock,
  files: FileCache,
): boolean {
  if ([...block.sites.values()].some(({ state }) => state === 'retired')) return true;
  if (findUnused(maps, block).length > 0 || openFiles(pid).length > 0) return true;
  const modified = findModified(pid, maps).filter((one) => one.executable && isFile(one));
  return files.tails(pid, maps, modified).some(({ address: at, original }) => {
    const found = readIfThere(read, at, original.byteLength);
    return found !== undefined && Buffer.compare(found, original) !== 0;
  });
}

/** What one stop came to; it is busy if a task stood in what would have been given back. */
interface Attempt extends RemainsReport {
  readonly isBusy: boolean;
}

function tryCleanRest(pid: Pid, files: FileCache): Attempt {
  using stopped = StoppedProcess.stop(pid);
  const maps = stopped.maps();
  const kept: string[] = [];
  const modified = findModified(pid, maps).filter((one) => one.executable && isFile(one));
  for (const place of files.tails(pid, maps, modified)) {
    if (!cleanBlobPlace(stopped, place)) {
      kept.push(`process ${pid} still runs what a killed session left at ${hex(place.address)}`);
    }
  }
  if (kept.length > 0) return { sitesRestored: 0, kept, isBusy: true };
  if (!maps.some(isOurs) || isTracer(maps)) return { sitesRestored: 0, kept, isBusy: false };
  const block = ControlBlock.read(maps, (from, length) => stopped.read(from, length));
  if (block.contradictions > 0) {
    kept.push(`process ${pid} has overwritten its control block: nothing more is given back`);
    return { sitesRestored: 0, kept, isBusy: false };
  }
  // A session that was killed between its last two stops: its row is gone, and its sites' were waiting for a task.
  const target = { stopped, maps, original: files.original(pid, maps) };
  const { problems } = releaseQuiet(target, block, []);
  const arenas = findUnused(maps, block).filter(({ executable }) => executable);
  const sitesRestored = restoreJumps(stopped, modified, arenas, files);
  const place = (): BlobPlace => findBlobPlace(stopped, files.blobPlaces(pid, maps), BLOB_BYTES);
  const descriptors = openFiles(pid);
  if (descriptors.length > 0) closeFiles(stopped, place(), descriptors);
  const isBusy = !unmapUnused(stopped, maps, place, block) && problems.length === 0;
  if (isBusy) {
    kept.push(`the stubs of process ${pid} stay: a task still stands in one, or its stack says so`);
  }
  return { sitesRestored, kept: [...kept, ...problems], isBusy };
}

/**
 * Takes out jumps into arenas that no row describes any more: the target may have wiped its control block,
 * and must not be left with jumps to nowhere.
 * @returns how many.
 */
function restoreJumps(
  stopped: StoppedProcess,
  modified: readonly MemoryMapping[],
  arenas: readonly MemoryMapping[],
  files: FileCache,
): number {
  let restored = 0;
  if (arenas.length === 0) return restored;
  for (const mapping of modified) {
    const { start, end } = mapping;
    const found = Buffer.from(stopped.read(start, Number(end - start)));
    const file = files.bytesOf(stopped.pid, mapping);
    const leads = (target: number): boolean => {
      const goal = start + BigInt(target);
      return arenas.some((arena) => goal >= arena.start && goal < arena.end);
    };
    for (const { at, bytes } of foreignJumps(found, file, leads)) {
      stopped.write(address(start + BigInt(at)), file.subarray(at, at + bytes));
      restored++;
    }
  }
  return restored;
}

interface FoundJump {
  /** From the mapping's start. */
  readonly at: number;
  readonly bytes: number;
}

/** Bytes of an opcode and the displacement behind it, less one: so far before a changed byte the opcode is. */
const BEFORE = JUMP_BYTES - 1;

/**
 * Jumps that the file does not have and that lead to where `leads` says, with their prefixes, the short jumps to
 * those, and what follows of others that they lie over, whose first bytes are not there: each with all that touches
 * it, as one. A short jump comes before what it leads to.
 */
function foreignJumps(
  found: Buffer,
  file: Uint8Array,
  leads: (target: number) => boolean,
): FoundJump[] {
  const changed = [...differences(found, file)];
  const near = new Map<number, FoundJump>();
  const short: FoundJump[] = [];
  // The opcode may be the file's own: of a jump that was probed itself.
  for (const at of opcodesBefore(found, changed, JUMP_OPCODE, JUMP_BYTES)) {
    if (!leads(at + JUMP_BYTES + found.readInt32LE(at + 1))) continue;
    let first = at;
    while (first > 0 && found[first - 1] === PREFIX && file[first - 1] !== PREFIX) first--;
    near.set(at, { at: first, bytes: at + JUMP_BYTES - first });
  }
  if (near.size === 0) return [];
  for (const at of opcodesBefore(found, changed, SHORT_JUMP_OPCODE, SHORT_JUMP_BYTES)) {
    const leadsToOne = near.has(at + SHORT_JUMP_BYTES + found.readInt8(at + 1));
    if (leadsToOne) short.push({ at, bytes: SHORT_JUMP_BYTES });
  }
  const all = joinTouching([...near.values(), ...short], new Set(changed));
  const isShort = (jump: FoundJump): boolean =>
    short.some(({ at }) => at >= jump.at && at < jump.at + jump.bytes);
  return [...all.filter(isShort), ...all.filter((jump) => !isShort(jump))];
}

/** Where an opcode stands of which, or of whose displacement, a byte was changed. */
function opcodesBefore(
  found: Buffer,
  changed: readonly number[],
  opcode: number,
  bytes: number,
): Set<number> {
  const places = changed.flatMap((at) => Array.from({ length: bytes }, (_, back) => at - back));
  const isThere = (at: number): boolean =>
    at >= 0 && at + bytes <= found.length && found[at] === opcode;
  return new Set(places.filter(isThere));
}

/** Jumps that touch each other or changed bytes close behind them, as one each, in order. */
function joinTouching(jumps: readonly FoundJump[], changed: ReadonlySet<number>): FoundJump[] {
  const joined: { at: number; bytes: number }[] = [];
  for (const { at, bytes } of jumps.toSorted((one, other) => one.at - other.at)) {
    const last = joined.at(-1);
    const isTouching = last !== undefined && at <= last.at + last.bytes;
    const current = isTouching ? last : { at, bytes: 0 };
    if (!isTouching) joined.push(current);
    let end = Math.max(current.at + current.bytes, at + bytes);
    for (let next = end; next < end + BEFORE; next++) if (changed.has(next)) end = next + 1;
    current.bytes = end - current.at;
  }
  return joined;
}

/** Where bytes are others than the file's. */
function* differences(found: Buffer, file: Uint8Array): Generator<number> {
  for (let page = 0; page < found.length; page += PAGE_BYTES) {
    const end = Math.min(page + PAGE_BYTES, found.length);
    if (Buffer.compare(found.subarray(page, end), file.subarray(page, end)) === 0) continue;
    for (let at = page; at < end; at++) if (found[at] !== file[at]) yield at;
  }
}

/** Files of ours that a process still has open: a child that was forked in the middle of an injected call. */
function openFiles(pid: Pid): number[] {
  const folder = `/proc/${visibleTask(pid)}/fd`;
  return readdirSync(folder)
    .filter((name) => isOurFile(`${folder}/${name}`))
    .map(Number);
}

const OUR_FILES = new Set(
  [CONTROL_NAME, LIVENESS_NAME, SEGMENT_NAME].map((name) => `/memfd:${name} (deleted)`),
);

function isOurFile(link: string): boolean {
  try {
    return OUR_FILES.has(readlinkSync(link));
  } catch {
    return false; // closed meanwhile
  }
}
