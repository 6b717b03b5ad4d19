/**
 * Which branches land inside bytes that are to be patched: rule 4, for a whole file at once.
 *
 * Disassembling a file would have to be believed; instead every byte position is taken for the opcode
 * of a direct branch, or of a `lea`, whose address somebody may jump to. No true one is missed, and
 * the few that hit a window are then looked at one by one: they are dismissed only if a clean decoding of their
 * function shows that none starts there. Indirect branches are the matter of jump-tables.ts.
 */

import { address } from '../base/brand.ts';
import { isJump, isLea, scanBranches } from './branch-scan.ts';
import { decodeAt, isDirect } from './decode.ts';
import type { Listing } from './listing.ts';

/** Bytes of which it is asked who comes to them: from behind `start` up to `end`, which is not meant. Offsets into the text. */
export interface Window {
  readonly start: number;
  readonly end: number;
  /** Whether calls and taken addresses are of no interest: a function has many, and each is looked at. */
  readonly jumpsOnly?: boolean;
}

/** A branch into a window, or an instruction that takes an address there. Offsets into the text. */
export interface Landing {
  readonly kind: LandingKind;
  /** Where it goes: start < target < end of the window. */
  readonly target: number;
  /** Where its opcode stands, behind its prefixes. */
  readonly from: number;
  /** Whether a clean decoding shows it. If not, it lies in bytes of which nothing is known. */
  readonly certain: boolean;
}

/** `address`: a `lea` relative to rip, whose result somebody may jump to. */
export type LandingKind = 'branch' | 'address';

/** A function of the text. */
export interface TextFunction {
  /** Where it begins, as an offset into the text. */
  readonly start: number;
  readonly listing: Listing;
}

/**
 * Finds every direct branch in `text` that lands inside a window behind its first byte, and every `lea` of an
 * address there.
 * @param text all executable bytes of the file that are mapped together
 * @param windows in any order; they may overlap and may lie outside the text
 * @param functionAt the function that an offset of the text belongs to, if it is known
 * @returns for each window, in the order given, its landings in ascending order of `from`
 */
export function findLandings(
  text: Uint8Array,
  windows: readonly Window[],
  functionAt: (at: number) => TextFunction | undefined,
): Landing[][] {
  const goals = new Map<number, Goal>();
  const marked = windows.map(({ start, end }) => ({ first: start + 1, end }));
  scanBranches(text, marked, (from, target) => {
    const known = goals.get(target);
    if (known === undefined) goals.set(target, { froms: [from], verified: new Map() });
    else known.froms.push(from);
  });
  const targets = Float64Array.from(goals.keys()).sort();
  return windows.map((window) => collect(text, window, goals, targets, functionAt));
}

/** Who may come to one byte. */
interface Goal {
  readonly froms: number[];
  /** By where it comes from; undefined if it turned out to be none. Windows overlap, and ask again. */
  readonly verified: Map<number, Landing | undefined>;
}

function collect(
  text: Uint8Array,
  { start, end, jumpsOnly = false }: Window,
  goals: ReadonlyMap<number, Goal>,
  targets: Float64Array,
  functionAt: (at: number) => TextFunction | undefined,
): Landing[] {
  const landings: Landing[] = [];
  for (let index = firstAbove(targets, start); index < targets.length; index++) {
    const target = targets[index] ?? Infinity;
    if (target >= end) break;
    const goal = goals.get(target);
    for (const from of goal?.froms ?? []) {
      if (goal === undefined || (jumpsOnly && !isJump(text, from))) continue;
      if (!goal.verified.has(from)) goal.verified.set(from, verify(text, from, target, functionAt));
      const landing = goal.verified.get(from);
      if (landing !== undefined) landings.push(landing);
    }
  }
  return landings.sort((one, other) => one.from - other.from);
}

/** The index of the first element of `sorted` that is above `value`. */
function firstAbove(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** What was found, if its function does not show that it is none. */
function verify(
  text: Uint8Array,
  from: number,
  target: number,
  functionAt: (at: number) => TextFunction | undefined,
): Landing | undefined {
  const kind = isLea(text, from) ? 'address' : 'branch';
  const doubtful: Landing = { kind, target, from, certain: false };
  const around = functionAt(from);
  if (around?.listing.isClean !== true) return doubtful;
  const { start, listing } = around;
  // Prefixes stand before the opcode: the instruction that holds it, not one that starts there.
  const holder = listing.holderOf(from - start);
  if (holder < 0) return doubtful;
  const found = kind === 'branch' ? branchOf(listing, holder) : addressOf(listing, holder);
  if (found === 'unknown') return doubtful;
  return found === target - start ? { kind, target, from, certain: true } : undefined;
}

/** Where an instruction branches to, from its function's start. */
function branchOf(listing: Listing, position: number): number | 'unknown' | undefined {
  if (!isDirect(listing.flowAt(position))) return undefined;
  return listing.targetAt(position) ?? 'unknown';
}

/** What an instruction addresses relative to rip, from its function's start. */
function addressOf({ address: at, code, starts }: Listing, position: number): number | undefined {
  const offset = starts[position] ?? 0;
  const { ripTarget } = decodeAt(code, offset, address(at + BigInt(offset)));
  return ripTarget === undefined ? undefined : Number(ripTarget - at);
}
