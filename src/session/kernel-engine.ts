/** A session's probes by the kernel's uprobes: one place of a file, in all processes that map it. */

import { existsSync, readlinkSync } from 'node:fs';
import { threadId } from 'node:worker_threads';

import { address, type FileOffset, type Pid, type Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { findProcesses, mapsIfReadable, readProcessMaps } from '../engines/jump/spaces.ts';
import type { WatchedTasks } from '../engines/kernel/instance.ts';
import { isPatchedNop, refuseInstruction, standInFor } from '../engines/kernel/instruction.ts';
import { ownName } from '../engines/kernel/session-name.ts';
import { KernelTarget, type KernelRequest } from '../engines/kernel/target.ts';
import { requireTracefs } from '../engines/kernel/tracefs.ts';
import { layoutRecord } from '../events/layout.ts';
import type { HitCost } from '../probe/engine.ts';
import { fieldsOf } from '../probe/program.ts';
import type { MemoryMapping } from '../process/maps.ts';
import { listTasks } from '../process/tasks.ts';
import { ownPid } from '../sys/signals.ts';
import { UNKNOWN_COST, type MeasuredConsumer } from './reading/cost.ts';
import type { AddedConsumer, SessionEngine, TakenFrom } from './engine.ts';
import type { FileCache, MappedFile } from './files/files.ts';
import { findFile } from './files/find-file.ts';
import { JumpSites } from './probes/jump-sites.ts';
import { CONSUMER_CAPACITY } from './options.ts';
import type { PlaceRegistry, ResolvedPlace } from './probes/place-registry.ts';
import { EVERY_PROCESS, resolveIn, type ProbeAddition } from './probes/probing.ts';
import type { KernelHandle, SessionShape, WantedProbe } from './protocol.ts';
import type { Departed } from './targets/target-set.ts';
import {
  mappingMatcher,
  selectProcesses,
  sparedProcesses,
  type SelectedProcess,
} from './targets/selection.ts';
import type { Stops, TargetSelection } from './types.ts';
import { mappingsOf } from './files/whole-file.ts';

/** The number of a kernel session's only source. */
const SOURCE = 0;

/** One place of a file, and the processes in which somebody asked for it. */
interface WantedPlace {
  readonly place: ResolvedPlace;
  readonly seen: { readonly pid: number; readonly place: ResolvedPlace }[];
}

/** The kernel engine for one session. */
export class KernelEngine implements SessionEngine {
  readonly #shape: SessionShape;
  readonly #files: FileCache;
  readonly #registry: PlaceRegistry<ProbeAddition>;
  readonly #tracefs: string;
  #target: KernelTarget | undefined;
  #pids: readonly Pid[] = [];
  #isEndless = false;
  #isAnnounced = false;
  #nextConsumer = 0;

  /** @throws TraplineError `unsupported`, `not-permitted`, saying what is needed. */
  constructor(shape: SessionShape, files: FileCache, registry: PlaceRegistry<ProbeAddition>) {
    this.#shape = shape;
    this.#files = files;
    this.#registry = registry;
    this.#tracefs = requireTracefs(readlinkSync('/proc/self/ns/pid'));
  }

  get pids(): readonly Pid[] {
    return this.#pids;
  }

  readonly isWalking = false;
  readonly announced = undefined;

  get isEndless(): boolean {
    return this.#isEndless;
  }

  attach(selection: TargetSelection, probes: readonly WantedProbe[]): void {
    if (selection.all === true) {
      this.#isEndless = true;
      const without = [...sparedProcesses()].flatMap((pid) => listTasks(pid));
      this.#begin({ only: undefined, children: false, without });
      return;
    }
    const selected = selectProcesses(selection, probes);
    this.#pids = selected.map(({ pid }) => pid);
    this.#watch(selected);
  }

  begin(command: Pid): void {
    this.#pids = [command];
    this.#begin({ only: [command], children: true, without: [] });
  }

  expect(): void {
    // The kernel follows by itself: what a command maps later is not waited for.
  }

  depart(): undefined {
    // There is one source, for all processes.
  }

  readonly takeFrom = (): TakenFrom => ({ isAll: false, problems: [] });
  readonly sourceOf = (): undefined => undefined;
  readonly sourceAt = (): undefined => undefined;

  extend(): void {
    // The kernel finds processes by itself.
  }

  has(): boolean {
    return true;
  }

  isInherited(): boolean {
    return false;
  }

  orphans(): readonly Pid[] {
    return [];
  }

  noteWalk(): Departed {
    return { ended: [], abandoned: [] };
  }

  retire(): void {
    // There is one source, for all processes.
  }

  started(): void {
    // The kernel tells by itself which library is mapped.
  }

  add(additions: readonly ProbeAddition[]): ProbeAddition[] {
    const sites = new JumpSites();
    const waiting: ProbeAddition[] = [];
    for (const addition of additions) {
      const wanted = this.#isEndless ? this.#everywhere(addition) : this.#inTargets(addition);
      if (wanted === undefined) waiting.push(addition);
      else this.#install(addition, wanted, sites);
    }
    return waiting;
  }

  newSources(): KernelHandle[] {
    if (this.#isAnnounced || this.#target === undefined) return [];
    this.#isAnnounced = true;
    return [{ kind: 'kernel', source: SOURCE, ring: this.#target.ring }];
  }

  note(): void {
    // Nothing of ours is in a process that a profiler could ask for.
  }

  remove(consumers: readonly AddedConsumer[]): string[] {
    return this.#target?.remove(new Set(consumers.map(({ consumer }) => consumer))) ?? [];
  }

  stops(): Stops {
    return { stops: 0, stoppedNanoseconds: 0, longestStopNanoseconds: 0 };
  }

  measure(consumers: readonly MeasuredConsumer[]): HitCost[] {
    return consumers.map(({ consumer }) => this.#target?.priceOf(consumer) ?? UNKNOWN_COST);
  }

  leave(): string[] {
    return this.#target?.leave() ?? [];
  }

  release(): string[] {
    return this.#target?.release() ?? [];
  }

  close(): void {
    this.#target?.[Symbol.dispose]();
  }

  #begin(watched: WatchedTasks): void {
    this.#target = new KernelTarget({
      tracefs: this.#tracefs,
      name: ownName(threadId),
      ringBytes: this.#shape.kernelRingBytes,
      watched,
      without: this.#isEndless ? process.pid : undefined,
    });
  }

  #watch(selected: readonly SelectedProcess[]): void {
    const single = selected.flatMap(({ tasks }) => tasks ?? []);
    const whole = selected.filter(({ tasks }) => tasks === undefined).map(({ pid }) => pid);
    if (single.length > 0 && whole.length > 0) {
      throw new TraplineError({
        code: 'refused',
        message: 'the kernel engine watches either whole processes or single tasks',
        hint: 'Its filter follows the children of all of them or of none. Use two sessions, or --engine jump.',
      });
    }
    if (single.length > 0) {
      this.#begin({ only: single, children: false, without: [] });
      return;
    }
    // Threads that are made from here on are watched by the kernel itself; those before are looked for.
    const known = new Set<Tid>(whole.flatMap((pid) => listTasks(pid)));
    this.#begin({ only: [...known], children: true, without: [] });
    for (;;) {
      const more = whole.flatMap((pid) => listTasks(pid)).filter((tid) => !known.has(tid));
      if (more.length === 0) break;
      this.#target?.addTasks(more);
      for (const tid of more) known.add(tid);
    }
  }

  #inTargets(addition: ProbeAddition): WantedPlace[] | undefined {
    const found = this.#pids.flatMap((pid) => {
      const places = this.#resolve(addition, pid, readProcessMaps(pid));
      return places === undefined ? [] : [{ pid, places }];
    });
    return found.length === 0 ? undefined : gather(found);
  }

  /** In each file that the name means to some process, and in the one that it means to us. */
  #everywhere(addition: ProbeAddition): WantedPlace[] | undefined {
    const { location } = addition.definition;
    const matches = mappingMatcher(location);
    const found: { pid: number; places: readonly ResolvedPlace[] }[] = [];
    const known = new Set<string>();
    for (const pid of findProcesses((maps) => maps.some((one) => one.executable && matches(one)))) {
      const maps = mapsIfReadable(pid).filter((one) => matches(one));
      const keys = maps.map(({ device, inode }) => `${device}:${inode}`);
      if (keys.every((key) => known.has(key))) continue;
      const places = this.#resolve(addition, pid, mapsIfReadable(pid)) ?? [];
      for (const key of keys) known.add(key);
      found.push({ pid: EVERY_PROCESS, places });
    }
    const path = 'file' in location ? pathOf(location.file) : undefined;
    if (path !== undefined && existsSync(path)) {
      const maps = mappingsOf(path, this.#files);
      if (maps.some(({ device, inode }) => !known.has(`${device}:${inode}`))) {
        const places = this.#resolve(addition, ownPid(), maps) ?? [];
        found.push({ pid: EVERY_PROCESS, places });
      }
    }
    if (found.length === 0) return undefined;
    return gather(
      found.map(({ pid, places }) => ({
        pid,
        places: places.map((place) => ({ ...place, address: address(0n) })),
      })),
    );
  }

  #resolve(
    addition: ProbeAddition,
    pid: Pid,
    maps: readonly MemoryMapping[],
  ): readonly ResolvedPlace[] | undefined {
    return resolveIn(this.#registry, pid, maps, [addition])[0]?.places;
  }

  #install(addition: ProbeAddition, wanted: readonly WantedPlace[], sites: JumpSites): void {
    const program = addition.program(undefined);
    const requests = new Map<KernelRequest, WantedPlace>();
    const refuse = ({ seen }: WantedPlace, reason: string): void => {
      for (const { pid, place } of seen) addition.refuse(pid, place, reason);
    };
    for (const one of wanted) {
      const { file, offset } = one.place;
      const code = file.elf.bytes.subarray(offset);
      const reason =
        file.planner.boundary(offset) ??
        sites.refuse(file, offset) ??
        refuseInstruction(code) ??
        refuseNop(file, offset);
      if (reason !== undefined) refuse(one, reason);
      else if (this.#nextConsumer >= CONSUMER_CAPACITY) {
        refuse(one, `a session can have ${CONSUMER_CAPACITY} places, removed ones included`);
      } else {
        const consumer = this.#nextConsumer++;
        const { reference } = addition.definition;
        const where = { path: file.way, offset, reference, kind: standInFor(code) };
        requests.set({ ...where, program, probe: addition.id, consumer }, one);
      }
    }
    const failed = this.#target?.add([...requests.keys()]) ?? [];
    const reasons = new Map(failed.map(({ request, reason }) => [request, reason]));
    for (const [request, one] of requests) {
      const reason = reasons.get(request);
      if (reason === undefined) this.#note(addition, request, one);
      else refuse(one, reason);
    }
  }

  #note(addition: ProbeAddition, { consumer, program }: KernelRequest, one: WantedPlace): void {
    const kernel = this.#target?.placeOf(consumer);
    const layout = layoutRecord(fieldsOf(program), 0, true);
    const known = { source: SOURCE, consumer, program, layout, address: one.place.address };
    addition.note(one.place, { ...known, ...(kernel && { kernel }) });
    for (const { pid, place } of one.seen) addition.noteSite(pid, place, 'uprobe', 0);
  }
}

/** One entry a place of a file, whoever maps it. */
function gather(
  found: readonly { readonly pid: number; readonly places: readonly ResolvedPlace[] }[],
): WantedPlace[] {
  const wanted = new Map<string, WantedPlace>();
  for (const { pid, places } of found) {
    for (const place of places) {
      const key = `${place.file.device}:${place.file.inode}:${place.offset}`;
      const one = wanted.get(key) ?? { place, seen: [] };
      one.seen.push({ pid, place });
      wanted.set(key, one);
    }
  }
  return [...wanted.values()];
}

/** At a function's start nothing of it lies below the stack pointer yet; further on it may (psABI, 3.2.2). */
function refuseNop(file: MappedFile, offset: FileOffset): string | undefined {
  if (!isPatchedNop(file.elf.bytes.subarray(offset))) return undefined;
  // A label of assembly may be a function's name too, inside of another.
  const isInside = file.symbols
    .functions()
    .some(({ offset: start, size }) => offset > start && offset < start + size);
  if (!isInside && file.symbols.at(offset)?.offset === offset) return undefined;
  return 'the kernel would make a call of this nop of five bytes, which writes below the stack pointer, where the function may keep data (the red zone)';
}

/** What a name means to us; undefined where it means nothing. */
function pathOf(name: string): string | undefined {
  try {
    return findFile(name);
  } catch (error) {
    if (!(error instanceof TraplineError) || error.code !== 'no-file') throw error;
    return undefined;
  }
}
