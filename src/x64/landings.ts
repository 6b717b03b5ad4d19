/**
 * Which branches land inside bytes that are to be patched: rule 4, for a whole file at once.
 *
 * Disassembling a file would have to be believed; instead every byte position is taken for the opcode
 * of a direct branch, or of a `lea`, whose address somebody may jump to. No true one is missed, and
 * the few that hit a window are then looked at one by one: they are dismissed only if a clean decoding of their
 * function shows that none starts there. Indirect branches are the matter of jump-tables.ts.
 */

import { address } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { lowerBound } from '../base/sorted.ts';
import { isJump, isLea, scanBranches } from './branch-scan.ts';
import { decodeAt, isDirect } from './decode.ts';
import type { Listing } from './listing.ts';

/**
 * Bytes of which it is asked who comes to them: from behind `start` up to `end`, which is not meant. Offsets from the text's
 * start: they may lie in another text.
 */
export interface Window {
  readonly start: number;
  readonly end: number;
  /** Whether calls and taken addresses are of no interest; a function has many, and each is looked at. */
  readonly jumpsOnly?: boolean;
  /** Whether what comes from the window itself is of no interest. */
  readonly fromOutside?: boolean;
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
 * @param text executable bytes of the file that are mapped together
 * @param windows in any order; they may overlap and may lie outside the text, all of them near each other
 * @param functionAt the function that an offset of the text belongs to, if it is known
 * @returns for each window, in the order given, its landings in ascending order of `from`
 */
export function findLandings(
  text: Uint8Array,
  windows: readonly Window[],
  functionAt: (at: number) => TextFunction | undefined,
): Landing[][] {
  const froms: number[] = [];
  const targets: number[] = [];
  const marked = windows.map(({ start, end }) => ({ first: start + 1, end }));
  scanBranches(text, marked, (from, target) => {
    froms.push(from);
    targets.push(target);
  });
  const lowest = marked.reduce((least, { first }) => Math.min(least, first), Infinity);
  const order = orderByTarget(lowest, targets);
  const verified = new Map<number, Landing | undefined>();
  return windows.map((window) => {
    const landings: Landing[] = [];
    const first = lowerBound(order, (window.start + 1 - lowest) * targets.length);
    for (let at = first; at < order.length; at++) {
      const hit = (order[at] ?? 0) % targets.length;
      const [from = 0, target = 0] = [froms[hit], targets[hit]];
      if (target >= window.end) break;
      if (!isOfInterest(text, window, from)) continue;
      // Windows overlap, and an opcode leads to one place.
      if (!verified.has(from)) verified.set(from, verify(text, from, target, functionAt));
      const landing = verified.get(from);
      if (landing !== undefined) landings.push(landing);
    }
    return landings.sort((one, other) => one.from - other.from);
  });
}

/**
 * The indexes of what was found, in ascending order of where it leads, from `lowest` on. One number holds both: there may be hundreds of
 * thousands, of which few are asked for, and sorting numbers natively is faster than by callback.
 */
function orderByTarget(lowest: number, targets: readonly number[]): Float64Array {
  const count = targets.length;
  const keys = Float64Array.from(targets, (target, index) => (target - lowest) * count + index);
  keys.sort();
  if (!Number.isSafeInteger(keys.at(-1) ?? 0)) {
    throw new TraplineError({ code: 'limit', message: `a text has too many branches (${count})` });
  }
  return keys;
}

function isOfInterest(text: Uint8Array, window: Window, from: number): boolean {
  const { start, end, jumpsOnly = false, fromOutside = false } = window;
  if (fromOutside && from > start && from < end) return false;
  return !jumpsOnly || isJump(text, from);
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
