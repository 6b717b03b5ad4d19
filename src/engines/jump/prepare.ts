/**
 * Works out a change of one address space before anything is stopped: where new code goes, the code
 * itself, the rows that describe it. Run again under the stop if the target changed meanwhile.
 *
 * Sites are placed from the highest address down: where one rests on the bytes of those behind it (a pun), what
 * these write is known.
 */

import type { Address } from '../../base/brand.ts';
import type { RecordLayout, SegmentLayout } from '../../events/layout.ts';
import type { EngineConsumer, FailedConsumer } from '../../probe/engine.ts';
import { layoutOf, type Program } from '../../probe/program.ts';
import type { ArenaRow, ProgramRow, SessionRow, SiteRow } from '../../process/control-rows.ts';
import type { AddressRange } from '../../process/free-space.ts';
import { findMapping, type MemoryMapping } from '../../process/maps.ts';
import type { ControlBlock } from './block.ts';
import { CodeSpace } from './code-space.ts';
import { compileProgram, type ProgramCode } from './compile.ts';
import type { StubFeatures } from './features.ts';
import { isRequestThere } from './gone.ts';
import type { IntendedChange } from './intended.ts';
import type { SitePlan } from './planner.ts';
import type { OriginalBytes } from './restore.ts';
import { emitRuntime, type SessionAddresses } from './runtime.ts';
import type { MemoryPlaces } from './session-memory.ts';
import { SitePreparation, type NewSite, type SlotChange } from './site-preparation.ts';
import { coalesce, type CodeWrite } from './writes.ts';

/** One consumer to be added at one place of one address space. */
export interface ConsumerRequest extends EngineConsumer {
  readonly plan: SitePlan;
  readonly address: Address; // of the place, in the target
  readonly file: Pick<SiteRow, 'deviceMajor' | 'deviceMinor' | 'inode'>;
  /** A counter in the target that is to be one higher while the place has consumers. */
  readonly counter: Address | undefined;
}

/** The session that the change is made for, as far as its code has to know it. */
export interface PreparingSession {
  readonly id: bigint;
  readonly tracer: number;
  readonly places: MemoryPlaces;
  readonly layout: SegmentLayout;
  readonly features: StubFeatures;
  readonly livenessBytes: number;
  readonly cacheBytes: number;
}

/** A program that goes in front of the list of a site that is there already. */
export interface ListChange {
  readonly site: SiteRow;
  readonly program: Address;
  /** The program's own `next`, to be set to what the list points at under the stop. */
  readonly next: Address;
  readonly row: ProgramRow;
}

/** A change, ready to be made under a stop. Its rows are in the block that it was prepared with. */
export interface PreparedChange {
  readonly newArenas: readonly ArenaRow[];
  readonly code: readonly CodeWrite[];
  /** From the highest address down. */
  readonly newSites: readonly NewSite[];
  /** Sites that were there already: one whose maker died around its patch may have no jump. */
  readonly adopted: readonly NewSite[];
  readonly listChanges: readonly ListChange[];
  readonly slots: readonly SlotChange[];
  /** What becomes of the text, if all the sites that were live are there. */
  readonly intended: IntendedChange;
  /** Places that no way serves in this address space. */
  readonly refused: readonly FailedConsumer<ConsumerRequest>[];
  /** Where each consumer's program is run. */
  readonly sites: ReadonlyMap<ConsumerRequest, SiteRow>;
}

/** What a change is worked out for. */
export interface PreparationTarget {
  /** The target's mappings and what else is about to be mapped, in order. */
  readonly maps: readonly MemoryMapping[];
  /** Gets the rows; the caller makes the writes. */
  readonly block: ControlBlock;
  readonly original: OriginalBytes;
  /** Whether places must be taken in ways that no task can stand in. */
  readonly avoidsInside: (request: ConsumerRequest) => boolean;
}

/** More than a runtime takes; what is not used is given back at once. */
const RUNTIME_ROOM = 4096;
/** Why a place is refused whose file is not mapped there any more. */
export const UNMAPPED = 'its file is not mapped there any more';
/** A write there would be one to the file. */
const SHARED_TEXT =
  'its text is mapped shared (MAP_SHARED): a jump in it would be written to the file';
/** By how much a program is longer at one place than at another: alignment, and longer constants. */
const ROOM_TO_SPARE = 512;

/**
 * Prepares the addition of consumers.
 * @throws TraplineError `unsupported` when no memory is near, `limit` when a table is full.
 */
export function prepareConsumers(
  target: PreparationTarget,
  session: PreparingSession,
  requests: readonly ConsumerRequest[],
): PreparedChange {
  return new Preparation(target, session, requests).run();
}

class Preparation {
  readonly #target: PreparationTarget;
  readonly #session: PreparingSession;
  readonly #requests: readonly ConsumerRequest[];
  readonly #space: CodeSpace;
  readonly #sites: SitePreparation;
  readonly #code: CodeWrite[] = [];
  readonly #listChanges: ListChange[] = [];
  readonly #refused: FailedConsumer<ConsumerRequest>[] = [];
  readonly #found = new Map<ConsumerRequest, SiteRow>();
  readonly #layouts = new Map<Program, RecordLayout>();
  /** Bytes that each program may need, wherever it goes. */
  readonly #rooms = new Map<Program, number>();
  /** The session's programs that were there before, by site and consumer. */
  #own: ReadonlySet<string> | undefined;

  constructor(
    target: PreparationTarget,
    session: PreparingSession,
    requests: readonly ConsumerRequest[],
  ) {
    this.#target = target;
    this.#session = session;
    this.#requests = requests.toSorted((one, other) => (one.address > other.address ? -1 : 1));
    this.#space = new CodeSpace(target.maps, target.block);
    this.#sites = new SitePreparation(target, this.#space, this.#code);
  }

  run(): PreparedChange {
    let left = this.#requests.length;
    for (const request of this.#requests) this.#addConsumer(request, left--);
    const { dropped, ...sites } = this.#sites.finish();
    for (const row of dropped) this.#refuseDropped(row);
    return {
      newArenas: this.#space.newArenas,
      code: coalesce(this.#code),
      listChanges: this.#listChanges.filter(({ site }) => !dropped.has(site)),
      refused: this.#refused,
      sites: this.#found,
      ...sites,
    };
  }

  #refuseDropped(row: SiteRow): void {
    const reason =
      'a probe before it rests on these bytes, or its stub is out of reach, and no memory that would do is free';
    const requests = this.#requests.filter((request) => request.address === row.address);
    this.#refused.push(...requests.map((request) => ({ request, reason })));
    const { block } = this.#target;
    for (const program of block.programsOf(row)) block.remove('programs', program.index);
    block.remove('sites', row.index);
  }

  #addConsumer(request: ConsumerRequest, left: number): void {
    const text = this.#textOf(request);
    if (text === undefined) {
      this.#refused.push({ request, reason: UNMAPPED });
      return;
    }
    const { row: session, runtime } = this.#sessionRow(text);
    const found = text.shared ? SHARED_TEXT : this.#sites.find(request, text, left);
    if (typeof found === 'string') {
      this.#refused.push({ request, reason: found });
      return;
    }
    const { row: site, isNew } = found;
    this.#found.set(request, site);
    if (!isNew && this.#hasProgram(session, site, request.consumer)) return;
    const compile = (origin: Address): ProgramCode =>
      compileProgram({
        program: request.program,
        record: this.#layoutOf(request.program),
        origin,
        site: request.address,
        fileOffset: BigInt(request.plan.offset),
        redZone: site.redZone,
        session: { ...this.#session.places, runtime },
        segment: this.#session.layout,
        consumer: request.consumer,
        next: site.epilogue,
        features: this.#session.features,
      });
    const room =
      this.#rooms.get(request.program) ?? compile(text.start).bytes.byteLength + ROOM_TO_SPARE;
    this.#rooms.set(request.program, room);
    const program = this.#place(text, room, left, compile);
    const row = this.#target.block.addProgram({
      session: session.index,
      site: site.index,
      code: program.origin,
      codeBytes: program.bytes.byteLength,
      next: program.next,
      consumer: request.consumer,
      probe: request.probe,
    });
    if (!isNew) {
      this.#listChanges.push({ site, program: program.origin, next: program.next, row });
      return;
    }
    const list = new Uint8Array(8);
    new DataView(list.buffer).setBigUint64(0, program.origin, true);
    this.#code.push({ address: site.list, bytes: list });
  }

  /** The session's row, made with its runtime at the first consumer. */
  #sessionRow(text: AddressRange): { row: SessionRow; runtime: Address } {
    const { id, tracer, places, layout, livenessBytes, cacheBytes } = this.#session;
    const { block } = this.#target;
    for (const row of block.sessions.values()) {
      if (row.id === id) return { row, runtime: row.runtime };
    }
    const addresses: Omit<SessionAddresses, 'runtime'> = places;
    const runtime = this.#place(text, RUNTIME_ROOM, this.#requests.length, (origin) => ({
      bytes: emitRuntime(origin, addresses, layout),
    }));
    const row = block.addSession({
      id,
      tracer,
      livenessBytes,
      cacheBytes,
      liveness: places.liveness,
      segment: places.segment,
      cache: places.cache,
      segmentBytes: layout.totalBytes,
      runtime: runtime.origin,
      runtimeBytes: runtime.bytes.byteLength,
      began: Math.floor(Date.now() / 1e3),
    });
    return { row, runtime: runtime.origin };
  }

  #place<Code extends { readonly bytes: Uint8Array }>(
    text: AddressRange,
    room: number,
    left: number,
    build: (origin: Address) => Code,
  ): Code & { readonly origin: Address } {
    const code = this.#space.place(text, room, left, (origin) => ({ ...build(origin), origin }));
    this.#code.push({ address: code.origin, bytes: code.bytes });
    return code;
  }

  /** Whether a consumer is there already: its file was unmapped and mapped again, or a child inherited it. */
  #hasProgram({ index }: SessionRow, site: SiteRow, consumer: number): boolean {
    if (this.#own === undefined) {
      const own = [...this.#target.block.programs.values()].filter((one) => one.session === index);
      this.#own = new Set(own.map((one) => `${one.site} ${one.consumer}`));
    }
    return this.#own.has(`${site.index} ${consumer}`);
  }

  /** The mapping that holds a request's place; undefined where it was unmapped meanwhile. */
  #textOf(request: ConsumerRequest): MemoryMapping | undefined {
    const { maps } = this.#target;
    const mapping = findMapping(maps, request.address);
    return mapping?.executable === true && isRequestThere(maps, request) ? mapping : undefined;
  }

  #layoutOf(program: Program): RecordLayout {
    const known = this.#layouts.get(program) ?? layoutOf(program);
    this.#layouts.set(program, known);
    return known;
  }
}
