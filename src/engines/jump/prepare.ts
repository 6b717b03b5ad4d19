/**
 * Works out a change of one address space before anything is stopped: where new code goes, the code
 * itself, the rows that describe it. Run again under the stop if the target changed meanwhile.
 */

import { address, type Address } from '../../base/brand.ts';
import { ensure, TraplineError } from '../../base/errors.ts';
import type { RecordLayout, SegmentLayout } from '../../events/layout.ts';
import type { EngineConsumer } from '../../probe/engine.ts';
import { layoutOf, type Program } from '../../probe/program.ts';
import type { ArenaRow, ProgramRow, SessionRow, SiteRow } from '../../process/control.ts';
import type { AddressRange } from '../../process/free-space.ts';
import { asMapping, findMapping, type MemoryMapping } from '../../process/maps.ts';
import { Assembler } from '../../x64/assembler.ts';
import { relocate } from '../../x64/relocate.ts';
import { ARENA_BYTES, ArenaSpace } from './arena.ts';
import type { ControlBlock } from './block.ts';
import { compileProgram, type ProgramCode } from './compile.ts';
import type { StubFeatures } from './features.ts';
import { JUMP_BYTES, type SitePlan } from './planner.ts';
import { emitRuntime, type SessionAddresses } from './runtime.ts';
import { findPlace, type MemoryPlaces } from './session-memory.ts';
import { assembleStub, type StubCode } from './stub.ts';
import { coalesce, type CodeWrite } from './writes.ts';

/** One consumer to be added at one place of one address space. */
export interface ConsumerRequest extends EngineConsumer {
  readonly plan: SitePlan;
  readonly address: Address; // of the place, in the target
  readonly file: Pick<SiteRow, 'deviceMajor' | 'deviceMinor' | 'inode'>;
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

/** A site that is to jump to its stub. */
export interface NewSite {
  readonly row: SiteRow;
  readonly plan: SitePlan;
  readonly request: ConsumerRequest;
  readonly jump: Uint8Array;
  readonly map: StubCode['map'];
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
  readonly newSites: readonly NewSite[];
  /** Sites that were there already: one whose maker died around its patch may have no jump. */
  readonly adopted: readonly NewSite[];
  readonly listChanges: readonly ListChange[];
}

/** More than any program or stub takes; what is not used is given back at once. */
const ROOM = { stub: 512, runtime: 4096 } as const;
/** By how much a program is longer at one place than at another: alignment, and longer constants. */
const ROOM_TO_SPARE = 512;
/** What a site with one program takes as a rule, for the size of new arenas. */
const TYPICAL_SITE_BYTES = 640;
const LARGEST_ARENA_BYTES = 4 << 20;

/**
 * Prepares the addition of consumers. Adds rows to `block`, whose writes the caller makes.
 * @param maps the target's mappings and what else is about to be mapped, in order
 * @throws TraplineError `unsupported` when no memory is near, `limit` when a table is full.
 */
export function prepareConsumers(
  maps: readonly MemoryMapping[],
  block: ControlBlock,
  session: PreparingSession,
  requests: readonly ConsumerRequest[],
): PreparedChange {
  return new Preparation(maps, block, session, requests).run();
}

class Preparation {
  readonly #maps: readonly MemoryMapping[];
  readonly #block: ControlBlock;
  readonly #session: PreparingSession;
  readonly #requests: readonly ConsumerRequest[];
  readonly #space: ArenaSpace;
  readonly #newArenas: ArenaRow[] = [];
  readonly #code: CodeWrite[] = [];
  readonly #newSites: NewSite[] = [];
  readonly #adopted: NewSite[] = [];
  readonly #listChanges: ListChange[] = [];
  /** Sites that are known to be the change's own, or as it would make them. */
  readonly #checked = new Set<SiteRow>();
  readonly #sites = new Map<Address, SiteRow>();
  readonly #layouts = new Map<Program, RecordLayout>();
  /** Bytes that each program may need, wherever it goes. */
  readonly #rooms = new Map<Program, number>();

  constructor(
    maps: readonly MemoryMapping[],
    block: ControlBlock,
    session: PreparingSession,
    requests: readonly ConsumerRequest[],
  ) {
    this.#maps = maps;
    this.#block = block;
    this.#session = session;
    this.#requests = requests;
    this.#space = new ArenaSpace(block.tables());
    for (const site of block.sites.values()) {
      if (site.state === 'live') this.#sites.set(site.address, site);
    }
  }

  run(): PreparedChange {
    let left = this.#requests.length;
    for (const request of this.#requests) {
      this.#addConsumer(request, left--);
    }
    return {
      newArenas: this.#newArenas,
      code: coalesce(this.#code),
      newSites: this.#newSites,
      adopted: this.#adopted,
      listChanges: this.#listChanges,
    };
  }

  #addConsumer(request: ConsumerRequest, left: number): void {
    const text = this.#textAround(request.address);
    const { row: session, runtime } = this.#sessionRow(text);
    const existing = this.#existingSite(request);
    const site = existing ?? this.#addSite(request, text, left);
    const compile = (origin: Address): ProgramCode =>
      compileProgram({
        program: request.program,
        record: this.#layoutOf(request.program),
        origin,
        site: request.address,
        fileOffset: BigInt(request.plan.offset),
        redZone: site.redZone,
        session: {
          ...this.#session.places,
          runtime,
        },
        segment: this.#session.layout,
        consumer: request.consumer,
        next: site.epilogue,
        features: this.#session.features,
      });
    const room =
      this.#rooms.get(request.program) ?? compile(text.start).bytes.byteLength + ROOM_TO_SPARE;
    this.#rooms.set(request.program, room);
    const program = this.#place(text, room, left, compile);
    const row = this.#block.addProgram({
      session: session.index,
      site: site.index,
      code: program.origin,
      codeBytes: program.bytes.byteLength,
      next: program.next,
      consumer: request.consumer,
      probe: request.probe,
    });
    const list = new Uint8Array(8);
    new DataView(list.buffer).setBigUint64(0, program.origin, true);
    if (existing === undefined) {
      this.#code.push({ address: site.list, bytes: list });
    } else {
      this.#listChanges.push({ site, program: program.origin, next: program.next, row });
    }
  }

  /** The site that is there already; not one of another file that was mapped there before. */
  #existingSite(request: ConsumerRequest): SiteRow | undefined {
    const { plan, file } = request;
    const row = this.#sites.get(request.address);
    if (row === undefined || row.inode !== file.inode || row.fileOffset !== plan.offset) {
      return undefined;
    }
    if (this.#checked.has(row)) return row;
    if (row.displacedBytes !== plan.displaced.byteLength) return undefined;
    const moved = relocate(plan.displaced, request.address, row.displaced);
    if (moved.kind !== 'relocated') return undefined;
    this.#adopted.push({ row, plan, request, jump: jumpTo(row), map: moved.map });
    this.#checked.add(row);
    return row;
  }

  #addSite(request: ConsumerRequest, text: AddressRange, left: number): SiteRow {
    const { plan } = request;
    const stub = this.#place(text, ROOM.stub, left, (origin) =>
      assembleStub({
        origin,
        redZone: plan.redZone,
        displace: (to) => {
          const moved = relocate(plan.displaced, request.address, to);
          if (moved.kind === 'relocated') return moved;
          throw new TraplineError({ code: 'refused', message: moved.reason });
        },
        back: address(request.address + BigInt(plan.displaced.byteLength)),
      }),
    );
    const row = this.#block.addSite({
      state: 'live',
      address: request.address,
      stub: stub.origin,
      stubBytes: stub.bytes.byteLength,
      displacedBytes: plan.displaced.byteLength,
      displaced: stub.displaced,
      list: stub.list,
      epilogue: stub.epilogue,
      redZone: plan.redZone,
      fileOffset: plan.offset,
      ...request.file,
    });
    this.#newSites.push({ row, plan, request, jump: jumpTo(row), map: stub.map });
    this.#checked.add(row);
    this.#sites.set(request.address, row);
    return row;
  }

  /** The session's row, made with its runtime at the first consumer. */
  #sessionRow(text: AddressRange): { row: SessionRow; runtime: Address } {
    const { id, tracer, places, layout, livenessBytes, cacheBytes } = this.#session;
    for (const row of this.#block.sessions.values()) {
      if (row.id === id) return { row, runtime: row.runtime };
    }
    const addresses: Omit<SessionAddresses, 'runtime'> = places;
    const runtime = this.#place(text, ROOM.runtime, this.#requests.length, (origin) => ({
      bytes: emitRuntime(origin, addresses, layout),
    }));
    const row = this.#block.addSession({
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

  /** Places code near `text`, in a new arena if none has room. */
  #place<Code extends { readonly bytes: Uint8Array }>(
    text: AddressRange,
    room: number,
    left: number,
    build: (origin: Address) => Code,
  ): Code & { readonly origin: Address } {
    const placed = (origin: Address): Code & { origin: Address } => ({ ...build(origin), origin });
    const code =
      this.#space.place(room, text, placed) ?? this.#inNewArena(text, room, left, placed);
    this.#code.push({ address: code.origin, bytes: code.bytes });
    return code;
  }

  #inNewArena<Code extends { readonly bytes: Uint8Array }>(
    text: AddressRange,
    room: number,
    left: number,
    build: (origin: Address) => Code,
  ): Code {
    const wanted = Math.min(LARGEST_ARENA_BYTES, left * TYPICAL_SITE_BYTES + room);
    const bytes = Math.max(ARENA_BYTES, Math.ceil(wanted / ARENA_BYTES) * ARENA_BYTES);
    const taken = [
      ...this.#newArenas.map((arena) => asMapping(arena.address, arena.bytes)),
      ...this.#maps,
    ].sort((a, b) => (a.start < b.start ? -1 : 1));
    const arena = this.#block.addArena({ address: findPlace(taken, text, bytes), bytes });
    this.#newArenas.push(arena);
    this.#space.add(arena);
    const code = this.#space.place(room, text, build);
    ensure(code !== undefined, 'a new arena has room for one stub');
    return code;
  }

  #textAround(at: Address): AddressRange {
    const mapping = findMapping(this.#maps, at);
    if (mapping !== undefined && mapping.executable) return mapping;
    throw new TraplineError({
      code: 'no-file',
      message: `nothing executable is mapped at 0x${at.toString(16)} any more`,
      hint: 'The library may have been unloaded: try again.',
    });
  }

  #layoutOf(program: Program): RecordLayout {
    const known = this.#layouts.get(program) ?? layoutOf(program);
    this.#layouts.set(program, known);
    return known;
  }
}

/** The bytes at a site that lead to its stub. */
function jumpTo({ address: from, stub }: SiteRow): Uint8Array {
  const jump = new Assembler(from).jmp(stub, 'near').finish();
  ensure(jump.byteLength === JUMP_BYTES, 'a near jump has five bytes');
  return jump;
}
