/**
 * Where the indirect jumps of a function go: the tables that compilers make of `switch` and computed
 * `goto`, and tail calls, which leave; hidden ones too (hidden-jumps.ts). The answer may hold too many targets, and never too few.
 *
 * From each jump the definitions of its register are searched backwards (origins.ts). Table bounds
 * are not read from the comparison before the jump: a misread bound would lose targets, and a
 * table that is read on only gains a few, by chance: code lies in a small part of what an entry can say.
 */

import { address } from '../base/brand.ts';
import { unreachable } from '../base/errors.ts';
import { neverGoesOn } from './decode.ts';
import {
  entriesWithin,
  likelyEntries,
  findTables,
  type Bounds,
  type JumpTable,
  type PossibleTable,
  type TableImage,
} from './table-entries.ts';
import { FunctionGraph } from './function-graph.ts';
import { hiddenJumps, mayHideJumps } from './hidden-jumps.ts';
import type { Listing } from './listing.ts';
import { isLoaded, originsOf, originsOfRegister, type Origin } from './origins.ts';

/** What the search needs of the file, all in its own virtual addresses. */
export interface Image extends TableImage {
  /**
   * Whether a pointer (of the relocations, say) points into start ≤ p < end. If given, a jump
   * through a pointer is known to leave a function that nothing points into; without it the stack
   * has to show that.
   */
  readonly hasPointerInto?: (start: bigint, end: bigint) => boolean;
}

/** Where the indirect jumps of a function can go inside the text, tail calls left aside. */
export type IndirectJumps = KnownJumps | UnknownJumps;

interface KnownJumps {
  readonly kind: 'known';
  readonly addresses: readonly bigint[];
  readonly tables: readonly JumpTable[];
}

interface UnknownJumps {
  readonly kind: 'unknown';
  readonly at: bigint;
  readonly reason: string;
}

/** The same as far as it lies in the bytes that were asked about. */
export type JumpTargets =
  | { readonly kind: 'known'; readonly targets: readonly bigint[] }
  | UnknownJumps;

/** Instructions before a tail call in which the stack is given back. */
const EPILOGUE = 12;
/**
 * A jump may lead to another one, with another table in its register, and that one on: so often is asked anew. Compilers need
 * no more than two.
 */
const MOST_ROUNDS = 8;

/**
 * Finds how the indirect jumps of a function get at their goals. It does not depend on who asks: keep it, for a function
 * may have parts that each ask about it.
 * @returns `known` with nothing for a function that has none, or tail calls only.
 */
export function findIndirectJumps(listing: Listing, image: Image): IndirectJumps {
  const { code, address: start } = listing;
  const isPlain = mayJumpIndirectly(code);
  if (!listing.isClean) {
    if (!isPlain && !mayHideJumps(listing, image)) return NO_JUMPS;
    return { kind: 'unknown', at: start, reason: 'it does not decode' };
  }
  const hidden = hiddenJumps(listing, image);
  const jumps = [...(isPlain ? indirectJumps(listing) : []), ...hidden.keys()];
  if (jumps.length === 0) return NO_JUMPS;
  using graph = new FunctionGraph(listing, jumps, hidden);
  const bounds = { start, end: address(start + BigInt(code.byteLength)) };
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const found = resolveAll(graph, jumps, bounds, image);
    if (found.kind === 'unknown' || !leadOn(graph, found, bounds, image)) return found;
  }
  return { kind: 'unknown', at: start, reason: 'its jump tables lead on to ever more' };
}

/** Notes where jumps lead within the function; whether that tells more of where control comes from than was known. */
function leadOn(graph: FunctionGraph, found: KnownJumps, bounds: Bounds, image: Image): boolean {
  const targets = new Set(found.addresses);
  for (const table of found.tables) {
    const likely = likelyEntries(table, image, bounds, (target) => graph.begins(target));
    for (const target of likely) targets.add(target);
  }
  let isMore = false;
  for (const target of targets) if (graph.enter(target)) isMore = true;
  return isMore;
}

/** What the jumps go by, as far as is known from where control comes to them. */
function resolveAll(
  graph: FunctionGraph,
  jumps: readonly number[],
  bounds: Bounds,
  image: Image,
): IndirectJumps {
  const addresses = new Set<bigint>();
  const tables: JumpTable[] = [];
  for (const position of jumps) {
    for (const origin of originsOf(graph, position)) {
      const found = resolve(origin, graph, image);
      const isPointer = found === 'pointer';
      const isSpilled = origin.kind === 'pointer' && origin.spilled;
      if (isPointer && leaves(graph, position, bounds, image, isSpilled)) continue;
      if (isPointer || typeof found === 'string') {
        const reason = isPointer ? 'a jump through a pointer may stay inside' : found;
        return { kind: 'unknown', at: graph.addressOf(position), reason };
      }
      if (typeof found === 'bigint') addresses.add(found);
      else tables.push(...found);
    }
  }
  return { kind: 'known', addresses: [...addresses], tables: distinct(tables) };
}

const NO_JUMPS: IndirectJumps = { kind: 'known', addresses: [], tables: [] };

/** Jumps of one function share tables, and each jump of a threaded interpreter has all of them. */
function distinct(tables: readonly JumpTable[]): JumpTable[] {
  return [...new Map(tables.map((table) => [keyOf(table), table])).values()];
}

function keyOf({ at, distance, entryBytes }: JumpTable): string {
  return `${at} ${distance} ${entryBytes}`;
}

/** Where indirect jumps go within `wanted`, in ascending order. */
export function targetsWithin(jumps: IndirectJumps, image: Image, wanted: Bounds): JumpTargets {
  if (jumps.kind === 'unknown') return jumps;
  const isWanted = (target: bigint): boolean => target >= wanted.start && target < wanted.end;
  const targets = new Set(jumps.addresses.filter((target) => isWanted(target)));
  for (const table of jumps.tables) {
    for (const target of entriesWithin(table, image, wanted)) targets.add(target);
  }
  return { kind: 'known', targets: [...targets].sort((one, other) => (one < other ? -1 : 1)) };
}

/**
 * Whether an indirect jump can be in `code` at all: `ff /4` or `ff /5` (Intel SDM volume 2, JMP). Where it can't,
 * nothing has to be known of the function, not even whether it decodes.
 */
function mayJumpIndirectly(code: Uint8Array): boolean {
  for (let at = code.indexOf(0xff); at >= 0; at = code.indexOf(0xff, at + 1)) {
    if (((code[at + 1] ?? 0) & 0x30) === 0x20) return true;
  }
  return false;
}

function indirectJumps(listing: Listing): number[] {
  const found: number[] = [];
  for (let position = 0; position < listing.count; position++) {
    if (listing.flowAt(position) === 'indirect-jump') found.push(position);
  }
  return found;
}

const COMPUTED = 'the goal of a jump is computed';

/** An address of the text or tables that an origin leads by; 'pointer'; or the reason why nothing is known. */
function resolve(
  origin: Origin,
  graph: FunctionGraph,
  image: Image,
): bigint | readonly JumpTable[] | string {
  switch (origin.kind) {
    case 'address':
      return isText(origin.target, image) ? origin.target : [];
    case 'pointer':
      return 'pointer';
    case 'unknown':
      return origin.reason;
    case 'sum': {
      const bases = basesOfSum(graph, origin);
      if (typeof bases === 'string') return bases;
      const possible = bases.flatMap((base) => tablesOf(base, graph, image));
      const tables = findTables(possible, image, 4);
      if (typeof tables === 'string') return tables;
      return tables.length > 0 ? tables : 'no table was found for a jump';
    }
    case 'words': {
      const { base, index, scale, displacement } = origin.memory;
      // Without a scale either register can be the base.
      const registers = [base, scale === 1 ? index : undefined].filter((one) => one !== undefined);
      const bases = base === undefined ? [0n] : basesOf(graph, origin.position, registers)?.bases;
      if (bases === undefined) return 'pointer';
      const shifted = bases.map((one) => BigInt.asUintN(64, one + displacement));
      // An array that is filled at run time, or not ours: its elements are pointers like others.
      const possible = shifted.map((at) => ({ at, base: 0n }));
      const tables = findTables(possible, image, 8);
      if (typeof tables === 'string') return tables;
      return tables.length > 0 ? tables : 'pointer';
    }
  }
  return unreachable(origin);
}

/** The addresses to which a sum adds an entry of a table; else why there are none. */
function basesOfSum(
  graph: FunctionGraph,
  { position, registers, constant }: Extract<Origin, { kind: 'sum' }>,
): readonly bigint[] | string {
  const isEntry = (register: number): boolean => isLoaded(graph, position, register);
  if (constant !== undefined) return registers.every((one) => isEntry(one)) ? [constant] : COMPUTED;
  const found = basesOf(graph, position, registers);
  if (found === undefined) return 'the base of a jump table is not known';
  const others = registers.filter((register) => register !== found.register);
  return others.every((other) => isEntry(other)) ? found.bases : COMPUTED;
}

/**
 * The addresses that one of the registers holds before an instruction, if it holds nothing else. If
 * it comes back from the frame, every address that the function takes.
 */
function basesOf(
  graph: FunctionGraph,
  position: number,
  registers: readonly number[],
): { readonly bases: readonly bigint[]; readonly register: number } | undefined {
  let spilled: number | undefined;
  for (const register of registers) {
    const origins = originsOfRegister(graph, position, register);
    const addresses = origins.flatMap((one) => (one.kind === 'address' ? [one.target] : []));
    if (addresses.length > 0 && addresses.length === origins.length) {
      return { bases: addresses, register };
    }
    const isSpilled = origins.every(
      (one) => one.kind === 'address' || (one.kind === 'pointer' && one.spilled),
    );
    if (isSpilled) spilled ??= register;
  }
  return spilled === undefined ? undefined : { bases: graph.taken, register: spilled };
}

/**
 * Compilers count a switch's offsets from the table. A program that counts its own from a label, as
 * `&&label - &&base` in C, has the table elsewhere: in any place that the function addresses, but not among its
 * instructions.
 */
function tablesOf(base: bigint, graph: FunctionGraph, image: Image): PossibleTable[] {
  const places = isText(base, image) ? [base, ...graph.taken] : [base];
  return places.filter((at) => !graph.begins(at)).map((at) => ({ at, base }));
}

function isText(target: bigint, { text }: Image): boolean {
  return target >= text.start && target < text.end;
}

/**
 * Whether a jump through a pointer leaves the function: nothing may point inside it, but at its
 * entry. Its own code is asked, then the file; or else the stack must be given back right before it, as
 * a tail call does and a computed goto does not. A pointer that the function itself had put into its frame
 * may be anything that it has worked out from an address.
 */
function leaves(
  graph: FunctionGraph,
  position: number,
  { start, end }: Bounds,
  image: Image,
  isSpilled: boolean,
): boolean {
  if (graph.taken.some((at) => at > start && at < end)) return false;
  if (isSpilled && graph.taken.length > 0) return false;
  const isPointedInto = image.hasPointerInto?.(start + 1n, end);
  if (isPointedInto === false) return true;
  if (isSpilled) return false;
  // Only within its block: what stands before a return is another path's.
  for (let at = position - 1; at >= Math.max(0, position - EPILOGUE); at--) {
    if (graph.at(at)?.stack === 'up') return true;
    if (neverGoesOn(graph.flowAt(at))) break;
  }
  if (isPointedInto === true) return false;
  for (let at = 0; at < graph.count; at++) if (graph.at(at)?.stack === 'down') return false;
  return true;
}
