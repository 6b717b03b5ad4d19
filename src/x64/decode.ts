/** Decoding: bytes to plain objects. Nothing here holds memory after it returned. */

import { address as toAddress, type Address } from '../base/brand.ts';
import { unreachable } from '../base/errors.ts';
import { iced, MAX_INSTRUCTION, visitInstructions, type Iced } from './iced.ts';

/**
 * Where control goes after an instruction.
 *
 * - `next`: to the next one
 * - `jump`, `conditional`, `call`: a direct branch; `target` says where
 * - `indirect-jump`, `indirect-call`: through a register or memory
 * - `return`
 * - `system`: into the kernel and back (`syscall`, `sysenter`)
 * - `interrupt`: `int3`, `int n`, `into`
 * - `exception`: `ud0`, `ud1`, `ud2`: never on
 * - `transaction`: `xbegin`; `target` is where an aborted transaction goes on
 * - `invalid`: not an instruction, one cut off by the end of the bytes, or one that the decoder is
 *   too old to know
 */
export type Flow =
  | 'next'
  | 'jump'
  | 'conditional'
  | 'call'
  | 'indirect-jump'
  | 'indirect-call'
  | 'return'
  | 'system'
  | 'interrupt'
  | 'exception'
  | 'transaction'
  | 'invalid';

/** One instruction. */
export interface DecodedInstruction {
  readonly address: Address;
  /** Bytes, 1 to 15. Of an invalid one: those that the decoder looked at. */
  readonly length: number;
  readonly flow: Flow;
  /** Where a direct branch goes. */
  readonly target: Address | undefined;
  /** What a memory operand relative to rip addresses. */
  readonly ripTarget: Address | undefined;
}

/**
 * Decodes the instruction at `offset` of `bytes`, which lies at `address`. An instruction that is cut
 * off by the end of the bytes, and an offset at or past the end, are `invalid`.
 */
export function decodeAt(bytes: Uint8Array, offset: number, address: Address): DecodedInstruction {
  let decoded: DecodedInstruction | undefined;
  visitInstructions(bytes.subarray(offset, offset + MAX_INSTRUCTION), address, (instruction) => {
    decoded = describe(instruction);
    return false;
  });
  return (
    decoded ?? { address, length: 1, flow: 'invalid', target: undefined, ripTarget: undefined }
  );
}

/** A memory operand relative to rip that is read or written. */
export interface RipOperand {
  readonly target: Address;
  /** Bytes of it; 0 where that is not known. */
  readonly size: number;
  /** Where its displacement stands. */
  readonly at: number;
}

/** The operand relative to rip of the instruction at `offset` of `bytes`; undefined for one that accesses no memory so. */
export function ripOperandAt(
  bytes: Uint8Array,
  offset: number,
  address: Address,
): RipOperand | undefined {
  let found: RipOperand | undefined;
  const window = bytes.subarray(offset, offset + MAX_INSTRUCTION);
  visitInstructions(window, address, (instruction, decoder) => {
    const { MemorySizeExt, Mnemonic } = iced();
    const { isInvalid, isIpRelMemoryOperand, mnemonic, memorySize } = instruction;
    if (isInvalid || !isIpRelMemoryOperand || mnemonic === Mnemonic.Lea) return false;
    const target = toAddress(instruction.ipRelMemoryAddress);
    const offsets = decoder.getConstantOffsets(instruction);
    found = {
      target,
      size: MemorySizeExt.size(memorySize),
      at: offset + offsets.displacementOffset,
    };
    offsets.free();
    return false;
  });
  return found;
}

/**
 * Where the instruction at `offset` of `bytes` holds numbers of four or eight bytes that may be addresses: immediate operands
 * and displacements that are no distances. As offsets into `bytes`.
 */
export function constantsAt(bytes: Uint8Array, offset: number, address: Address): number[] {
  const found: number[] = [];
  visitInstructions(
    bytes.subarray(offset, offset + MAX_INSTRUCTION),
    address,
    (instruction, decoder) => {
      const offsets = decoder.getConstantOffsets(instruction);
      if (!instruction.isIpRelMemoryOperand && offsets.displacementSize >= 4) {
        found.push(offset + offsets.displacementOffset);
      }
      if (!isDirect(flowOf(instruction)) && offsets.immediateSize >= 4) {
        found.push(offset + offsets.immediateOffset);
      }
      offsets.free();
      return false;
    },
  );
  return found;
}

/**
 * Decodes `bytes`, which lie at `address`, from their start to their end, or up to the first
 * invalid instruction, which is the last of the list then.
 */
export function decodeAll(bytes: Uint8Array, address: Address): DecodedInstruction[] {
  const all: DecodedInstruction[] = [];
  visitInstructions(bytes, address, (instruction) => {
    all.push(describe(instruction));
  });
  return all;
}

/** The instruction at `offset` of `bytes`, which lies at `address`, in Intel syntax, for people. */
export function format(bytes: Uint8Array, offset: number, address: Address): string {
  const { Formatter, FormatterSyntax } = iced();
  const formatter = new Formatter(FormatterSyntax.Intel);
  try {
    formatter.hexPrefix = '0x';
    formatter.hexSuffix = '';
    formatter.uppercaseHex = false;
    formatter.spaceAfterOperandSeparator = true;
    formatter.branchLeadingZeros = false;
    let text = '(bad)';
    visitInstructions(bytes.subarray(offset, offset + MAX_INSTRUCTION), address, (instruction) => {
      if (!instruction.isInvalid) text = formatter.format(instruction);
      return false;
    });
    return text;
  } finally {
    formatter.free();
  }
}

/** The flow of an instruction of the library's. */
export function flowOf(instruction: Iced.Instruction): Flow {
  const { Code, FlowControl } = iced();
  const { flowControl } = instruction;
  switch (flowControl) {
    case FlowControl.UnconditionalBranch:
      // Far jumps through memory are IndirectBranch; the direct ones don't exist in 64-bit mode.
      return 'jump';
    case FlowControl.ConditionalBranch:
      return 'conditional';
    case FlowControl.Call:
      // The library counts syscall, sysenter and their kind as calls.
      return instruction.code === Code.Call_rel32_64 || instruction.code === Code.Call_rel16
        ? 'call'
        : 'system';
    case FlowControl.IndirectBranch:
      return 'indirect-jump';
    case FlowControl.IndirectCall:
      return 'indirect-call';
    case FlowControl.Return:
      return 'return';
    case FlowControl.Interrupt:
      return 'interrupt';
    case FlowControl.XbeginXabortXend:
      // By the name three, in fact xbegin alone can leave the line: xabort and xend are Next here.
      return instruction.code === Code.Xbegin_rel32 || instruction.code === Code.Xbegin_rel16
        ? 'transaction'
        : 'next';
    case FlowControl.Exception:
      // What is no instruction is counted here.
      return instruction.isInvalid ? 'invalid' : 'exception';
    case FlowControl.Next:
      return 'next';
  }
  return unreachable(flowControl);
}

function describe(instruction: Iced.Instruction): DecodedInstruction {
  const flow = flowOf(instruction);
  const { isIpRelMemoryOperand } = instruction;
  return {
    address: toAddress(instruction.ip),
    length: Math.max(1, instruction.length),
    flow,
    target: isDirect(flow) ? toAddress(instruction.nearBranchTarget) : undefined,
    ripTarget:
      flow !== 'invalid' && isIpRelMemoryOperand
        ? toAddress(instruction.ipRelMemoryAddress)
        : undefined,
  };
}

/** Whether control never reaches the instruction behind one of this kind. A call is taken to return. */
export function neverGoesOn(flow: Flow): boolean {
  return flow === 'jump' || flow === 'indirect-jump' || flow === 'return' || flow === 'exception';
}

/** Whether it is a direct branch, which says itself where it goes. */
export function isDirect(flow: Flow): boolean {
  return flow === 'jump' || flow === 'conditional' || flow === 'call' || flow === 'transaction';
}
