/**
 * Which branches land inside bytes that are to be patched: rule 4, for a whole file at once.
 *
 * Disassembling a file would have to be believed; instead every byte position is taken for the opcode
 * of a direct branch, or of a `lea`, whose address somebody may jump to. No true one is missed, wherever it hides, and
 * the few that hit a window are then looked at one by one: they are dismissed only if a clean decoding of their
 * function shows that none starts there. Indirect branches are the matter of jump-tables.ts.
 */

import { address, type Address } from '../base/brand.ts';
import { decodeAt } from './decode.ts';
import type { Listing } from './listing.ts';

/** Bytes that will be patched: from `start` up to `end`, which is the first that stays. */
export interface Window {
  readonly start: Address;
  readonly end: Address;
}

/** Code that is known to start with an instruction and to end with one. */
export interface Bounds {
  readonly start: Address;
  readonly end: Address;
}

/** A branch into a window, behind its first byte, or an instruction that takes an address there. */
export interface Landing {
  readonly kind: LandingKind;
  /** Where it goes: start < target < end of the window. */
  readonly target: Address;
  /** Where its opcode stands, behind its prefixes. */
  readonly from: Address;
  /** Whether a clean decoding shows it. If not, it lies in bytes of which nothing is known. */
  readonly certain: boolean;
}

/** `address`: a `lea` relative to rip, whose result somebody may jump to. */
export type LandingKind = 'branch' | 'address';

/** Displacements of one byte reach so far back and so far on from the byte behind them. */
const SHORT_BACK = 128;
const SHORT_ON = 127;

/** Whether a byte is the opcode of a branch with a displacement of one byte (Intel SDM volume 2, A.3). */
const IS_SHORT: readonly boolean[] = Array.from(
  { length: 256 },
  (_, byte) =>
    (byte >= 0x70 && byte < 0x80) || // jcc
    (byte >= 0xe0 && byte < 0xe4) || // loopnz, loopz, loop, jrcxz
    byte === 0xeb, // jmp
);

/**
 * Finds every direct branch in `text` that lands inside a window behind its first byte, and every `lea` of an
 * address there.
 * @param text all executable bytes of the file that are mapped together
 * @param textAddress where they lie
 * @param windows in any order; they may overlap and may lie outside the text
 * @param functionAt the function that an offset of the text belongs to, if it is known
 * @returns for each window, in the order given, its landings in ascending order of `from`
 */
export function findLandings(
  text: Uint8Array,
  textAddress: Address,
  windows: readonly Window[],
  functionAt: (at: number) => Listing | undefined,
): Landing[][] {
  const insides = markInsides(text.byteLength, textAddress, windows);
  const byTarget = new Map<number, Landing[]>();
  const verify = verifier(textAddress, functionAt);
  const hit = (from: number, target: number): void => {
    const landing = verify(text[from] === LEA ? 'address' : 'branch', from, target);
    if (landing === undefined) return;
    const known = byTarget.get(target);
    if (known === undefined) byTarget.set(target, [landing]);
    else known.push(landing);
  };
  scanNear(text, insides, hit);
  scanShort(text, insides, hit);
  return windows.map((window) => collect(window, textAddress, byTarget));
}

/** What is looked for, in offsets into the text. */
interface Insides {
  /** A bit for each byte of the text: whether it is inside a window, behind the first byte of it. */
  readonly bits: Uint8Array;
  /** Runs of such bytes, in ascending order of their starts. They may overlap. */
  readonly runs: readonly { readonly first: number; readonly end: number }[];
}

function markInsides(length: number, textAddress: Address, windows: readonly Window[]): Insides {
  const bits = new Uint8Array((length >> 3) + 1);
  const runs = windows
    .map(({ start, end }) => ({
      first: Math.max(0, Number(start + 1n - textAddress)),
      end: Math.min(length, Number(end - textAddress)),
    }))
    .filter(({ first, end }) => first < end)
    .toSorted((one, other) => one.first - other.first);
  for (const { first, end } of runs) {
    for (let at = first; at < end; at++) bits[at >> 3] = (bits[at >> 3] ?? 0) | (1 << (at & 7));
  }
  return { bits, runs };
}

/**
 * Shows `hit` every position of the text that, taken for a branch with a displacement of four bytes, has
 * its target marked. One pass of plain integer work, for it runs over tens of megabytes: every four bytes are
 * taken for a displacement, and only where one hits is it asked whether an opcode stands before it.
 */
function scanNear(
  text: Uint8Array,
  { bits, runs }: Insides,
  hit: (from: number, target: number) => void,
): void {
  const length = text.byteLength;
  const lowest = runs[0]?.first ?? 0;
  const span = runs.reduce((last, { end }) => Math.max(last, end), lowest) - lowest;
  let displacement = (text[0]! << 8) | (text[1]! << 16) | (text[2]! << 24); // undefined << 8 is 0
  for (let end = 4; end <= length; end++) {
    displacement = (displacement >>> 8) | (text[end - 1]! << 24); // end <= length
    const target = end + displacement;
    // Comparing without sign first rules out nearly all: the bits are looked up seldom.
    if ((target - lowest) >>> 0 >= span) continue;
    if (((bits[target >> 3]! >> (target & 7)) & 1) === 0) continue;
    const from = nearOpcode(text, end - 4);
    if (from !== undefined) hit(from, target);
  }
}

/** The opcode of `lea`; no branch has it. */
const LEA = 0x8d;

/** Where the opcode begins that ends before `at`, if it is that of a branch or a `lea` with four more bytes. */
function nearOpcode(text: Uint8Array, at: number): number | undefined {
  const [before, last] = [text[at - 2], text[at - 1]];
  if (last === undefined) return undefined;
  if (last === 0xe8 || last === 0xe9) return at - 1; // call, jmp
  const isEscape = before === 0x0f && (last & 0xf0) === 0x80; // 0F 80 to 0F 8F: jcc
  const isXbegin = before === 0xc7 && last === 0xf8;
  // ModRM of mod 0 and rm 5: relative to rip (Intel SDM volume 2, table 2-7).
  const isLea = before === LEA && (last & 0xc7) === 5;
  return isEscape || isXbegin || isLea ? at - 2 : undefined;
}

/** The same for displacements of one byte: only what stands near a marked byte can reach it. */
function scanShort(
  text: Uint8Array,
  { bits, runs }: Insides,
  hit: (from: number, target: number) => void,
): void {
  const length = text.byteLength;
  let next = 0;
  for (const { first, end } of runs) {
    const last = Math.min(length - 1, end - 1 - 2 + SHORT_BACK);
    for (let at = Math.max(next, first - 2 - SHORT_ON); at <= last; at++) {
      next = at + 1;
      if (!IS_SHORT[text[at]!]) continue; // at < length
      const target = at + 2 + ((text[at + 1]! << 24) >> 24); // undefined << 24 is 0
      if (target < 0 || target >= length) continue;
      if ((bits[target >> 3]! >> (target & 7)) & 1) hit(at, target);
    }
  }
}

function verifier(
  textAddress: Address,
  functionAt: (at: number) => Listing | undefined,
): (kind: LandingKind, from: number, target: number) => Landing | undefined {
  return (kind, fromOffset, targetOffset) => {
    const from = address(textAddress + BigInt(fromOffset));
    const target = address(textAddress + BigInt(targetOffset));
    const listing = functionAt(fromOffset);
    if (listing?.isClean !== true) return { kind, target, from, certain: false };
    // Prefixes stand before the opcode: the instruction that holds it, not one that starts there.
    const start = listing.starts[listing.holderOf(Number(from - listing.address))];
    if (start === undefined) return { kind, target, from, certain: false };
    const holder = decodeAt(listing.code, start, address(listing.address + BigInt(start)));
    const found = kind === 'branch' ? holder.target : holder.ripTarget;
    return found === target ? { kind, target, from, certain: true } : undefined;
  };
}

function collect(
  { start, end }: Window,
  textAddress: Address,
  byTarget: ReadonlyMap<number, readonly Landing[]>,
): Landing[] {
  const landings: Landing[] = [];
  const last = Number(end - textAddress);
  for (let target = Number(start - textAddress) + 1; target < last; target++) {
    landings.push(...(byTarget.get(target) ?? []));
  }
  return landings.sort((one, other) => (one.from < other.from ? -1 : 1));
}
