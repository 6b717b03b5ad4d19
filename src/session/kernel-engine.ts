/** A session's probes by the kernel's uprobes: one place of a file, in all processes that map it. */

import { readlinkSync } from 'node:fs';
import { threadId } from 'node:worker_threads';

import type { Pid, Tid } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import type { WatchedTasks } from '../engines/kernel/instance.ts';
import { refuseInstruction, standInFor } from '../engines/kernel/instruction.ts';
import { ownName } from '../engines/kernel/session-name.ts';
import { KernelTarget, type KernelRequest } from '../engines/kernel/target.ts';
import { requireTracefs } from '../engines/kernel/tracefs.ts';
import { layoutRecord } from '../events/layout.ts';
import type { HitCost } from '../probe/engine.ts';
import { fieldsOf } from '../probe/program.ts';
import { listTasks } from '../process/tasks.ts';
import { UNKNOWN_COST, type MeasuredConsumer } from './reading/cost.ts';
import type { AddedConsumer, SessionEngine, TakenFrom } from './engine.ts';
import type { FileCache } from './files/files.ts';
import { JumpSites } from './probes/jump-sites.ts';
import { KernelPlaces, refuseNop, type WantedPlace } from './probes/kernel-places.ts';
import { CONSUMER_CAPACITY } from './options.ts';
import { aboutWritten } from './probes/origin.ts';
import type { PlaceRegistry } from './probes/place-registry.ts';
import type { ProbeAddition } from './probes/probing.ts';
import type { KernelHandle, SessionShape, WantedProbe } from './protocol.ts';
import type { Departed } from './targets/target-set.ts';
import { selectProcesses, sparedProcesses, type SelectedProcess } from './targets/selection.ts';
import type { Stops, TargetSelection } from './types.ts';

/** The number of a kernel session's only source. */
const SOURCE = 0;

/** The kernel engine for one session. */
export class KernelEngine implements SessionEngine {
  readonly #shape: SessionShape;
  readonly #places: KernelPlaces;
  readonly #tracefs: string;
  #target: KernelTarget | undefined;
  #pids: readonly Pid[] = [];
  #isEndless = false;
  #isAnnounced = false;
  #nextConsumer = 0;

  /** @throws TraplineError `unsupported`, `not-permitted`, saying what is needed. */
  constructor(shape: SessionShape, files: FileCache, registry: PlaceRegistry<ProbeAddition>) {
    this.#shape = shape;
    this.#places = new KernelPlaces(files, registry);
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

  expect(addition: ProbeAddition): void {
    // The kernel probes files: who maps it later need not be waited for.
    aboutWritten(addition.written, () => {
      const wanted = this.#places.inFile(addition, this.#pids);
      if (wanted !== undefined) this.#install(addition, wanted, new JumpSites());
    });
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
      aboutWritten(addition.written, () => {
        const wanted = this.#isEndless
          ? this.#places.everywhere(addition)
          : this.#places.inTargets(addition, this.#pids);
        if (wanted === undefined) waiting.push(addition);
        else this.#install(addition, wanted, sites);
      });
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
    return consumers.map(({ consumer }) => {
      const price = this.#target?.priceOf(consumer);
      if (price === undefined) return UNKNOWN_COST;
      // The kernel looks for room when it has done all that a refused hit costs.
      const { refused } = price;
      return { ...price, lost: { ringFull: refused, noContext: refused, tracerGone: refused } };
    });
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
        const { reference, text } = addition.definition;
        const where = { path: file.way, offset, reference, text, kind: standInFor(code) };
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
