/**
 * Moving instructions: bytes that run at another address and do what they did at the first.
 *
 * Instructions that don't depend on where they stand are copied byte by byte, and those with an
 * operand relative to rip get a new displacement; only branches are written anew. So no prefix is
 * lost and nothing depends on how an encoder would spell an instruction.
 */

import { hex, type Address } from '../base/brand.ts';
import { unreachable } from '../base/errors.ts';
import { Assembler } from './assembler.ts';
import { flowOf, type Flow } from './decode.ts';
import { iced, visitInstructions, type Iced } from './iced.ts';
import { littleEndian } from './encoding.ts';
import { CONDITIONS, mem } from './operands.ts';

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
   * Each instruction's offset in the original and in the new bytes, in order. A task that stands
   * before the one may be put before the other. New offsets between two entries can be the middle of
   * a sequence that stands for one instruction.
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
const PAGE_BYTES = 4096;

/** How {@link relocate} writes. */
export interface RelocateOptions {
  /**
   * Whether there is a nop of {@link SLOT_BYTES}, within one page, in front of each instruction but the first:
   * the map leads to it.
   */
  readonly slots?: boolean;
}

/** One instruction on its way. */
interface Moving {
  readonly instruction: Iced.Instruction;
  readonly bytes: Uint8Array;
  readonly flow: Flow;
  /** Where its memory displacement and its branch offset lie in `bytes`. */
  readonly fields: { readonly displacement: number; readonly branch: number };
  /** The whole block that moves, for what points into it. */
  readonly block: { readonly start: bigint; readonly end: bigint };
}

/** Bytes that a sequence of ours can add before a displacement: a margin for the reach of ±2 GB. */
const REACH = (1n << 31n) - 64n;

/**
 * Moves the whole instructions in `bytes` from the address `from` to the address `to`.
 *
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
  const block = { start: from, end: from + BigInt(bytes.byteLength) };
  const map: { from: number; to: number }[] = [];
  let refusal: Refusal | undefined;
  let flowEndsAt: number | undefined;
  let fallsThrough = true;
  visitInstructions(bytes, from, (instruction, decoder, offset) => {
    if (slots && offset > 0) alignSlot(code);
    map.push({ from: offset, to: code.length });
    if (slots && offset > 0) code.nop(SLOT_BYTES);
    const moving = describe(instruction, decoder, bytes, offset, block);
    const reason = move(moving, code);
    if (reason !== undefined) {
      // From a branded address by additions within its block: still an address.
      refusal = { kind: 'refused', reason, at: instruction.ip as Address };
      return false;
    }
    const { flow } = moving;
    fallsThrough = !endsFlow(flow) && flow !== 'call' && flow !== 'indirect-call';
    if (endsFlow(flow)) flowEndsAt ??= offset + instruction.length;
    return true;
  });
  return refusal ?? { kind: 'relocated', bytes: code.finish(), map, fallsThrough, flowEndsAt };
}

/** What is written over a slot is written at once: it must not cross a page's end. */
function alignSlot(code: Assembler): void {
  const left = PAGE_BYTES - Number(code.here() % BigInt(PAGE_BYTES));
  if (left < SLOT_BYTES) code.nop(left);
}

function describe(
  instruction: Iced.Instruction,
  decoder: Iced.Decoder,
  block: Uint8Array,
  offset: number,
  bounds: Moving['block'],
): Moving {
  const offsets = decoder.getConstantOffsets(instruction);
  try {
    return {
      instruction,
      bytes: block.subarray(offset, offset + instruction.length),
      flow: flowOf(instruction),
      fields: { displacement: offsets.displacementOffset, branch: offsets.immediateOffset },
      block: bounds,
    };
  } finally {
    offsets.free();
  }
}

/** Control never reaches the instruction behind. */
function endsFlow(flow: Flow): boolean {
  return flow === 'jump' || flow === 'indirect-jump' || flow === 'return';
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
      return 'a transaction begins here, and aborts to an offset from here';
    case 'interrupt':
      return 'a breakpoint or software interrupt stands here';
    case 'exception':
      return 'an instruction that always faults stands here, and its handler may look at where';
    case 'invalid':
      return 'the bytes are not a whole instruction that the decoder knows';
  }
  return unreachable(flow);
}

/** Copies an instruction, its operand relative to rip aimed again at what it was aimed at. */
function copy(bytes: Uint8Array, moving: Moving, code: Assembler): string | undefined {
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
  // Not slice(): that of a Buffer is a view of the original.
  const moved = new Uint8Array(bytes);
  new DataView(moved.buffer).setInt32(fields.displacement, Number(distance), true);
  code.raw(moved);
  return undefined;
}

function moveBranch(moving: Moving, code: Assembler): string | undefined {
  const { instruction, bytes, flow, fields, block } = moving;
  // nearBranchTarget is masked to 64 bits by the decoder: an address
  const target = instruction.nearBranchTarget as Address;
  if (hasOperandSize(bytes.subarray(0, fields.branch))) {
    return 'processors disagree on the length of a branch with an operand-size prefix';
  }
  if (target > block.start && target < block.end) {
    return `a branch goes into the bytes that move (${hex(target)})`;
  }
  if (!reaches(target - code.here())) return `a branch is out of reach (${hex(target)})`;
  if (flow === 'jump') {
    code.jmp(target, 'near');
  } else if (flow === 'call') {
    const returnAddress = instruction.nextIP;
    if (returnAddress !== block.end) return RETURNS_INSIDE;
    const word = code.label('return address');
    code
      .push(mem({ target: word }))
      .jmp(target, 'near')
      .bind(word)
      .u64(returnAddress);
  } else if (instruction.isJccShortOrNear) {
    // Both forms hold the condition in the low half of the opcode's last byte.
    const condition = CONDITIONS[(bytes[fields.branch - 1] ?? 0) & 15];
    if (condition === undefined) return 'a condition is unknown';
    code.jcc(condition, target, 'near');
  } else {
    moveCountedBranch(bytes, target, code);
  }
  return undefined;
}

const RETURNS_INSIDE = 'a call would return into the bytes that move';

/** loop, loopz, loopnz, jrcxz and jecxz have a form of 8 bits only: they jump to a jump. */
function moveCountedBranch(bytes: Uint8Array, target: Address, code: Assembler): void {
  const taken = code.label('taken');
  const done = code.label('done');
  const skipJump = 2;
  code.raw(bytes.subarray(0, bytes.byteLength - 1)).raw([skipJump]);
  code.jmp(done, 'short').bind(taken).jmp(target, 'near').bind(done);
}

/** A call through a register or memory: the same operand, jumped through behind a push. */
function moveIndirectCall(moving: Moving, code: Assembler): string | undefined {
  const { instruction, bytes, block } = moving;
  const { Code, OpKind, Register } = iced();
  if (instruction.code !== Code.Call_rm64) return 'a far call stands here';
  if (instruction.nextIP !== block.end) return RETURNS_INSIDE;
  const isRegister = instruction.op0Kind === OpKind.Register;
  if (isRegister && instruction.op0Register === Register.RSP) return 'a call through rsp';
  const jump = new Uint8Array(bytes);
  // FF /2 is the call, FF /4 the jump: the opcode is the first byte that is no prefix.
  const opcode = jump.findIndex((byte) => byte === 0xff);
  const modrm = jump[opcode + 1];
  if (opcode < 0 || modrm === undefined) return 'an unknown form of call';
  jump[opcode + 1] = (modrm & 0xc7) | (4 << 3);
  if (!isRegister && instruction.memoryBase === Register.RSP) {
    // The push moves rsp first, and the operand counts from it.
    const shifted = shiftDisplacement(jump, moving);
    if (shifted === undefined) return 'a call through memory near rsp';
    return pushAndJump(shifted, moving, code);
  }
  return pushAndJump(jump, moving, code);
}

function pushAndJump(jump: Uint8Array, moving: Moving, code: Assembler): string | undefined {
  const word = code.label('return address');
  code.push(mem({ target: word }));
  const reason = copy(jump, moving, code);
  code.bind(word).u64(moving.instruction.nextIP);
  return reason;
}

/** The instruction with 8 added to its displacement, written in 32 bits; undefined below the stack. */
function shiftDisplacement(jump: Uint8Array, moving: Moving): Uint8Array | undefined {
  const displacement = Number(BigInt.asIntN(64, moving.instruction.memoryDisplacement));
  if (displacement < 0 || displacement > 0x7fff_fff0) return undefined;
  const opcode = jump.findIndex((byte) => byte === 0xff);
  const modrm = jump[opcode + 1];
  const sib = jump[opcode + 2];
  if (modrm === undefined || sib === undefined) return undefined;
  const head = [...jump.subarray(0, opcode + 1), (modrm & 0x3f) | 0x80, sib];
  return Uint8Array.from([...head, ...littleEndian(displacement + 8, 4)]);
}

/** AMD shortens the offset of a branch to 16 bits at this prefix, Intel ignores it; REX.W beats it. */
function hasOperandSize(prefixes: Uint8Array): boolean {
  const rex = prefixes.find((byte) => byte >= 0x48 && byte <= 0x4f);
  return prefixes.includes(0x66) && rex === undefined;
}

function reaches(distance: bigint): boolean {
  return distance < REACH && distance >= -REACH;
}
