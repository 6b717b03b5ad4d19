/**
 * Which branches land inside bytes that are to be patched: rule 4, for a whole file at once.
 *
 * Disassembling a file would have to be believed; instead every byte position is taken for the opcode
 * of a direct branch. No true branch is missed, wherever it hides, and the few that hit a window
 * are then looked at one by one: they are dismissed only if a clean decoding of their function shows
 * that no branch starts there. Indirect branches are the matter of jump-tables.ts.
 */

import { address, type Address } from '../base/brand.ts';
import { decodeAll, isClean, type DecodedInstruction } from './decode.ts';

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

/** A branch into a window, behind its first byte. */
export interface Landing {
  /** Where it goes: start < target < end of the window. */
  readonly target: Address;
  /** Where its opcode stands, behind its prefixes. */
  readonly from: Address;
  /** Whether a clean decoding shows it. If not, it lies in bytes of which nothing is known. */
  readonly certain: boolean;
}

/** What a byte can begin. */
const NOTHING = 0;
const NEAR = 1;
const SHORT = 2;
const ESCAPE = 3;
const XBEGIN = 4;

/** For each byte value, what branch it can be the opcode of (Intel SDM volume 2, A.3). */
const KINDS: Uint8Array = branchKinds();

function branchKinds(): Uint8Array {
  const kinds = new Uint8Array(256).fill(NOTHING);
  kinds[0xe8] = NEAR; // call
  kinds[0xe9] = NEAR; // jmp
  kinds[0x0f] = ESCAPE; // 0F 80 to 0F 8F: jcc
  kinds[0xc7] = XBEGIN; // C7 F8
  kinds.fill(SHORT, 0x70, 0x80); // jcc
  kinds.fill(SHORT, 0xe0, 0xe4); // loopnz, loopz, loop, jrcxz
  kinds[0xeb] = SHORT; // jmp
  return kinds;
}

/**
 * Finds every direct branch in `text` that lands inside a window behind its first byte.
 * @param text all executable bytes of the file that are mapped together
 * @param textAddress where they lie
 * @param windows in any order; they may overlap and may lie outside the text
 * @param functionOf the bounds of the function that an address of the text belongs to, if it is known
 * @returns for each window, in the order given, its landings in ascending order of `from`
 */
export function findLandings(
  text: Uint8Array,
  textAddress: Address,
  windows: readonly Window[],
  functionOf: (at: Address) => Bounds | undefined,
): Landing[][] {
  const inside = markInsides(text.byteLength, textAddress, windows);
  const byTarget = new Map<number, Landing[]>();
  const verify = verifier(text, textAddress, functionOf);
  scan(text, inside, (from, target) => {
    const landing = verify(from, target);
    if (landing === undefined) return;
    const known = byTarget.get(target);
    if (known === undefined) byTarget.set(target, [landing]);
    else known.push(landing);
  });
  return windows.map((window) => collect(window, textAddress, byTarget));
}

/** A bit for each byte of the text: whether it is inside a window, behind the first byte of it. */
function markInsides(length: number, textAddress: Address, windows: readonly Window[]): Uint8Array {
  const inside = new Uint8Array((length >> 3) + 1);
  for (const { start, end } of windows) {
    const first = Math.max(0, Number(start + 1n - textAddress));
    const last = Math.min(length, Number(end - textAddress));
    for (let at = first; at < last; at++) {
      inside[at >> 3] = (inside[at >> 3] ?? 0) | (1 << (at & 7));
    }
  }
  return inside;
}

/**
 * Shows `hit` every position of the text that, taken for a branch, has its target marked in
 * `inside`. One pass of plain integer work: it runs over tens of megabytes.
 */
function scan(
  text: Uint8Array,
  inside: Uint8Array,
  hit: (from: number, target: number) => void,
): void {
  const length = text.byteLength;
  // Reads past the end give undefined, which | turns into 0: such targets are checked like others.
  for (let at = 0; at < length; at++) {
    const kind = KINDS[text[at]!]; // at < length
    if (kind === NOTHING) continue;
    let operand = at + 1;
    if (kind === SHORT) {
      const target = operand + 1 + ((text[operand]! << 24) >> 24); // undefined << 24 is 0
      if (target >= 0 && target < length && (inside[target >> 3]! >> (target & 7)) & 1) {
        hit(at, target);
      }
      continue;
    }
    if (kind === ESCAPE) {
      if ((text[operand]! & 0xf0) !== 0x80) continue; // undefined & 0xf0 is 0
      operand++;
    } else if (kind === XBEGIN) {
      if (text[operand] !== 0xf8) continue;
      operand++;
    }
    if (operand + 4 > length) continue;
    const displacement =
      text[operand]! | // four bytes within the length, checked above
      (text[operand + 1]! << 8) |
      (text[operand + 2]! << 16) |
      (text[operand + 3]! << 24);
    const target = operand + 4 + displacement;
    if (target >= 0 && target < length && (inside[target >> 3]! >> (target & 7)) & 1) {
      hit(at, target);
    }
  }
}

/** A function decoded once, for all candidates in it. */
interface Decoded {
  readonly instructions: readonly DecodedInstruction[];
  readonly clean: boolean;
}

function verifier(
  text: Uint8Array,
  textAddress: Address,
  functionOf: (at: Address) => Bounds | undefined,
): (from: number, target: number) => Landing | undefined {
  const decoded = new Map<bigint, Decoded>();
  return (fromOffset, targetOffset) => {
    const from = address(textAddress + BigInt(fromOffset));
    const target = address(textAddress + BigInt(targetOffset));
    const bounds = functionOf(from);
    if (bounds === undefined || bounds.start < textAddress || bounds.end <= from) {
      return { target, from, certain: false };
    }
    let code = decoded.get(bounds.start);
    if (code === undefined) {
      code = decodeFunction(text, textAddress, bounds);
      decoded.set(bounds.start, code);
    }
    if (!code.clean) return { target, from, certain: false };
    // Prefixes stand before the opcode: the instruction that holds it, not one that starts there.
    const holder = holderOf(code.instructions, from);
    return holder?.target === target ? { target, from, certain: true } : undefined;
  };
}

/** Clean only if the last instruction ends where the function does: data in code shows by that. */
function decodeFunction(text: Uint8Array, textAddress: Address, bounds: Bounds): Decoded {
  const start = Number(bounds.start - textAddress);
  const end = Number(bounds.end - textAddress);
  if (end > text.byteLength) return { instructions: [], clean: false };
  const instructions = decodeAll(text.subarray(start, end), bounds.start);
  return { instructions, clean: isClean(instructions) };
}

function holderOf(
  instructions: readonly DecodedInstruction[],
  at: Address,
): DecodedInstruction | undefined {
  let low = 0;
  let high = instructions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const candidate = instructions[middle];
    if (candidate !== undefined && candidate.address <= at) low = middle + 1;
    else high = middle;
  }
  return instructions[low - 1];
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
