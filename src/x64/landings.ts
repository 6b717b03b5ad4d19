/**
 * Which branches land inside bytes that are to be patched: rule 4, for a whole file at once.
 *
 * Disassembling a file would have to be believed; instead every byte position is taken for the opcode
 * of a direct branch, or of a `lea`, whose address somebody may jump to; in code that lies at a known place also for the
 * first of an address. No true one is missed, and the few that hit a window are then looked at one by one: they are dismissed only if a clean decoding of their
 * function shows that none starts there. Indirect branches are the matter of jump-tables.ts.
 */

import { address } from '../base/brand.ts';
import { TraplineError } from '../base/errors.ts';
import { lowerBound } from '../base/sorted.ts';
import { isJump, isLea, scanBranches } from './branch-scan.ts';
import { constantsAt, decodeAt, isDirect } from './decode.ts';
import type { Listing } from './listing.ts';
import { scanWords } from './word-scan.ts';

/**
 * Bytes of which it is asked who comes to them: from behind `start` up to `end`, which is not meant. Offsets from the text's
 * start: they may lie in another text.
 */
export interface Window {
  readonly start: number;
  readonly end: number;
  /** Whether taken addresses are of no interest. */
  readonly branchesOnly?: boolean;
  /** Whether calls and taken addresses are of no interest; a function has many, and each is looked at. */
  readonly jumpsOnly?: boolean;
  /** Whether what comes from the window itself is of no interest. */
  readonly fromOutside?: boolean;
  /** Whether one certain call tells enough: what else comes is of interest only where nobody calls. */
  readonly untilCall?: boolean;
}

/** A branch into a window, or an instruction that takes an address there. Offsets into the text. */
export interface Landing {
  readonly kind: LandingKind;
  /** Where it goes: start < target < end of the window. */
  readonly target: number;
  /** Where its opcode stands, behind its prefixes; of an address that is not relative to rip, where that stands. */
  readonly from: number;
  /** Whether a clean decoding shows it. If not, it lies in bytes of which nothing is known. */
  readonly certain: boolean;
}

/** `address`: an instruction that holds one, as a number or relative to rip (`lea`): somebody may jump there. */
export type LandingKind = 'branch' | 'address';

/** A function of the text. */
export interface TextFunction {
  /** Where it begins, as an offset into the text. */
  readonly start: number;
  readonly listing: Listing;
}

/**
 * Finds every direct branch in `text` that lands inside a window behind its first byte, and every instruction that holds an
 * address there.
 * @param text executable bytes of the file that are mapped together
 * @param windows in any order; they may overlap and may lie outside the text, all of them near each other
 * @param functionAt the function that an offset of the text belongs to, if it is known
 * @param textAt where the text lies, if it always lies there: only then can plain numbers be addresses
 * @returns for each window, in the order given, its landings in ascending order of `from`
 */
export function findLandings(
  text: Uint8Array,
  windows: readonly Window[],
  functionAt: (at: number) => TextFunction | undefined,
  textAt?: number,
): Landing[][] {
  const { froms, targets, branches } = scan(text, windows, textAt);
  const lowest = windows.reduce((least, { start }) => Math.min(least, start), Infinity);
  const order = orderByTarget(lowest, targets);
  const verified = new Map<number, Landing | undefined>();
  return windows.map((window) => {
    const landings: Landing[] = [];
    const first = lowerBound(order, (window.start + 1 - lowest) * targets.length);
    for (let at = first; at < order.length; at++) {
      const hit = (order[at] ?? 0) % targets.length;
      const [from = 0, target = 0] = [froms[hit], targets[hit]];
      const isWord = hit >= branches;
      if (target >= window.end) break;
      if (!isOfInterest(text, window, from, isWord)) continue;
      // Windows overlap, and each is looked at once.
      if (!verified.has(hit)) {
        const found = isWord
          ? verifyWord(from, target, functionAt)
          : verify(text, from, target, functionAt);
        verified.set(hit, found);
      }
      const landing = verified.get(hit);
      if (landing === undefined) continue;
      landings.push(landing);
      if (window.untilCall === true && isCertainCall(text, landing)) break;
    }
    return landings.sort((one, other) => one.from - other.from);
  });
}

/** What looks like a branch or an address, in no order. */
interface Scanned {
  readonly froms: readonly number[];
  /** For each of them where it leads. */
  readonly targets: readonly number[];
  /** How many, from the first on, were found by their opcodes; the others are plain numbers. */
  readonly branches: number;
}

function scan(text: Uint8Array, windows: readonly Window[], textAt: number | undefined): Scanned {
  const froms: number[] = [];
  const targets: number[] = [];
  const marked = windows.map(({ start, end }) => ({ first: start + 1, end }));
  scanBranches(text, marked, (from, target) => {
    froms.push(from);
    targets.push(target);
  });
  const branches = froms.length;
  if (textAt !== undefined) {
    const addresses = windows.flatMap(({ start, end, jumpsOnly = false, branchesOnly = false }) => {
      return jumpsOnly || branchesOnly ? [] : [{ first: textAt + start + 1, end: textAt + end }];
    });
    scanWords(text, addresses, (from, target) => {
      froms.push(from);
      targets.push(target - textAt);
    });
  }
  return { froms, targets, branches };
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

function isOfInterest(text: Uint8Array, window: Window, from: number, isWord: boolean): boolean {
  const { start, end, jumpsOnly = false, branchesOnly = false, fromOutside = false } = window;
  if (fromOutside && from > start && from < end) return false;
  if (jumpsOnly) return !isWord && isJump(text, from);
  return !branchesOnly || !(isWord || isLea(text, from));
}

/** Whether an instruction is known to call what it leads to. */
export function isCertainCall(text: Uint8Array, { kind, from, certain }: Landing): boolean {
  return certain && kind === 'branch' && !isJump(text, from);
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

/** The same for what looks like an address: no instruction may hold a number there. */
function verifyWord(
  from: number,
  target: number,
  functionAt: (at: number) => TextFunction | undefined,
): Landing | undefined {
  const doubtful: Landing = { kind: 'address', target, from, certain: false };
  const around = functionAt(from);
  if (around?.listing.isClean !== true) return doubtful;
  const { start, listing } = around;
  const offset = listing.starts[listing.holderOf(from - start)];
  if (offset === undefined) return doubtful;
  const constants = constantsAt(listing.code, offset, address(listing.address + BigInt(offset)));
  return constants.includes(from - start) ? { ...doubtful, certain: true } : undefined;
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
