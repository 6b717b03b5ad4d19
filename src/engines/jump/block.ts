/** The control block of one address space while it is changed: rows in, rows out, writes collected. */

import { randomInt } from 'node:crypto';

import { address, type Address } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import {
  Capacity,
  encodeArena,
  encodeProgram,
  encodeSession,
  encodeSite,
  type ArenaRow,
  type ControlWrite,
  type ProgramRow,
  type SessionRow,
  type SiteRow,
} from '../../process/control-rows.ts';
import {
  CONTROL_HEADER_BYTES,
  CONTROL_NAME,
  decodeExtent,
  decodeGeneration,
  decodeTables,
  encodeHeader,
  eraseRows,
  extentRanges,
  isBlank,
  type ControlTable,
  type ControlTables,
} from '../../process/control.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { joinRows, runs, splitAtPages } from './rows.ts';
import { verifyTables } from './verify.ts';
import type { CodeWrite } from './writes.ts';

/** Reads all of `length` bytes of a target, or throws. */
export type ReadMemory = (from: Address, length: number) => Uint8Array;

/**
 * The tables of one address space. Changes are made to this copy and collected; {@link takeWrites}
 * gives them as bytes for the block, which the owner writes under a stop.
 */
export class ControlBlock {
  /** Where the block is in the target; undefined until it is mapped. */
  address: Address | undefined;
  readonly sessions: Map<number, SessionRow> = new Map();
  readonly arenas: Map<number, ArenaRow> = new Map();
  readonly sites: Map<number, SiteRow> = new Map();
  readonly programs: Map<number, ProgramRow> = new Map();
  /** Rows that contradict the mappings or each other, and were left out: somebody else wrote them. */
  readonly contradictions: number;
  readonly #extent = { sessions: 0, arenas: 0, sites: 0, programs: 0 };
  readonly #pending = forEachTable(() => new Map<number, ControlWrite>());
  readonly #erased = forEachTable(() => new Set<number>());
  #generation: bigint;

  private constructor(
    at: Address | undefined,
    tables: ControlTables | undefined,
    contradictions: number,
  ) {
    this.address = at;
    this.contradictions = contradictions;
    this.#generation = tables?.generation ?? 0n;
    if (tables === undefined) return;
    for (const table of TABLES) {
      for (const row of tables[table]) this.#rows(table).set(row.index, row);
      this.#extent[table] = 1 + Math.max(-1, ...indices(tables[table]));
    }
  }

  /** A block that is not mapped yet. */
  static empty(): ControlBlock {
    return new ControlBlock(undefined, undefined, 0);
  }

  /**
   * Reads the block that a target's mappings show.
   * @returns an empty one when there is none.
   * @throws TraplineError `busy` when another version of Trapline made it; `bad-input` when it is not one.
   */
  static read(maps: readonly MemoryMapping[], read: ReadMemory): ControlBlock {
    const found = findControl(maps, read);
    if (found === undefined) return ControlBlock.empty();
    const { address: at, header } = found;
    if (isBlank(header)) return new ControlBlock(at, undefined, 0);
    const parts = extentRanges(decodeExtent(header)).map(({ offset, bytes }) =>
      read(address(at + BigInt(offset)), bytes),
    );
    const { tables, contradictions } = verifyTables(decodeTables(header, parts), maps);
    return new ControlBlock(at, tables, contradictions);
  }

  /** The generation of the block that a target's mappings show; undefined when there is none. */
  static readGeneration(maps: readonly MemoryMapping[], read: ReadMemory): bigint | undefined {
    const found = findControl(maps, read);
    return found === undefined ? undefined : decodeGeneration(found.header);
  }

  /** Changes with every change by any session: equal numbers mean that nobody else was here. */
  get generation(): bigint {
    return this.#generation;
  }

  /** Whether the address space needs nothing of ours any more. */
  get isEmpty(): boolean {
    return this.sessions.size === 0 && this.sites.size === 0 && this.contradictions === 0;
  }

  /** @throws TraplineError `bad-input` when rows were left out: what they hide must not be built upon. */
  ensureSound(): void {
    if (this.contradictions === 0) return;
    throw new TraplineError({
      code: 'bad-input',
      message: `${this.contradictions} rows of the process's control block contradict its memory`,
      hint: 'The process has overwritten its control block. Restart it to get rid of what is left in it.',
    });
  }

  /** The rows as they are now, changes included. */
  tables(): ControlTables {
    return {
      generation: this.generation,
      sessions: [...this.sessions.values()],
      arenas: [...this.arenas.values()],
      sites: [...this.sites.values()],
      programs: [...this.programs.values()],
    };
  }

  /** Adds a session; @throws TraplineError `limit` when the table is full. */
  addSession(row: Omit<SessionRow, 'index'>): SessionRow {
    const added = { ...row, index: this.#freeIndex('sessions') };
    this.sessions.set(added.index, added);
    return this.#changed('sessions', added, encodeSession(added));
  }

  /** Adds an arena; @throws TraplineError `limit`. */
  addArena(row: Omit<ArenaRow, 'index'>): ArenaRow {
    const added = { ...row, index: this.#freeIndex('arenas') };
    this.arenas.set(added.index, added);
    return this.#changed('arenas', added, encodeArena(added));
  }

  /** Adds a site; @throws TraplineError `limit`. */
  addSite(row: Omit<SiteRow, 'index'>): SiteRow {
    return this.putSite({ ...row, index: this.#freeIndex('sites') });
  }

  /** Changes a site's row. */
  putSite(row: SiteRow): SiteRow {
    this.sites.set(row.index, row);
    return this.#changed('sites', row, encodeSite(row));
  }

  /** Adds a program; @throws TraplineError `limit`. */
  addProgram(row: Omit<ProgramRow, 'index'>): ProgramRow {
    const added = { ...row, index: this.#freeIndex('programs') };
    this.programs.set(added.index, added);
    return this.#changed('programs', added, encodeProgram(added));
  }

  /** Takes a row out. */
  remove(table: ControlTable, index: number): void {
    this.#rows(table).delete(index);
    this.#pending[table].delete(index);
    this.#erased[table].add(index);
  }

  /** The live site at an address, if there is one. */
  siteAt(at: Address): SiteRow | undefined {
    for (const site of this.sites.values()) {
      if (site.address === at && site.state === 'live') return site;
    }
    return undefined;
  }

  /** The programs of a site, in no particular order: the list in memory has it. */
  programsOf(site: SiteRow): ProgramRow[] {
    return [...this.programs.values()].filter((program) => program.site === site.index);
  }

  /**
   * The collected changes as writes to the target, to be made in this order; the collection is empty
   * afterwards. A row comes before those that refer to it, and goes after them, so that no death of ours
   * leaves a reference to a row that is not there. The header comes first and last, with two generations:
   * whoever reads while we write sees one that does not stay.
   */
  takeWrites(): CodeWrite[] {
    const base = this.address;
    if (base === undefined) throw new RangeError('the control block is not mapped');
    const place = ({ offset, bytes }: ControlWrite): CodeWrite => ({
      address: address(base + BigInt(offset)),
      bytes,
    });
    const added = ERASING_ORDER.toReversed().flatMap((table) => {
      const rows = joinRows([...this.#pending[table].values()]);
      this.#pending[table].clear();
      return splitAtPages(rows.map(place));
    });
    const erased = ERASING_ORDER.flatMap((table) => {
      const rows = runs(this.#erased[table]).map(({ first, count }) =>
        eraseRows(table, first, count),
      );
      this.#erased[table].clear();
      return rows.map(place);
    });
    if (added.length === 0 && erased.length === 0) return [];
    // A block that is made anew must not repeat the numbers of the one before.
    if (this.#generation === 0n) this.#generation = BigInt(randomInt(1, 2 ** 47));
    const header = (): CodeWrite => place(encodeHeader(this.#extent, ++this.#generation));
    return [header(), ...added, ...erased, header()];
  }

  #changed<Row extends { readonly index: number }>(
    table: ControlTable,
    row: Row,
    write: ControlWrite,
  ): Row {
    this.#extent[table] = Math.max(this.#extent[table], row.index + 1);
    this.#erased[table].delete(row.index);
    this.#pending[table].set(row.index, write);
    return row;
  }

  #freeIndex(table: ControlTable): number {
    const rows = this.#rows(table);
    // Dense tables are the rule: the first candidate is nearly always free.
    let index = rows.size;
    if (rows.has(index)) for (index = 0; rows.has(index); index++);
    if (index < Capacity[table]) return index;
    throw new TraplineError({
      code: 'limit',
      message: `a process can hold ${Capacity[table]} ${table} at most`,
      hint: 'Name fewer places, or end a session that holds some: `trapline status` shows them.',
    });
  }

  #rows(table: ControlTable): Map<number, { readonly index: number }> {
    // Reading through the common part of the row types; the typed maps are written by their own methods.
    return this[table];
  }
}

const TABLES: readonly ControlTable[] = ['sessions', 'arenas', 'sites', 'programs'];
/** What refers to others first. */
const ERASING_ORDER: readonly ControlTable[] = ['programs', 'sites', 'sessions', 'arenas'];

function forEachTable<T>(make: () => T): Record<ControlTable, T> {
  return { sessions: make(), arenas: make(), sites: make(), programs: make() };
}

function* indices(rows: readonly { readonly index: number }[]): Generator<number> {
  for (const row of rows) yield row.index;
}

/** A control block that was found. */
export interface FoundControl {
  readonly address: Address;
  readonly header: Uint8Array;
}

/**
 * Finds the control block: the part of the file of that name that is not executable. One whose maker
 * died before it gave the file a size can't be read, and is none.
 */
export function findControl(
  maps: readonly MemoryMapping[],
  read: ReadMemory,
): FoundControl | undefined {
  for (const { path, executable, offset, start } of maps) {
    if (path !== `/memfd:${CONTROL_NAME}` || executable || offset !== 0n) continue;
    const header = readIfThere(read, start, CONTROL_HEADER_BYTES);
    if (header !== undefined) return { address: start, header };
  }
  return undefined;
}

/** Reads memory of a target; undefined where there is none, though something is mapped. */
export function readIfThere(
  read: ReadMemory,
  from: Address,
  length: number,
): Uint8Array | undefined {
  try {
    return read(from, length);
  } catch (error) {
    if (error instanceof TraplineError && error.code === 'bad-input') return undefined;
    throw error;
  }
}
