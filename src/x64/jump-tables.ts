/**
 * Where the indirect jumps of a function go: the tables that compilers make of `switch` and computed
 * `goto`, and tail calls, which leave. The answer may hold too many targets, and never too few.
 *
 * From each jump the definitions of its register are searched backwards along all paths. Table bounds
 * are not read from the comparison before the jump: a misread bound would lose targets, and a
 * table read on until an entry leaves the text only gains a few.
 */

import { unreachable } from '../base/errors.ts';
import { neverGoesOn } from './decode.ts';
import { readTables, type Table, type TableImage } from './table-entries.ts';
import { FunctionGraph, type GraphInstruction, type GraphMemory } from './function-graph.ts';
import type { Listing } from './listing.ts';

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
export type JumpTargets =
  | { readonly kind: 'known'; readonly targets: readonly bigint[] }
  | { readonly kind: 'unknown'; readonly at: bigint; readonly reason: string };

/** Steps of one search backwards. */
const MAX_STEPS = 20_000;
/** Instructions before a tail call in which the stack is given back. */
const EPILOGUE = 12;
/** rax, rcx, rdx, rsi, rdi, r8 to r11: what a call may change (psABI x86-64, figure 3.4). */
const CLOBBERED = 0x0fc7;
/** Encoding numbers. */
const RAX = 0;
const RSP = 4;
const RBP = 5;

/**
 * What one path has found a value to be:
 *
 * - `sum`: of an address and an offset from a table; of two registers as they are at an instruction,
 *   or of one and a constant
 * - `words`: loaded from a table of 64-bit addresses; its base is a register or none
 * - `address`: a constant
 * - `pointer`: loaded from memory without an index, an argument, a result; `spilled` if the memory
 *   is the function's own frame, so that the value was the function's before
 */
type Origin =
  | { readonly kind: 'sum'; readonly position: number; readonly registers: readonly number[] }
  | { readonly kind: 'sum'; readonly constant: bigint }
  | { readonly kind: 'words'; readonly position: number; readonly memory: GraphMemory }
  | { readonly kind: 'address'; readonly target: bigint }
  | { readonly kind: 'pointer'; readonly spilled: boolean }
  | { readonly kind: 'unknown'; readonly reason: string };

/**
 * Finds where the indirect jumps of a function can go.
 * @returns `known` with no targets for a function that has none, or tail calls only.
 */
export function findJumpTargets(listing: Listing, image: Image): JumpTargets {
  const { code, address: start } = listing;
  if (!mayJumpIndirectly(code)) return { kind: 'known', targets: [] };
  if (!listing.isClean) return { kind: 'unknown', at: start, reason: 'it does not decode' };
  const jumps = indirectJumps(listing);
  if (jumps.length === 0) return { kind: 'known', targets: [] };
  using graph = new FunctionGraph(listing);
  const end = start + BigInt(code.byteLength);
  const targets = new Set<bigint>();
  for (const position of jumps) {
    for (const origin of originsOf(graph, position)) {
      const found = resolve(origin, graph, image);
      const isPointer = found === 'pointer';
      const isSpilled = origin.kind === 'pointer' && origin.spilled;
      if (isPointer && leaves(graph, position, { start, end }, image, isSpilled)) continue;
      if (isPointer || typeof found === 'string') {
        const reason = isPointer ? 'a jump through a pointer may stay inside' : found;
        return { kind: 'unknown', at: start + BigInt(listing.starts[position] ?? 0), reason };
      }
      for (const target of found) targets.add(target);
    }
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

/** What an indirect jump's goal can be made of, over all paths that lead to it. */
function originsOf(graph: FunctionGraph, position: number): Origin[] {
  const jump = graph.at(position);
  if (jump?.memory !== undefined) return [loadedFrom(jump.memory, position)];
  if (jump?.first === undefined) return [{ kind: 'unknown', reason: 'an unknown form of jump' }];
  return search(graph, position, jump.first);
}

/** What a register can hold before the instruction at `position`, over all paths. */
function search(graph: FunctionGraph, position: number, register: number): Origin[] {
  const origins: Origin[] = [];
  const seen = new Set<number>();
  const open: { position: number; register: number }[] = [];
  const goBack = (from: number, wanted: number): void => {
    if (from === 0) origins.push({ kind: 'pointer', spilled: false });
    for (const before of graph.predecessors[from] ?? []) {
      const key = before * 16 + wanted;
      if (!seen.has(key)) open.push({ position: before, register: wanted });
      seen.add(key);
    }
  };
  goBack(position, register);
  for (let step = open.pop(); step !== undefined; step = open.pop()) {
    if (seen.size > MAX_STEPS) return [{ kind: 'unknown', reason: 'the function is too large' }];
    const instruction = graph.at(step.position);
    if (instruction === undefined) continue;
    const found = definition(instruction, step.position, step.register);
    if (found === 'passes') goBack(step.position, step.register);
    else if (typeof found === 'number') goBack(step.position, found);
    else origins.push(found);
  }
  // No path from the entry: the code is reached in a way that we do not see.
  return origins.length > 0 ? origins : [{ kind: 'unknown', reason: 'nothing leads to a jump' }];
}

const COMPUTED: Origin = { kind: 'unknown', reason: 'the goal of a jump is computed' };

/** What an instruction makes of a register: nothing, a copy of another, or one of the origins. */
function definition(
  instruction: GraphInstruction,
  position: number,
  register: number,
): Origin | 'passes' | number {
  const { flow, writes, first } = instruction;
  if (flow === 'call' || flow === 'indirect-call' || flow === 'system') {
    if (((CLOBBERED >> register) & 1) === 0) return 'passes';
    if (register === RAX) return { kind: 'pointer', spilled: false };
    return { kind: 'unknown', reason: 'the goal of a jump crosses a call' };
  }
  if (((writes >> register) & 1) === 0) return 'passes';
  return first === register ? assigned(instruction, position) : COMPUTED;
}

/** What an instruction puts into its first operand, a register of 64 bits. */
function assigned(instruction: GraphInstruction, position: number): Origin | number {
  const { operation, first, second, memory, immediate } = instruction;
  if (operation === 'mov') {
    if (memory !== undefined) return loadedFrom(memory, position);
    if (second !== undefined) return second;
    return immediate === undefined ? COMPUTED : { kind: 'address', target: immediate };
  }
  if (operation === 'add') {
    if (immediate !== undefined) return { kind: 'sum', constant: immediate };
    if (first === undefined || second === undefined) return COMPUTED;
    return { kind: 'sum', position, registers: [first, second] };
  }
  if (operation !== 'lea' || memory === undefined) return COMPUTED;
  const { base, index, scale, displacement } = memory;
  if (base === undefined) {
    return index === undefined ? { kind: 'address', target: displacement } : COMPUTED;
  }
  if (index === undefined) return { kind: 'sum', constant: displacement };
  const isSum = scale === 1 && displacement === 0n;
  return isSum ? { kind: 'sum', position, registers: [base, index] } : COMPUTED;
}

/** A goal loaded from memory: from a table if there is an index, else from some pointer. */
function loadedFrom(memory: GraphMemory, position: number): Origin {
  if (memory.index !== undefined) return { kind: 'words', position, memory };
  return { kind: 'pointer', spilled: memory.base === RSP || memory.base === RBP };
}

/** The targets of an origin inside the text; 'pointer'; or the reason why nothing is known. */
function resolve(origin: Origin, graph: FunctionGraph, image: Image): bigint[] | string {
  switch (origin.kind) {
    case 'address':
      return isText(origin.target, image) ? [origin.target] : [];
    case 'pointer':
      return 'pointer';
    case 'unknown':
      return origin.reason;
    case 'sum': {
      const bases =
        'constant' in origin
          ? [origin.constant]
          : basesOf(graph, origin.position, origin.registers);
      if (bases === undefined) return 'the base of a jump table is not known';
      const tables = bases.flatMap((base) => tablesOf(base, graph.taken, image));
      return readTables(tables, image, 4) ?? 'no table was found for a jump';
    }
    case 'words': {
      const { base, index, scale, displacement } = origin.memory;
      // Without a scale either register can be the base.
      const registers = [base, scale === 1 ? index : undefined].filter((one) => one !== undefined);
      const bases = base === undefined ? [0n] : basesOf(graph, origin.position, registers);
      const shifted = bases?.map((one) => BigInt.asUintN(64, one + displacement));
      // An array that is filled at run time, or not ours: its elements are pointers like others.
      const tables = shifted?.map((at) => ({ at, base: 0n }));
      return (tables && readTables(tables, image, 8)) ?? 'pointer';
    }
  }
  return unreachable(origin);
}

/**
 * The addresses that one of the registers holds before an instruction, if it holds nothing else. If
 * it comes back from the frame, every address that the function takes.
 */
function basesOf(
  graph: FunctionGraph,
  position: number,
  registers: readonly number[],
): readonly bigint[] | undefined {
  let spilled = false;
  for (const register of registers) {
    const origins = search(graph, position, register);
    const addresses = origins.flatMap((one) => (one.kind === 'address' ? [one.target] : []));
    if (addresses.length > 0 && addresses.length === origins.length) return addresses;
    spilled ||= origins.every(
      (one) => one.kind === 'address' || (one.kind === 'pointer' && one.spilled),
    );
  }
  return spilled ? graph.taken : undefined;
}

/**
 * Compilers count a switch's offsets from the table. A program that counts its own from a label, as
 * `&&label - &&base` in C, has the table elsewhere: in any place that the function addresses.
 */
function tablesOf(base: bigint, taken: readonly bigint[], image: Image): Table[] {
  const places = isText(base, image) ? [base, ...taken] : [base];
  return places.map((at) => ({ at, base }));
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
  { start, end }: { readonly start: bigint; readonly end: bigint },
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
