/** Moving calls: what a call did is done by a push of the return address that it pushed, and a jump. */

import type { Address } from '../base/brand.ts';
import type { Assembler } from './assembler.ts';
import { littleEndian } from './encoding.ts';
import { iced, type Iced } from './iced.ts';
import {
  copy,
  goesInside,
  hasOperandSize,
  OPERAND_SIZE,
  opcodeOf,
  type Block,
  type Moving,
} from './moving.ts';
import { mem } from './operands.ts';

const RETURNS_INSIDE = 'a call would return into the bytes that move';

/** A direct call: the push of the original return address and a jump. @returns why that can't be, if so */
export function moveCall(
  instruction: Iced.Instruction,
  target: Address,
  block: Block,
  code: Assembler,
): string | undefined {
  const returnAddress = instruction.nextIP;
  // `call $+5` in front of other code that moves.
  if (target > block.start && target < block.end) return goesInside(target);
  if (returnAddress !== block.end) return RETURNS_INSIDE;
  const word = code.label('return address');
  code
    .push(mem({ target: word }))
    .jmp(target, 'near')
    .bind(word)
    .u64(returnAddress);
  return undefined;
}

/**
 * A call through a register or memory: the same operand, jumped through behind a push. Whatever lies in the word below
 * the stack is nobody's before a call, so an operand other than one near rsp is taken not to be there.
 * @returns why that can't be, if so
 */
export function moveIndirectCall(moving: Moving, code: Assembler): string | undefined {
  const { instruction, bytes, block } = moving;
  const { Code, OpKind, Register } = iced();
  if (instruction.code !== Code.Call_rm64) return 'a far call stands here';
  if (hasOperandSize(bytes)) return OPERAND_SIZE;
  if (instruction.nextIP !== block.end) return RETURNS_INSIDE;
  const isRegister = instruction.op0Kind === OpKind.Register;
  if (isRegister && instruction.op0Register === Register.RSP) return 'a call through rsp';
  const jump = new Uint8Array(bytes);
  // FF /2 is the call, FF /4 the jump.
  const opcode = opcodeOf(jump);
  const modrm = jump[opcode + 1];
  if (jump[opcode] !== 0xff || modrm === undefined) return 'an unknown form of call';
  jump[opcode + 1] = (modrm & 0xc7) | (4 << 3);
  const base = instruction.memoryBase;
  if (!isRegister && (base === Register.RSP || base === Register.ESP)) {
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

/**
 * The instruction with 8 added to its displacement, written in 32 bits. Undefined where the word that it reads may
 * be the one that the push writes.
 */
function shiftDisplacement(jump: Uint8Array, { instruction }: Moving): Uint8Array | undefined {
  const displacement = Number(BigInt.asIntN(64, instruction.memoryDisplacement));
  const isBelow = displacement <= -16 && instruction.memoryIndex === iced().Register.None;
  if ((displacement < 0 && !isBelow) || displacement > 0x7fff_fff0) return undefined;
  const opcode = opcodeOf(jump);
  const modrm = jump[opcode + 1];
  const sib = jump[opcode + 2];
  if (modrm === undefined || sib === undefined) return undefined;
  const head = [...jump.subarray(0, opcode + 1), (modrm & 0x3f) | 0x80, sib];
  return Uint8Array.from([...head, ...littleEndian(displacement + 8, 4)]);
}
