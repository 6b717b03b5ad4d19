/**
 * What a register can hold before an instruction: its definitions are searched backwards along all paths. The answer may
 * hold too much, and never too little.
 */

import type { FunctionGraph } from './function-graph.ts';
import type { GraphInstruction, GraphMemory } from './graph-instruction.ts';

/** Steps of one search backwards. */
const MAX_STEPS = 20_000;
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
 *   or of one and a constant, which is the address
 * - `words`: loaded from a table of 64-bit addresses; its base is a register or none
 * - `address`: a constant
 * - `pointer`: loaded from memory without an index, an argument, a result; `spilled` if the memory
 *   is the function's own frame, so that the value was the function's before
 */
export type Origin =
  | {
      readonly kind: 'sum';
      readonly position: number;
      readonly registers: readonly number[];
      readonly constant: bigint | undefined;
    }
  | { readonly kind: 'words'; readonly position: number; readonly memory: GraphMemory }
  | { readonly kind: 'address'; readonly target: bigint }
  | { readonly kind: 'pointer'; readonly spilled: boolean }
  | { readonly kind: 'unknown'; readonly reason: string };

const UNKNOWN_FORM: Origin = { kind: 'unknown', reason: 'an unknown form of jump' };

/** What an indirect jump's goal can be made of, over all paths that lead to it. */
export function originsOf(graph: FunctionGraph, position: number): Origin[] {
  const hidden = graph.hiddenAt(position);
  if (hidden?.register !== undefined) return originsOfRegister(graph, hidden.at, hidden.register);
  const at = hidden?.at ?? position;
  const jump = graph.at(at);
  if (hidden !== undefined && jump?.operation !== 'push') return [UNKNOWN_FORM];
  if (jump?.memory !== undefined) return [loadedFrom(jump.memory, at)];
  if (jump?.first === undefined) return [UNKNOWN_FORM];
  return originsOfRegister(graph, position, jump.first);
}

/** What a register can hold before the instruction at `position`, over all paths. */
export function originsOfRegister(
  graph: FunctionGraph,
  position: number,
  register: number,
): Origin[] {
  const origins: Origin[] = [];
  const meet = (from: number | undefined, wanted: number): Step => {
    const instruction = from === undefined ? undefined : graph.at(from);
    if (from === undefined || instruction === undefined) {
      origins.push({ kind: 'pointer', spilled: false });
      return 'ends';
    }
    const found = definition(instruction, from, wanted);
    if (typeof found !== 'object') return found;
    origins.push(found);
    return 'ends';
  };
  const isWhole = searchBack(graph, position, register, meet, (goal) => {
    origins.push({ kind: 'address', target: graph.addressOf(goal) });
  });
  if (!isWhole) return [{ kind: 'unknown', reason: 'the function is too large' }];
  // No path from the entry: the code is reached in a way that we do not see.
  return origins.length > 0 ? origins : [{ kind: 'unknown', reason: 'nothing leads to a jump' }];
}

/**
 * Whether a register can only hold what was loaded from memory as a whole word, before the instruction at `position`: an
 * entry of a table, if it is an offset. What is computed, or loaded in two bytes, is none.
 */
export function isLoaded(graph: FunctionGraph, position: number, register: number): boolean {
  let loads = 0;
  let others = 0;
  const meet = (from: number | undefined, wanted: number): Step => {
    const instruction = from === undefined ? undefined : graph.at(from);
    const entry = instruction?.entry;
    if (entry?.into === wanted) {
      if (entry.from !== 'memory') return entry.from;
      loads++;
      return 'ends';
    }
    const isKept =
      from !== undefined &&
      instruction !== undefined &&
      definition(instruction, from, wanted) === 'passes';
    if (isKept) return 'passes';
    others++;
    return 'ends';
  };
  // The goal of a jump is an address: no program adds it to another one. Entries by chance lead to such places.
  const isWhole = searchBack(graph, position, register, meet, () => {});
  return isWhole && loads > 0 && others === 0;
}

/** What becomes of a search at an instruction: it goes on for the same register, for another, or ends there. */
type Step = 'passes' | 'ends' | number;

/**
 * Goes backwards along all paths.
 * @param meet shown each instruction with the register that is asked about; without a position at the function's entry
 * @param arrive shown where an indirect jump leads by that very register: the search ends there, for it holds just that address
 * @returns false if it was given up
 */
function searchBack(
  graph: FunctionGraph,
  position: number,
  register: number,
  meet: (position: number | undefined, register: number) => Step,
  arrive: (goal: number) => void,
): boolean {
  const seen = new Set<number>();
  const open: { position: number; register: number }[] = [];
  const goBack = (from: number, wanted: number): void => {
    if (from === 0) meet(undefined, wanted);
    for (const before of graph.predecessorsOf(from)) {
      if (graph.jumpsBy(before, wanted, from)) {
        arrive(from);
        continue;
      }
      const key = before * 16 + wanted;
      if (!seen.has(key)) open.push({ position: before, register: wanted });
      seen.add(key);
    }
  };
  goBack(position, register);
  for (let step = open.pop(); step !== undefined; step = open.pop()) {
    if (seen.size > MAX_STEPS) return false;
    const found = meet(step.position, step.register);
    if (found === 'passes') goBack(step.position, step.register);
    else if (typeof found === 'number') goBack(step.position, found);
  }
  return true;
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
    if (first === undefined) return COMPUTED;
    if (immediate !== undefined) return sum(position, [first], immediate);
    return second === undefined ? COMPUTED : sum(position, [first, second]);
  }
  if (operation !== 'lea' || memory === undefined) return COMPUTED;
  const { base, index, scale, displacement } = memory;
  if (base === undefined) {
    return index === undefined ? { kind: 'address', target: displacement } : COMPUTED;
  }
  if (index === undefined) return sum(position, [base], displacement);
  const isSum = scale === 1 && displacement === 0n;
  return isSum ? sum(position, [base, index]) : COMPUTED;
}

function sum(position: number, registers: readonly number[], constant?: bigint): Origin {
  return { kind: 'sum', position, registers, constant };
}

/** A goal loaded from memory: from a table if there is an index, else from some pointer. */
function loadedFrom(memory: GraphMemory, position: number): Origin {
  if (memory.index !== undefined) return { kind: 'words', position, memory };
  return { kind: 'pointer', spilled: memory.base === RSP || memory.base === RBP };
}
