/** The control block of one address space while it is changed: rows in, rows out, writes collected. */

import { address, type Address } from '../../base/brand.ts';
import { TraplineError } from '../../base/errors.ts';
import {
  Capacity,
  CONTROL_HEADER_BYTES,
  CONTROL_NAME,
  decodeExtent,
  decodeGeneration,
  decodeTables,
  encodeArena,
  encodeHeader,
  encodeProgram,
  encodeSession,
  encodeSite,
  eraseRow,
  extentRanges,
  isBlank,
  type ArenaRow,
  type ControlTable,
  type ControlTables,
  type ControlWrite,
  type ProgramRow,
  type SessionRow,
  type SiteRow,
} from '../../process/control.ts';
import type { MemoryMapping } from '../../process/maps.ts';
import { coalesce, type CodeWrite } from './writes.ts';

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
  /** Grows with every change by any session: equal numbers mean that nobody else was here. */
  readonly generation: bigint;
  readonly #extent = { sessions: 0, arenas: 0, sites: 0, programs: 0 };
  readonly #pending = new Map<string, ControlWrite>();

  private constructor(at: Address | undefined, tables: ControlTables | undefined) {
    this.address = at;
    this.generation = tables?.generation ?? 0n;
    if (tables === undefined) return;
    for (const table of TABLES) {
      for (const row of tables[table]) this.#rows(table).set(row.index, row);
      this.#extent[table] = 1 + Math.max(-1, ...indices(tables[table]));
    }
  }

  /** A block that is not mapped yet. */
  static empty(): ControlBlock {
    return new ControlBlock(undefined, undefined);
  }

  /**
   * Reads the block that a target's mappings show.
   * @returns an empty one when there is none.
   * @throws TraplineError `busy` when another version of Trapline made it; `bad-input` when it is not one.
   */
  static read(maps: readonly MemoryMapping[], read: ReadMemory): ControlBlock {
    const mapping = findControl(maps);
    if (mapping === undefined) return ControlBlock.empty();
    const header = read(mapping.start, CONTROL_HEADER_BYTES);
    if (isBlank(header)) return new ControlBlock(mapping.start, undefined);
    const extent = decodeExtent(header);
    const parts = extentRanges(extent).map(({ offset, bytes }) =>
      read(address(mapping.start + BigInt(offset)), bytes),
    );
    return new ControlBlock(mapping.start, decodeTables(parts));
  }

  /** The generation of the block that a target's mappings show; undefined when there is none. */
  static readGeneration(maps: readonly MemoryMapping[], read: ReadMemory): bigint | undefined {
    const mapping = findControl(maps);
    return mapping === undefined
      ? undefined
      : decodeGeneration(read(mapping.start, CONTROL_HEADER_BYTES));
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
    this.#pending.set(`${table}:${index}`, eraseRow(table, index));
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
   * The collected changes as writes to the target, few and in order; the collection is empty afterwards.
   * The header, with a new generation, is among them.
   */
  takeWrites(): CodeWrite[] {
    const base = this.address;
    if (base === undefined) throw new RangeError('the control block is not mapped');
    if (this.#pending.size === 0) return [];
    const header = encodeHeader(this.#extent, this.generation + 1n);
    const writes = [header, ...this.#pending.values()].map(({ offset, bytes }) => ({
      address: address(base + BigInt(offset)),
      bytes,
    }));
    this.#pending.clear();
    return coalesce(writes);
  }

  #changed<Row extends { readonly index: number }>(
    table: ControlTable,
    row: Row,
    write: ControlWrite,
  ): Row {
    this.#extent[table] = Math.max(this.#extent[table], row.index + 1);
    this.#pending.set(`${table}:${row.index}`, write);
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

function* indices(rows: readonly { readonly index: number }[]): Generator<number> {
  for (const row of rows) yield row.index;
}

/** The mapping of the control block: the readable, not executable part of the file of that name. */
export function findControl(maps: readonly MemoryMapping[]): MemoryMapping | undefined {
  return maps.find(
    (mapping) =>
      mapping.path === `/memfd:${CONTROL_NAME}` && !mapping.executable && mapping.offset === 0n,
  );
}
