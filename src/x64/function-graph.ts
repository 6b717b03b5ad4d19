/** A function as instructions with their predecessors: for questions asked backwards from a jump. */

import { flowOf, type Flow } from './decode.ts';
import { iced, visitInstructions, type Iced } from './iced.ts';

/** What an instruction does, as far as the search for jump tables cares. Registers are numbers. */
export interface GraphInstruction {
  readonly address: bigint;
  readonly next: bigint;
  readonly flow: Flow;
  readonly target: bigint | undefined;
  /** Bits of the general registers that it writes, in any width, conditionally too. */
  readonly writes: number;
  readonly operation: 'mov' | 'lea' | 'add' | 'other';
  /** The register that is operand 0, and operand 1, if they are registers. */
  readonly first: number | undefined;
  readonly second: number | undefined;
  readonly memory: GraphMemory | undefined;
  /** An immediate operand that could be an address. */
  readonly immediate: bigint | undefined;
  /** Bytes by which it moves rsp: up (+) as pop does, or down. 0 for calls. */
  readonly stack: 'up' | 'down' | 'same';
}

/** A memory operand. Relative to rip: `displacement` is the address, and no base or index. */
export interface GraphMemory {
  readonly base: number | undefined;
  readonly index: number | undefined;
  readonly scale: number;
  readonly displacement: bigint;
}

/** A function that decoded cleanly. */
export interface FunctionGraph {
  readonly instructions: readonly GraphInstruction[];
  /** For each instruction the positions of those that control can come from. */
  readonly predecessors: readonly (readonly number[])[];
}

/**
 * Whether there is an indirect jump in `code`, which lies at `at`; undefined when it does not decode
 * to its end. Most functions have none, so this asks only that.
 */
export function hasIndirectJump(code: Uint8Array, at: bigint): boolean | undefined {
  const { FlowControl } = iced();
  let found = false;
  let clean = true;
  visitInstructions(code, at, (instruction) => {
    if (instruction.flowControl === FlowControl.IndirectBranch) found = true;
    if (instruction.isInvalid) clean = false;
  });
  return clean ? found : undefined;
}

/** Builds the graph of a function; undefined when it does not decode to its end. */
export function buildGraph(code: Uint8Array, at: bigint): FunctionGraph | undefined {
  const { InstructionInfoFactory } = iced();
  const instructions: GraphInstruction[] = [];
  const factory = new InstructionInfoFactory();
  try {
    visitInstructions(code, at, (instruction) => {
      instructions.push(describe(instruction, factory));
    });
  } finally {
    factory.free();
  }
  if (instructions.some(({ flow }) => flow === 'invalid')) return undefined;
  return { instructions, predecessors: link(instructions) };
}

function describe(
  instruction: Iced.Instruction,
  factory: Iced.InstructionInfoFactory,
): GraphInstruction {
  const flow = flowOf(instruction);
  const direct = flow === 'jump' || flow === 'conditional';
  return {
    address: instruction.ip,
    next: instruction.nextIP,
    flow,
    target: direct ? instruction.nearBranchTarget : undefined,
    writes: flow === 'invalid' ? 0 : writtenRegisters(instruction, factory),
    operation: operationOf(instruction),
    first: registerOperand(instruction, 0),
    second: registerOperand(instruction, 1),
    memory: memoryOperand(instruction),
    immediate: immediateOperand(instruction),
    stack: stackMove(instruction, flow),
  };
}

function operationOf({ mnemonic }: Iced.Instruction): GraphInstruction['operation'] {
  const { Mnemonic } = iced();
  if (mnemonic === Mnemonic.Mov) return 'mov';
  if (mnemonic === Mnemonic.Lea) return 'lea';
  return mnemonic === Mnemonic.Add ? 'add' : 'other';
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

/**
 * Where nothing else leads, an indirect jump of the function may: a case of a switch has no other
 * predecessor. The entry has none at all.
 */
function link(instructions: readonly GraphInstruction[]): number[][] {
  const positions = new Map(instructions.map(({ address }, position) => [address, position]));
  const predecessors: number[][] = instructions.map(() => []);
  const indirect: number[] = [];
  for (const [position, { flow, target, next }] of instructions.entries()) {
    if (flow === 'indirect-jump') indirect.push(position);
    const goals = target === undefined ? [] : [target];
    const ends = flow === 'jump' || flow === 'indirect-jump' || flow === 'return';
    if (!ends && flow !== 'exception') goals.push(next);
    for (const goal of goals) {
      const at = positions.get(goal);
      if (at !== undefined) predecessors[at]?.push(position);
    }
  }
  return predecessors.map((known, position) =>
    known.length === 0 && position > 0 ? indirect : known,
  );
}
