/** Which instructions may fault for reasons of the program's own: a bad pointer, a division by zero. */

import type { Address } from '../base/brand.ts';
import { iced, visitInstructions, type Iced } from './iced.ts';

/**
 * Whether one of these instructions may; not for the stack they use, or for what lies at a fixed place.
 * @param anchor another register that leads to memory that is there
 */
export function mayFault(bytes: Uint8Array, at: Address, anchor?: 'r14'): boolean {
  let found = false;
  visitInstructions(bytes, at, (instruction) => {
    found ||= divides(instruction) || readsByPointer(instruction, anchor);
    return !found;
  });
  return found;
}

function divides({ mnemonic }: Iced.Instruction): boolean {
  const { Mnemonic } = iced();
  return mnemonic === Mnemonic.Div || mnemonic === Mnemonic.Idiv;
}

/** Prefetches never fault, `lea` and nops touch nothing. */
function readsByPointer(instruction: Iced.Instruction, anchor: 'r14' | undefined): boolean {
  const { Mnemonic, OpKind } = iced();
  const { mnemonic } = instruction;
  if (mnemonic === Mnemonic.Lea || mnemonic === Mnemonic.Nop) return false;
  for (let operand = 0; operand < instruction.opCount; operand++) {
    const kind = instruction.opKind(operand);
    if (kind === OpKind.Memory && !isSteady(instruction, anchor)) return true;
    // What string instructions use has no operand of its own: by rsi and rdi.
    if (kind >= OpKind.MemorySegSI && kind <= OpKind.MemoryESRDI) return true;
  }
  return false;
}

/** By the stack pointer, rip or a segment's base: memory that is there. */
function isSteady(
  { memoryBase, memoryIndex, segmentPrefix }: Iced.Instruction,
  anchor: 'r14' | undefined,
): boolean {
  const { Register } = iced();
  if (segmentPrefix === Register.FS || segmentPrefix === Register.GS) return true;
  const isAnchored =
    memoryBase === Register.RSP ||
    memoryBase === Register.RIP ||
    memoryBase === Register.None ||
    (anchor === 'r14' && memoryBase === Register.R14);
  return isAnchored && memoryIndex === Register.None;
}
