/** What it takes to probe every instruction of many functions at once: where puns are many, and rest on each other. */

import { readFileSync } from 'node:fs';

import { fileOffset } from '../src/base/brand.ts';
import { ControlBlock } from '../src/engines/jump/block.ts';
import { Planner } from '../src/engines/jump/planner.ts';
import { MemoryReader, readProcessMaps } from '../src/engines/jump/spaces.ts';
import { listFunctions, type AddedProbe, type Session } from '../src/index.ts';
import { ElfFile } from '../src/symbols/elf.ts';
import { findProgram } from '../test/harness/features.ts';
import { startTarget, type Target } from '../test/harness/target.ts';
import type { MemoryMapping } from '../src/process/maps.ts';
import { library } from './built.ts';
import { place } from './coverage.ts';
import { residentBytes } from './idle.ts';
import { Rows, type Row } from './rows.ts';

const PROGRAM = 'sqlite3';
const LIBRARY = 'libsqlite3';
const FUNCTIONS = 300;
/** In bytes: a session has 16,384 consumers of one target. */
const LARGEST_FUNCTION = 600;
/** It takes minutes. */
const MOST_ROUNDS = 1;
const MEGABYTE = 1 << 20;

/** Measures probes everywhere in a running sqlite3. Nothing where that is not installed. */
export async function measureEverything(rounds: number): Promise<Row[]> {
  const path = findProgram(PROGRAM);
  if (path === undefined) return [];
  const rows = new Rows(`Every instruction of ${FUNCTIONS} functions of ${LIBRARY}`);
  for (let round = 0; round < Math.min(rounds, MOST_ROUNDS); round++) {
    await using target = await startTarget(path, [':memory:']);
    target.send('.print ready');
    await target.waitForLine('ready');
    await probeEverything(rows, target);
  }
  return rows.finish();
}

async function probeEverything(rows: Rows, { pid }: Target): Promise<void> {
  const maps = readProcessMaps(pid);
  const file = maps.find(({ path, executable }) => executable && path.includes(LIBRARY))?.path;
  if (file === undefined) throw new Error(`${PROGRAM} does not map ${LIBRARY}`);
  const places = await placesOf(file, maps);
  const before = { resident: residentBytes(pid), mappings: maps.length };
  const { session, seconds, refused } = await attachAll(pid, file, new Set(places.possible));
  await using _ = session;
  rows.add('places', '', places.all);
  addMethods(rows, session.probes);
  rows.add('by none of them, each by itself', '', places.all - places.possible.length);
  rows.add('by none of them, beside the others', '', refused);
  rows.add('attach', 's', seconds);
  const { bill } = await session.summary();
  rows.add('target stopped meanwhile', 'ms', bill.stoppedNanoseconds / 1e6);
  rows.add('stops', '', bill.stops);
  const resident = residentBytes(pid) - before.resident;
  rows.add("the target's resident memory grew by", 'MB', resident / MEGABYTE);
  rows.add('mappings added', '', readProcessMaps(pid).length - before.mappings);
  addArenas(rows, pid);
  const leaving = performance.now();
  const after = await session.stop();
  rows.add('leave', 's', (performance.now() - leaving) / 1000);
  const stopped = after.bill.stoppedNanoseconds - bill.stoppedNanoseconds;
  rows.add('target stopped meanwhile, leaving', 'ms', stopped / 1e6);
  rows.add('mappings that stay', '', readProcessMaps(pid).length - before.mappings);
}

interface Places {
  readonly all: number;
  /** The file offsets of those that can be probed, each by itself. */
  readonly possible: readonly number[];
}

/** Every instruction of functions that are evenly spread. */
async function placesOf(file: string, maps: readonly MemoryMapping[]): Promise<Places> {
  const listed = (await listFunctions(file, { unnamed: true })).functions;
  const small = listed.filter(
    ({ kind, size }) => kind !== 'plt' && size > 0 && size <= LARGEST_FUNCTION,
  );
  const step = small.length / FUNCTIONS;
  const elf = ElfFile.open(readFileSync(file), file);
  const planner = new Planner(elf);
  const offsets = new Set<number>();
  for (let nth = 0; nth < FUNCTIONS; nth++) {
    const chosen = small[Math.floor(nth * step)];
    if (chosen === undefined) continue;
    for (const at of planner.boundaries(fileOffset(chosen.offset))) offsets.add(at);
  }
  const text = maps.find((mapping) => mapping.path === file && mapping.executable);
  const from = elf.loads.addressOf(fileOffset(Number(text?.offset)));
  const space = { maps, base: (text?.start ?? 0n) - BigInt(from) };
  const plans = planner.plan([...offsets].map((offset) => fileOffset(offset)));
  const possible = plans.filter(
    (plan) => plan.kind === 'plan' && typeof place(plan, space) !== 'string',
  );
  return { all: offsets.size, possible: possible.map(({ offset }) => offset) };
}

interface Attached {
  readonly session: Session;
  readonly seconds: number;
  /** Places that had to be left out. */
  readonly refused: number;
}

/**
 * Attaches with a probe at each offset. Probes that can't be beside the others refuse the whole: then it is done again
 * without them, and what was tried before is not in the figures.
 */
async function attachAll(pid: number, file: string, offsets: Set<number>): Promise<Attached> {
  const { attach } = await library();
  const all = offsets.size;
  for (;;) {
    const probes = [...offsets].map((offset) => {
      return { definition: `'${file}':0x${offset.toString(16)}`, action: 'count' as const };
    });
    const began = performance.now();
    try {
      const session = await attach({ pids: [pid] }, { probes });
      const seconds = (performance.now() - began) / 1000;
      return { session, seconds, refused: all - offsets.size };
    } catch (error) {
      const text = textOf(error);
      const refused = Array.from(text.matchAll(/':(0x[0-9a-f]+): .* can't be probed/g), ([, at]) =>
        Number(at),
      ).filter((offset) => offsets.delete(offset));
      if (refused.length === 0) throw error;
      process.stderr.write(`left out: ${text}\n`);
    }
  }
}

/** One refusal is the message itself; of several, each is a line of the hint. */
function textOf(error: unknown): string {
  const hint = error instanceof Error && 'hint' in error ? `\n${String(error.hint)}` : '';
  return `${String(error)}${hint}`;
}

function addMethods(rows: Rows, probes: readonly AddedProbe[]): void {
  const sites = probes.flatMap((probe) => probe.sites);
  for (const method of ['nop', 'jump', 'short-jump', 'pun'] as const) {
    rows.add(`by \`${method}\``, '', sites.filter((site) => site.method === method).length);
  }
}

/** The arenas of stubs: those near the text, and those that are where puns lead. */
function addArenas(rows: Rows, pid: Target['pid']): void {
  using reader = new MemoryReader(pid);
  const { arenas, sites } = ControlBlock.read(readProcessMaps(pid), reader.read);
  const boards = [...sites.values()].filter(({ method, via }) => method === 'pun' && via);
  rows.add('puns by a springboard', '', boards.length);
  const resident = residentByMapping(pid);
  for (const isExact of [false, true]) {
    const some = [...arenas.values()].filter((arena) => arena.isExact === isExact);
    const name = isExact ? 'arenas where puns lead' : 'arenas near the text';
    const bytes = some.reduce((sum, arena) => sum + arena.bytes, 0);
    // Arenas that touch each other are one mapping.
    const pages = [...resident].reduce((sum, [start, { end, kilobytes }]) => {
      const isTheirs = some.some(({ address }) => address >= start && address < end);
      return isTheirs ? sum + kilobytes : sum;
    }, 0);
    rows.add(name, '', some.length);
    rows.add(`${name}: mapped`, 'MB', bytes / MEGABYTE);
    rows.add(`${name}: resident`, 'MB', pages / 1024);
  }
}

/** By the start of each mapping: its end, and what of it is in memory (proc_pid_smaps(5)). */
function residentByMapping(
  pid: number,
): ReadonlyMap<bigint, { readonly end: bigint; readonly kilobytes: number }> {
  const text = readFileSync(`/proc/${pid}/smaps`, 'utf8');
  const found = text.matchAll(
    /^([0-9a-f]+)-([0-9a-f]+) [^\n]*\n(?:[A-Z][^\n]*\n)*?Rss: +(\d+) kB/gm,
  );
  return new Map(
    Array.from(found, ([, start = '', end = '', kilobytes]) => [
      BigInt(`0x${start}`),
      { end: BigInt(`0x${end}`), kilobytes: Number(kilobytes) },
    ]),
  );
}
