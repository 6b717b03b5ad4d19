/**
 * Takes consumers, sites and whole sessions out of a stopped address space again. What a task may
 * still be in is kept until a later stop finds it quiet.
 */

import { address, hex, type Address } from '../../base/brand.ts';
import type { BlobPlace } from '../../process/blob-place.ts';
import {
  CONTROL_BYTES,
  type ProgramRow,
  type SessionRow,
  type SiteRow,
} from '../../process/control.ts';
import type { AddressRange } from '../../process/free-space.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import { findWords } from '../../process/stacks.ts';
import type { StoppedProcess } from '../../process/stop.ts';
import { Assembler } from '../../x64/assembler.ts';
import { readWord, writeRows, writeWord } from './apply.ts';
import type { ControlBlock } from './block.ts';
import { JUMP_BYTES } from './planner.ts';
import { unmapAreas, type Area } from './injection.ts';

/** The file's own bytes at a site, or undefined when the file can't be read any more. */
export type OriginalBytes = (site: SiteRow) => Uint8Array | undefined;

/** What a withdrawal came to. */
export interface Withdrawal {
  readonly sitesRestored: number;
  /** Programs and sites that are out, but whose memory a task may still be in. */
  readonly isQuiet: boolean;
  /** What could not be taken out, for people. */
  readonly problems: readonly string[];
}

/**
 * Takes programs out of their lists, and restores the sites that are left without any. Their code is
 * given back if nobody is in it.
 */
export function withdrawPrograms(
  stopped: StoppedProcess,
  block: ControlBlock,
  programs: readonly ProgramRow[],
  original: OriginalBytes,
): Withdrawal {
  const problems: string[] = [];
  const leaving = new Set(programs.map(({ index }) => index));
  const bySite = groupBySite(block);
  const empty: SiteRow[] = [];
  for (const site of new Set(programs.map((program) => block.sites.get(program.site)))) {
    if (site === undefined) continue;
    const all = bySite.get(site.index) ?? [];
    if (all.every(({ index }) => leaving.has(index))) empty.push(site);
    else relink(stopped, site, all, leaving);
  }
  const maps = empty.length > 0 ? stopped.maps() : [];
  let sitesRestored = 0;
  for (const site of empty) {
    const problem = restoreSite(stopped, maps, site, original);
    if (problem === undefined) {
      sitesRestored++;
      block.putSite({ ...site, state: 'retired' });
    } else {
      // Whoever changed the bytes may put our jump back: its stub stays, and does nothing.
      writeWord(stopped, site.list, site.epilogue);
      problems.push(problem);
    }
  }
  const isReleased = releaseQuiet(stopped, block, programs);
  writeRows(stopped, block);
  return { sitesRestored, isQuiet: isReleased, problems };
}

/**
 * Gives back the code of programs that left their lists and of retired sites, all of it or nothing.
 * @returns whether it was given back; if not, a later stop tries again.
 */
export function releaseQuiet(
  stopped: StoppedProcess,
  block: ControlBlock,
  programs: readonly ProgramRow[],
): boolean {
  const retired = [...block.sites.values()].filter(({ state }) => state === 'retired');
  const ranges = [
    ...retired.map(({ stub, stubBytes }) => range(stub, stubBytes)),
    ...programs.map(({ code, codeBytes }) => range(code, codeBytes)),
  ];
  if (!isQuiet(stopped, ranges)) return false;
  for (const { index } of programs) block.remove('programs', index);
  for (const site of retired) {
    for (const program of block.programsOf(site)) block.remove('programs', program.index);
    block.remove('sites', site.index);
  }
  return true;
}

/** Whether no task stands in any of the ranges and no stack word points into one. */
export function isQuiet(stopped: StoppedProcess, ranges: readonly AddressRange[]): boolean {
  if (ranges.length === 0) return true;
  const inside = stopped.tasks.some((task) => {
    const rip = task.registers.get('rip');
    return ranges.some(({ start, end }) => rip >= start && rip < end);
  });
  return !inside && findWords(stopped, sorted(ranges)).length === 0;
}

/**
 * Unmaps what a session has in the address space, and everything of ours if it was the last one. Its
 * programs are out already.
 * @returns false when a task may still be in the session's runtime: try again.
 */
export function unmapSession(
  stopped: StoppedProcess,
  place: BlobPlace,
  block: ControlBlock,
  session: SessionRow,
): boolean {
  if (!isQuiet(stopped, [range(session.runtime, session.runtimeBytes)])) return false;
  block.remove('sessions', session.index);
  const areas: Area[] = [
    { address: session.segment, bytes: session.segmentBytes },
    { address: session.liveness, bytes: session.livenessBytes },
    { address: session.cache, bytes: session.cacheBytes },
  ];
  const isLast = block.sessions.size === 0 && block.sites.size === 0;
  if (isLast) areas.push(...block.arenas.values());
  writeRows(stopped, block);
  if (isLast && block.address !== undefined) {
    areas.push({ address: block.address, bytes: CONTROL_BYTES });
  }
  unmapAreas(stopped, place, areas);
  return true;
}

/** Takes programs out of a list that others stay in: by pointer writes, in the order of the list. */
function relink(
  stopped: StoppedProcess,
  site: SiteRow,
  programs: readonly ProgramRow[],
  leaving: ReadonlySet<number>,
): void {
  const byCode = new Map(programs.map((program) => [program.code as bigint, program]));
  let link: Address = site.list;
  // A list cannot be longer than its programs: a target that makes a circle of it ends here.
  for (let left = programs.length; left > 0; left--) {
    const program = byCode.get(readWord(stopped, link));
    if (program === undefined) return;
    if (leaving.has(program.index)) writeWord(stopped, link, readWord(stopped, program.next));
    else link = program.next;
  }
}

/** Puts the file's bytes back. @returns what is wrong, if it can't. */
function restoreSite(
  stopped: StoppedProcess,
  maps: readonly MemoryMapping[],
  site: SiteRow,
  original: OriginalBytes,
): string | undefined {
  const where = `${hex(site.address)} of process ${stopped.pid}`;
  // Unloaded, and perhaps something else mapped there: our jump went with it.
  if (findMapping(maps, site.address)?.inode !== site.inode) return undefined;
  const found = stopped.read(site.address, JUMP_BYTES);
  const bytes = original(site)?.subarray(0, JUMP_BYTES);
  if (bytes === undefined) return `the file of the site at ${where} can't be read any more`;
  if (Buffer.compare(found, bytes) === 0) return undefined;
  const jump = new Assembler(site.address).jmp(site.stub, 'near').finish();
  if (Buffer.compare(found, jump) !== 0) {
    return `somebody else changed the code at ${where}: ${Buffer.from(found).toString('hex')}`;
  }
  stopped.write(site.address, bytes);
  return undefined;
}

function groupBySite(block: ControlBlock): Map<number, ProgramRow[]> {
  const groups = new Map<number, ProgramRow[]>();
  for (const program of block.programs.values()) {
    const group = groups.get(program.site);
    if (group === undefined) groups.set(program.site, [program]);
    else group.push(program);
  }
  return groups;
}

function range(start: Address, bytes: number): AddressRange {
  return { start, end: address(start + BigInt(bytes)) };
}

function sorted(ranges: readonly AddressRange[]): AddressRange[] {
  return [...ranges].sort((left, right) => (left.start < right.start ? -1 : 1));
}
