/** What an instruction does, as far as the search for jump tables cares. */

import { flowOf, type Flow } from './decode.ts';
import { iced, type Iced } from './iced.ts';
import type { Listing } from './listing.ts';
/** What an instruction does. Registers are numbers. */
export interface GraphInstruction {
  readonly flow: Flow;
  /** Bits of the general registers that it writes, in any width, conditionally too. */
  readonly writes: number;
  readonly operation: 'mov' | 'lea' | 'add' | 'push' | 'other';
  /** The register that is operand 0, and operand 1, if they are registers. */
  readonly first: number | undefined;
  readonly second: number | undefined;
  readonly memory: GraphMemory | undefined;
  /** What it puts into a register where that may be an entry of a table. */
  readonly entry: GraphEntry | undefined;
  /** An immediate operand that could be an address. */
  readonly immediate: bigint | undefined;
  /** Bytes by which it moves rsp: up (+) as pop does, or down. 0 for calls. */
  readonly stack: 'up' | 'down' | 'same';
}

/** A word of four or eight bytes that is loaded into a register, or taken from the lower half of another. */
export interface GraphEntry {
  readonly into: number;
  readonly from: number | 'memory';
}

/** A memory operand. Relative to rip: `displacement` is the address, and no base or index. */
export interface GraphMemory {
  readonly base: number | undefined;
  readonly index: number | undefined;
  readonly scale: number;
  readonly displacement: bigint;
}

/** Bytes of an address, and of the shortest opcode before it. */
const LEAST_WITH_ADDRESS = 5;
/** Makes the registers of a memory operand 32 bits wide (Intel SDM volume 2, 2.1.1). */
const ADDRESS_SIZE = 0x67;

/**
 * Whether {@link takeAddresses} can find anything: it needs four bytes of a displacement or an immediate operand, or a
 * memory operand whose registers are not of 64 bits. Most instructions are shorter, and need not be decoded again.
 */
export function mayNameAddress({ code, starts }: Listing, position: number): boolean {
  const start = starts[position] ?? 0;
  const end = starts[position + 1] ?? code.byteLength;
  if (end - start >= LEAST_WITH_ADDRESS) return true;
  for (let at = start; at < end; at++) if (code[at] === ADDRESS_SIZE) return true;
  return false;
}

/** Notes what an instruction names that may be an address. */
export function takeAddresses(instruction: Iced.Instruction, taken: Set<bigint>): void {
  const { Register } = iced();
  const operation = operationOf(instruction);
  if (operation === 'lea' || instruction.memoryIndex !== Register.None) {
    const memory = memoryOperand(instruction);
    if (memory !== undefined && memory.base === undefined) taken.add(memory.displacement);
  }
  if (operation !== 'mov' && operation !== 'add') return;
  const immediate = immediateOperand(instruction);
  if (immediate !== undefined) taken.add(immediate);
}

/** What an instruction does by itself. */
export function describe(
  instruction: Iced.Instruction,
  factory: Iced.InstructionInfoFactory,
): GraphInstruction {
  const flow = flowOf(instruction);
  return {
    flow,
    writes: writtenRegisters(instruction, factory),
    operation: operationOf(instruction),
    first: registerOperand(instruction, 0),
    second: registerOperand(instruction, 1),
    memory: memoryOperand(instruction),
    entry: entryOf(instruction),
    immediate: immediateOperand(instruction),
    stack: stackMove(instruction, flow),
  };
}

function operationOf({ mnemonic }: Iced.Instruction): GraphInstruction['operation'] {
  const { Mnemonic } = iced();
  if (mnemonic === Mnemonic.Mov) return 'mov';
  if (mnemonic === Mnemonic.Lea) return 'lea';
  if (mnemonic === Mnemonic.Push) return 'push';
  return mnemonic === Mnemonic.Add ? 'add' : 'other';
}

function entryOf(instruction: Iced.Instruction): GraphEntry | undefined {
  const { MemorySizeExt, Mnemonic, OpKind, Register, RegisterExt } = iced();
  const { mnemonic, op0Register } = instruction;
  const full = (register: Iced.Register): number | undefined => {
    return RegisterExt.size(register) < 4
      ? undefined
      : wideNumber(RegisterExt.fullRegister(register));
  };
  if (mnemonic === Mnemonic.Cdqe) return { into: 0, from: 0 };
  if (mnemonic !== Mnemonic.Mov && mnemonic !== Mnemonic.Movsxd) return undefined;
  const into = op0Register === Register.None ? undefined : full(op0Register);
  if (into === undefined) return undefined;
  if (instruction.op1Kind === OpKind.Memory) {
    return MemorySizeExt.size(instruction.memorySize) < 4 ? undefined : { into, from: 'memory' };
  }
  const from = instruction.op1Kind === OpKind.Register ? full(instruction.op1Register) : undefined;
  return from === undefined ? undefined : { into, from };
}

/** The encoding number of a general register of 64 bits. */
function wideNumber(register: Iced.Register): number | undefined {
  const { Register } = iced();
  return register >= Register.RAX && register <= Register.R15 ? register - Register.RAX : undefined;
}

function registerOperand(instruction: Iced.Instruction, operand: number): number | undefined {
  const { OpKind } = iced();
  if (operand >= instruction.opCount || instruction.opKind(operand) !== OpKind.Register) {
    return undefined;
  }
  return wideNumber(instruction.opRegister(operand));
}

function memoryOperand(instruction: Iced.Instruction): GraphMemory | undefined {
  const { OpKind } = iced();
  for (let operand = 0; operand < instruction.opCount; operand++) {
    if (instruction.opKind(operand) !== OpKind.Memory) continue;
    if (instruction.isIpRelMemoryOperand) {
      const displacement = instruction.ipRelMemoryAddress;
      return { base: undefined, index: undefined, scale: 1, displacement };
    }
    return {
      base: wideNumber(instruction.memoryBase),
      index: wideNumber(instruction.memoryIndex),
      scale: instruction.memoryIndexScale,
      displacement: BigInt.asUintN(64, instruction.memoryDisplacement),
    };
  }
  return undefined;
}

function immediateOperand(instruction: Iced.Instruction): bigint | undefined {
  const { OpKind } = iced();
  if (instruction.opCount < 2) return undefined;
  const kind = instruction.opKind(1);
  const isWide = kind === OpKind.Immediate32 || kind === OpKind.Immediate32to64;
  return isWide || kind === OpKind.Immediate64 ? instruction.immediate(1) : undefined;
}

function stackMove(instruction: Iced.Instruction, flow: Flow): GraphInstruction['stack'] {
  if (flow !== 'next') return 'same';
  const { Mnemonic, Register, RegisterExt } = iced();
  const { mnemonic, stackPointerIncrement } = instruction;
  if (mnemonic === Mnemonic.Leave) return 'up';
  if (stackPointerIncrement !== 0) return stackPointerIncrement > 0 ? 'up' : 'down';
  const isStack = RegisterExt.fullRegister(instruction.op0Register) === Register.RSP;
  if (!isStack || instruction.opCount < 2) return 'same';
  const amount = immediateSigned(instruction);
  if (mnemonic === Mnemonic.Add) return amount >= 0n ? 'up' : 'down';
  if (mnemonic === Mnemonic.Sub) return amount >= 0n ? 'down' : 'up';
  return mnemonic === Mnemonic.Lea || mnemonic === Mnemonic.Mov ? 'up' : 'down';
}

function immediateSigned(instruction: Iced.Instruction): bigint {
  const { OpKind } = iced();
  const kind = instruction.opKind(1);
  const has = kind !== OpKind.Register && kind !== OpKind.Memory;
  return has ? BigInt.asIntN(64, instruction.immediate(1)) : 0n;
}

function writtenRegisters(
  instruction: Iced.Instruction,
  factory: Iced.InstructionInfoFactory,
): number {
  const { OpAccess, RegisterExt } = iced();
  const info = factory.info(instruction);
  let bits = 0;
  try {
    for (const used of info.usedRegisters()) {
      const { access } = used;
      const reads = access === OpAccess.Read || access === OpAccess.CondRead;
      if (!reads && access !== OpAccess.None && RegisterExt.isGPR(used.register)) {
        bits |= 1 << (wideNumber(RegisterExt.fullRegister(used.register)) ?? 0);
      }
      used.free();
    }
  } finally {
    info.free();
  }
  return bits;
}
