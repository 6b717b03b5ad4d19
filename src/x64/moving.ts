/** What moving one instruction takes, whatever it does: what is known of it, its copy, its prefixes. */

import { hex } from '../base/brand.ts';
import type { Assembler } from './assembler.ts';
import type { Flow } from './decode.ts';
import { iced, type Iced } from './iced.ts';
import type { Label } from './operands.ts';

/** One instruction on its way. */
export interface Moving {
  readonly instruction: Iced.Instruction;
  readonly bytes: Uint8Array;
  readonly flow: Flow;
  /** Where its displacement relative to rip and its branch offset lie in `bytes`; of no meaning if it has neither. */
  readonly fields: { readonly displacement: number; readonly branch: number };
  /** The whole block that moves, for what points into it. */
  readonly block: Block;
}

/** The instructions that move together. */
export interface Block {
  readonly start: bigint;
  readonly end: bigint;
  /** See {@link Relocated.map}; grows as they move. */
  readonly map: { readonly from: number; readonly to: number }[];
  /** Instructions not moved yet to which a branch goes that was: by address, with that branch's. */
  readonly awaited: Map<bigint, { readonly label: Label; readonly by: bigint }>;
}

/** Bytes that a sequence of ours can add before a displacement: a margin for the reach of ±2 GB. */
const REACH = (1n << 31n) - 64n;

/**
 * Copies an instruction, its operand relative to rip aimed again at what it was aimed at.
 * @returns why that can't be, if so
 */
export function copy(bytes: Uint8Array, moving: Moving, code: Assembler): string | undefined {
  const { instruction, fields, block } = moving;
  const { Code, Register } = iced();
  if (!instruction.isIpRelMemoryOperand) {
    code.raw(bytes);
    return undefined;
  }
  if (instruction.memoryBase !== Register.RIP) return 'an operand is relative to eip';
  const target = instruction.ipRelMemoryAddress;
  const isAddressOnly = instruction.code === Code.Lea_r64_m;
  // The first byte's address is the function's own, and stays right: only reading it is not.
  if (target < block.end && target >= block.start && !(isAddressOnly && target === block.start)) {
    return `an operand points into the bytes that move (${hex(target)})`;
  }
  const distance = target - (code.here() + BigInt(bytes.byteLength));
  if (!reaches(distance)) return `an operand is out of reach (${hex(target)})`;
  code.raw(withField(bytes, fields.displacement, distance));
  return undefined;
}

/** The instruction with another displacement of 32 bits at `field`. */
export function withField(bytes: Uint8Array, field: number, distance: bigint): Uint8Array {
  // Not slice(): that of a Buffer is a view of the original.
  const moved = new Uint8Array(bytes);
  new DataView(moved.buffer).setInt32(field, Number(distance), true);
  return moved;
}

/** Why {@link hasOperandSize} refuses. */
export const OPERAND_SIZE = 'processors disagree on a branch with an operand-size prefix';

/**
 * AMD makes the offset of a direct branch, and what an indirect call pushes, 16 bits long at this prefix; Intel
 * ignores it. REX.W beats it, but only right before the opcode (Intel SDM volume 2, 2.2.1).
 */
export function hasOperandSize(instruction: Uint8Array): boolean {
  const opcode = opcodeOf(instruction);
  const last = instruction[opcode - 1] ?? 0;
  const isWide = (last & 0xf8) === 0x48;
  return instruction.subarray(0, opcode).includes(0x66) && !isWide;
}

const PREFIXES: ReadonlySet<number> = new Set([
  0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3,
]);

/** The index of an instruction's opcode: its first byte that is no prefix of 64-bit mode, REX among them. */
export function opcodeOf(instruction: Uint8Array): number {
  return instruction.findIndex((byte) => !PREFIXES.has(byte) && (byte & 0xf0) !== 0x40);
}

/** Whether what is so far from the end of an instruction can be addressed from it, wherever in our sequence it is. */
export function reaches(distance: bigint): boolean {
  return distance < REACH && distance >= -REACH;
}

/** Why a branch is refused whose target is the start of no instruction that moves. */
export function goesInside(target: bigint): string {
  return `a branch goes into an instruction that moves (${hex(target)})`;
}
