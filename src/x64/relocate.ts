/**
 * Moving instructions: bytes that run at another address and do what they did at the first.
 *
 * Instructions that don't depend on where they stand are copied byte by byte, and those with an
 * operand relative to rip get a new displacement; only branches are written anew. So no prefix is
 * lost and nothing depends on how an encoder would spell an instruction.
 */

import { address, hex, type Address } from '../base/brand.ts';
import { unreachable } from '../base/errors.ts';
import { leftInPage } from '../base/page.ts';
import { Assembler } from './assembler.ts';
import type { BranchTarget } from './code-buffer.ts';
import { flowOf, isDirect, neverGoesOn } from './decode.ts';
import { iced, visitInstructions, type Iced } from './iced.ts';
import { moveCall, moveIndirectCall } from './move-calls.ts';
import {
  copy,
  goesInside,
  hasOperandSize,
  OPERAND_SIZE,
  reaches,
  withField,
  type Block,
  type Moving,
} from './moving.ts';
import { CONDITIONS } from './operands.ts';

/** Why instructions can't be moved. */
export interface Refusal {
  readonly kind: 'refused';
  /** For the person: what stands there and why it can't be moved. */
  readonly reason: string;
  /** The instruction that it is about. */
  readonly at: Address;
}

/** Moved instructions. */
export interface Relocated {
  readonly kind: 'relocated';
  /** The code for the new address. Runs into its own end where {@link fallsThrough}. */
  readonly bytes: Uint8Array;
  /**
   * Each instruction's offset in the original and in the new bytes, in order; also that of one without its lock
   * prefix, where a branch goes there. A task that stands before the one may be put before the other. New offsets
   * between two entries can be the middle of a sequence that stands for one instruction.
   */
  readonly map: readonly { readonly from: number; readonly to: number }[];
  /** Whether control can reach the end of the new bytes: the caller adds the jump back. */
  readonly fallsThrough: boolean;
  /**
   * The original offset after the first instruction that never goes on to the next (jump, return),
   * or undefined. If it is less than the number of bytes, what follows is another block, or not
   * even code of this function: the caller has to know.
   */
  readonly flowEndsAt: number | undefined;
}

/** Bytes in front of the copy of an instruction that can be replaced by a jump at any time. */
export const SLOT_BYTES = 5;

/** How {@link relocate} writes. */
export interface RelocateOptions {
  /**
   * Whether there is a nop of {@link SLOT_BYTES}, within one page, in front of each instruction but the first:
   * the map leads to it.
   */
  readonly slots?: boolean;
}

/**
 * Moves the whole instructions in `bytes` from the address `from` to the address `to`.
 *
 * A branch to an instruction behind the first goes to it where it is now; one to the first still goes to
 * `from`, where a jump here is to be expected, so that each passage is one through that place.
 * A call pushes the return address that it would have pushed, so unwinders, `call $+5` and return
 * probes see what they would have seen; it must be the last instruction, since it returns behind its
 * original place. What can't be moved is refused, never thrown.
 */
export function relocate(
  bytes: Uint8Array,
  from: Address,
  to: Address,
  { slots = false }: RelocateOptions = {},
): Relocated | Refusal {
  const code = new Assembler(to);
  const end = from + BigInt(bytes.byteLength);
  const block: Block = { start: from, end, map: [], awaited: new Map() };
  let refusal: Refusal | undefined;
  let flowEndsAt: number | undefined;
  let fallsThrough = true;
  visitInstructions(bytes, from, (instruction, decoder, offset) => {
    if (slots && offset > 0) alignSlot(code);
    block.map.push({ from: offset, to: code.length });
    bindAwaited(instruction.ip, block, code);
    if (slots && offset > 0) code.nop(SLOT_BYTES);
    const moving = describe(instruction, decoder, bytes, offset, block);
    const reason = move(withoutSkippedLock(moving, code), code);
    if (reason !== undefined) {
      refusal = refuse(reason, instruction.ip);
      return false;
    }
    const { flow } = moving;
    fallsThrough = !neverGoesOn(flow) && flow !== 'call' && flow !== 'indirect-call';
    if (neverGoesOn(flow)) flowEndsAt ??= offset + instruction.length;
    return true;
  });
  for (const [target, { by }] of block.awaited) refusal ??= refuse(goesInside(target), by);
  if (refusal !== undefined) return refusal;
  return { kind: 'relocated', bytes: code.finish(), map: block.map, fallsThrough, flowEndsAt };
}

/** Lets branches that wait for the instruction at `target` go to here; whether there were any. */
function bindAwaited(target: bigint, { awaited }: Block, code: Assembler): boolean {
  const label = awaited.get(target)?.label;
  if (label !== undefined) code.bind(label);
  return awaited.delete(target);
}

/**
 * glibc has a thread that is alone jump over the lock prefix of an instruction (`je 1f; lock; 1: dec [rdi]`):
 * the prefix is written by itself, and what is left is another instruction to move.
 */
function withoutSkippedLock(moving: Moving, code: Assembler): Moving {
  const { instruction, bytes, fields, block } = moving;
  if (bytes[0] !== 0xf0 || !block.awaited.has(instruction.ip + 1n)) return moving;
  code.raw(bytes.subarray(0, 1));
  bindAwaited(instruction.ip + 1n, block, code);
  block.map.push({ from: Number(instruction.ip + 1n - block.start), to: code.length });
  const displacement = fields.displacement - 1;
  return { ...moving, bytes: bytes.subarray(1), fields: { ...fields, displacement } };
}

function refuse(reason: string, at: bigint): Refusal {
  // From a branded address by additions within its block: still an address.
  return { kind: 'refused', reason, at: at as Address };
}

/** What is written over a slot is written at once: it must not cross a page's end. */
function alignSlot(code: Assembler): void {
  const left = leftInPage(code.here());
  if (left < SLOT_BYTES) code.nop(left);
}

function describe(
  instruction: Iced.Instruction,
  decoder: Iced.Decoder,
  block: Uint8Array,
  offset: number,
  bounds: Block,
): Moving {
  const flow = flowOf(instruction);
  return {
    instruction,
    bytes: block.subarray(offset, offset + instruction.length),
    flow,
    fields:
      isDirect(flow) || instruction.isIpRelMemoryOperand
        ? fieldsOf(instruction, decoder)
        : NO_FIELDS,
    block: bounds,
  };
}

/** Of instructions that don't depend on where they stand: nobody looks. */
const NO_FIELDS: Moving['fields'] = { displacement: 0, branch: 0 };

function fieldsOf(instruction: Iced.Instruction, decoder: Iced.Decoder): Moving['fields'] {
  const offsets = decoder.getConstantOffsets(instruction);
  try {
    return { displacement: offsets.displacementOffset, branch: offsets.immediateOffset };
  } finally {
    offsets.free();
  }
}

/** Writes one instruction; the reason if it can't be moved. */
function move(moving: Moving, code: Assembler): string | undefined {
  const { flow, bytes } = moving;
  switch (flow) {
    case 'next':
    case 'return':
    case 'indirect-jump':
    case 'system':
      return copy(bytes, moving, code);
    case 'jump':
    case 'conditional':
    case 'call':
      return moveBranch(moving, code);
    case 'indirect-call':
      return moveIndirectCall(moving, code);
    case 'transaction':
      return moveTransaction(moving, code);
    case 'interrupt':
      return 'a breakpoint or software interrupt stands here';
    case 'exception':
      return 'an instruction that always faults stands here, and its handler may look at where';
    case 'invalid':
      return 'the bytes are not a whole instruction that the decoder knows';
  }
  return unreachable(flow);
}

function moveBranch(moving: Moving, code: Assembler): string | undefined {
  const { instruction, bytes, flow, fields, block } = moving;
  // nearBranchTarget is masked to 64 bits by the decoder: an address
  const target = instruction.nearBranchTarget as Address;
  if (hasOperandSize(bytes)) return OPERAND_SIZE;
  if (!reaches(target - code.here())) return `a branch is out of reach (${hex(target)})`;
  if (flow === 'call') return moveCall(instruction, target, block, code);
  const goal = goalOf(target, instruction.ip, block, code);
  if (goal === undefined) return goesInside(target);
  if (flow === 'jump') {
    code.jmp(goal, 'near');
  } else if (instruction.isJccShortOrNear) {
    // Both forms hold the condition in the low half of the opcode's last byte.
    const condition = CONDITIONS[(bytes[fields.branch - 1] ?? 0) & 15];
    if (condition === undefined) return 'a condition is unknown';
    code.jcc(condition, goal, 'near');
  } else {
    moveCountedBranch(bytes, goal, code);
  }
  return undefined;
}

/** Where a branch goes once it has moved; undefined if that is inside an instruction that was moved before it. */
function goalOf(
  target: Address,
  by: bigint,
  { start, end, map, awaited }: Block,
  code: Assembler,
): BranchTarget | undefined {
  if (target <= start || target >= end) return target;
  if (target <= by) {
    const there = map.find(({ from }) => start + BigInt(from) === target);
    return there && address(code.origin + BigInt(there.to));
  }
  const label = awaited.get(target)?.label ?? code.label(hex(target));
  awaited.set(target, { label, by });
  return label;
}

/** Begins a transaction that aborts to where it did. */
function moveTransaction(moving: Moving, code: Assembler): string | undefined {
  const { instruction, bytes, fields, block } = moving;
  const target = instruction.nearBranchTarget;
  if (instruction.code !== iced().Code.Xbegin_rel32) return OPERAND_SIZE;
  if (target > block.start && target < block.end) {
    return `a transaction aborts into the bytes that move (${hex(target)})`;
  }
  const distance = target - (code.here() + BigInt(bytes.byteLength));
  if (!reaches(distance)) return `a branch is out of reach (${hex(target)})`;
  code.raw(withField(bytes, fields.branch, distance));
  return undefined;
}

/** loop, loopz, loopnz, jrcxz and jecxz have a form of 8 bits only: they jump to a jump. */
function moveCountedBranch(bytes: Uint8Array, target: BranchTarget, code: Assembler): void {
  const taken = code.label('taken');
  const done = code.label('done');
  const skipJump = 2;
  code.raw(bytes.subarray(0, bytes.byteLength - 1)).raw([skipJump]);
  code.jmp(done, 'short').bind(taken).jmp(target, 'near').bind(done);
}
