/**
 * Indirect jumps that do not look like one. A return goes to what the top of the stack holds, and code that puts it there
 * itself jumps so: retpolines, which are calls over themselves, in their function or as a thunk that it jumps to;
 * `push` and `ret`. They are known by what their code does: names may be stripped.
 */

import { neverGoesOn } from './decode.ts';
import { iced, visitInstructions, type Iced } from './iced.ts';
import type { Listing } from './listing.ts';
import type { TableImage } from './table-entries.ts';

/** What says where an indirect jump goes that is none by its opcode. */
export interface HiddenJump {
  /** The position of the instruction before which the goal is looked for. */
  readonly at: number;
  /** The encoding number of the register that holds it; undefined where it is not in one. */
  readonly register: number | undefined;
}

/** What is known of the file's code. */
type CodeImage = Pick<TableImage, 'read' | 'text'>;

/** Bytes of a thunk that are looked at: clang aligns what it calls to 16 bytes. */
const THUNK_BYTES = 48;
/** Instructions before a return in which its goal would be written. */
const LOOK_BACK = 8;
const POINTER_BYTES = 8;

/** What code does with the goal that it is given: jumps to a register's, or to what was pushed before. */
type Shape = { readonly register: number } | 'return' | undefined;

/** The hidden jumps of a function, by position. */
export function hiddenJumps(listing: Listing, image: CodeImage): Map<number, HiddenJump> {
  const found = new Map<number, HiddenJump>();
  const { code } = listing;
  for (let position = 0; position < listing.count; position++) {
    const flow = listing.flowAt(position);
    const goal = listing.targetAt(position);
    let shape: Shape;
    if (flow === 'return') shape = 'return';
    else if (flow === 'call' && goal !== undefined && listing.positionOf(goal) >= 0) {
      shape = rewritten(code, goal);
    } else if (goal !== undefined && (flow === 'jump' || flow === 'conditional')) {
      const isInside = goal >= 0 && goal < code.byteLength;
      shape = isInside ? undefined : thunkAt(image, listing.address + BigInt(goal));
    }
    if (shape === undefined) continue;
    const jump = shape === 'return' ? writtenBefore(listing, position) : { at: position, ...shape };
    if (jump !== undefined) found.set(position, jump);
  }
  return withoutBodies(listing, found);
}

/** Whether bytes of which no instructions are known may hold one: by the last instructions of all forms. */
export function mayHideJumps({ code, address }: Listing, image: CodeImage): boolean {
  const view = new DataView(code.buffer, code.byteOffset, code.byteLength);
  for (let at = 0; at < code.byteLength; at++) {
    if (rewritten(code, at) !== undefined) return true;
    const isPush = ((code[at] ?? 0) & 0xf8) === 0x50;
    if (isPush && code[at + 1] === RET) return true;
    if (code[at] !== JMP || at + JMP_BYTES > code.byteLength) continue;
    const goal = at + JMP_BYTES + view.getInt32(at + 1, true);
    if (thunkAt(image, address + BigInt(goal)) !== undefined) return true;
  }
  return false;
}

const CALL = 0xe8;
const JMP = 0xe9;
const JMP_BYTES = 5;
const RET = 0xc3;

/**
 * The call of a retpoline is the jump: control comes to its last instructions from there only. One that is itself only
 * called is an indirect call, and control comes back.
 */
function withoutBodies(listing: Listing, found: Map<number, HiddenJump>): Map<number, HiddenJump> {
  for (const position of found.keys()) {
    if (listing.flowAt(position) !== 'call') continue;
    found.delete(listing.positionOf(listing.targetAt(position) ?? -1) + 1);
    if (isOnlyCalled(listing, position)) found.delete(position);
  }
  return found;
}

function isOnlyCalled(listing: Listing, position: number): boolean {
  if (position === 0 || !neverGoesOn(listing.flowAt(position - 1))) return false;
  const start = listing.starts[position];
  let isCalled = false;
  for (let from = 0; from < listing.count; from++) {
    if (listing.targetAt(from) !== start) continue;
    if (listing.flowAt(from) !== 'call') return false;
    isCalled = true;
  }
  return isCalled;
}

/** What a thunk at an address does; undefined where none stands there. */
function thunkAt({ read, text }: CodeImage, at: bigint): Shape {
  if (at < text.start || at >= text.end) return undefined;
  const code = read(at, Math.min(THUNK_BYTES, Number(text.end - at)));
  if (code === undefined) return undefined;
  const start = isEndbr(code) ? 4 : 0;
  if (code[start] !== CALL) return plainThunk(code, start);
  const displacement =
    (code[start + 1] ?? 0) | ((code[start + 2] ?? 0) << 8) | ((code[start + 3] ?? 0) << 16);
  // Forwards and near: the upper bytes are zero.
  if (code[start + 4] !== 0 || displacement >= THUNK_BYTES) return undefined;
  return rewritten(code, start + JMP_BYTES + displacement);
}

function isEndbr(code: Uint8Array): boolean {
  return code[0] === 0xf3 && code[1] === 0x0f && code[2] === 0x1e && code[3] === 0xfa;
}

/** Thunks without a call, for processors that need none: `lfence; jmp *%reg`, and a lone return. */
function plainThunk(code: Uint8Array, start: number): Shape {
  let at = start;
  if (code[at] === 0x0f && code[at + 1] === 0xae && code[at + 2] === 0xe8) at += 3;
  if (code[at] === 0xf3 && code[at + 1] === RET) at++;
  if (code[at] === RET) return 'return';
  while (code[at] === 0x3e || code[at] === 0xf2) at++;
  const isHigh = code[at] === 0x41;
  if (isHigh) at++;
  const modrm = code[at + 1] ?? 0;
  if (code[at] !== 0xff || (modrm & 0xf8) !== 0xe0) return undefined;
  return { register: (modrm & 7) + (isHigh ? 8 : 0) };
}

/**
 * What code does that is called, and does not go back there: `mov %reg, (%rsp); ret` goes on at the register's goal;
 * `lea 8(%rsp), %rsp; ret`, or the same by `add`, at what had been pushed before the call.
 */
function rewritten(code: Uint8Array, at: number): Shape {
  const [rex, opcode, modrm = 0, last] = code.subarray(at, at + 4);
  if (rex !== 0x48 && rex !== 0x4c) return undefined;
  // mod 0, rm 4, and the byte behind it names rsp as the base (Intel SDM volume 2, table 2-3).
  if (opcode === 0x89 && (modrm & 0xc7) === 0x04 && last === 0x24 && code[at + 4] === RET) {
    return { register: ((modrm >> 3) & 7) + (rex === 0x4c ? 8 : 0) };
  }
  if (rex !== 0x48) return undefined;
  const isAdd = opcode === 0x83 && modrm === 0xc4 && last === 8 && code[at + 4] === RET;
  const isLea = opcode === 0x8d && modrm === 0x64 && last === 0x24 && code[at + 4] === 8;
  return isAdd || (isLea && code[at + 5] === RET) ? 'return' : undefined;
}

/** The instruction that wrote what a return takes for its goal, if one right before it did. */
function writtenBefore(listing: Listing, position: number): HiddenJump | undefined {
  // From rsp to the goal.
  let slot = 0;
  for (let at = position - 1; at >= Math.max(0, position - LOOK_BACK); at--) {
    const flow = listing.flowAt(at);
    if (neverGoesOn(flow)) return undefined;
    // What is called gives the stack back.
    if (flow !== 'next') continue;
    const effect = effectAt(listing, at, slot);
    if (effect === 'lost') return undefined;
    if (typeof effect !== 'number') return { at, register: effect.register };
    slot += effect;
  }
  return undefined;
}

/** What an instruction does to the stack: moves rsp by so many bytes; loses where it was; writes the goal of a return. */
type Effect = number | 'lost' | { readonly register: number | undefined };

/**
 * @param slot from rsp, as it is behind the instruction, to the goal
 */
function effectAt({ code, address, starts }: Listing, position: number, slot: number): Effect {
  const start = starts[position] ?? 0;
  const bytes = code.subarray(start, starts[position + 1] ?? code.byteLength);
  let effect: Effect = 'lost';
  visitInstructions(bytes, address + BigInt(start), (instruction) => {
    const moved = moveOf(instruction);
    effect = moved === undefined ? 'lost' : moved;
    if (moved !== undefined && writes(instruction, slot + moved)) {
      effect = { register: sourceOf(instruction) };
    }
    return false;
  });
  return effect;
}

/** By how many bytes an instruction moves rsp; undefined where that is not in it. */
function moveOf(instruction: Iced.Instruction): number | undefined {
  const { Mnemonic, Register, RegisterExt, OpKind } = iced();
  const { mnemonic, stackPointerIncrement } = instruction;
  if (mnemonic === Mnemonic.Leave || mnemonic === Mnemonic.Enter) return undefined;
  const isFirst =
    instruction.opCount > 0 &&
    instruction.op0Kind === OpKind.Register &&
    RegisterExt.fullRegister(instruction.op0Register) === Register.RSP;
  if (!isFirst || mnemonic === Mnemonic.Push) return stackPointerIncrement;
  if (mnemonic === Mnemonic.Cmp || mnemonic === Mnemonic.Test) return 0;
  if (mnemonic === Mnemonic.Lea) {
    const isOwn =
      instruction.memoryBase === Register.RSP && instruction.memoryIndex === Register.None;
    return isOwn ? Number(BigInt.asIntN(64, instruction.memoryDisplacement)) : undefined;
  }
  const kind = instruction.opCount > 1 ? instruction.op1Kind : OpKind.Register;
  if (kind === OpKind.Register || kind === OpKind.Memory) return undefined;
  const amount = Number(BigInt.asIntN(64, instruction.immediate(1)));
  if (mnemonic === Mnemonic.Add) return amount;
  return mnemonic === Mnemonic.Sub ? -amount : undefined;
}

/**
 * Whether an instruction writes any of a pointer's bytes.
 * @param slot from rsp, as it is before the instruction, to the pointer
 */
function writes(instruction: Iced.Instruction, slot: number): boolean {
  const { InstructionInfoFactory, OpAccess, Register, MemorySizeExt } = iced();
  const factory = new InstructionInfoFactory();
  const info = factory.info(instruction);
  try {
    let isWritten = false;
    for (const used of info.usedMemory()) {
      const { access, base, index, displacement, memorySize } = used;
      used.free();
      const isRead = access === OpAccess.Read || access === OpAccess.CondRead;
      if (isRead || access === OpAccess.NoMemAccess || access === OpAccess.None) continue;
      if (base !== Register.RSP || index !== Register.None) continue;
      const first = Number(BigInt.asIntN(64, displacement));
      isWritten ||= first < slot + POINTER_BYTES && first + MemorySizeExt.size(memorySize) > slot;
    }
    return isWritten;
  } finally {
    info.free();
    factory.free();
  }
}

/** The register whose value a `push` or a `mov` stores, if it is one of 64 bits. */
function sourceOf(instruction: Iced.Instruction): number | undefined {
  const { Mnemonic, OpKind, Register } = iced();
  const { mnemonic } = instruction;
  if (mnemonic !== Mnemonic.Push && mnemonic !== Mnemonic.Mov) return undefined;
  const operand = mnemonic === Mnemonic.Push ? 0 : 1;
  if (instruction.opKind(operand) !== OpKind.Register) return undefined;
  const register = instruction.opRegister(operand);
  return register >= Register.RAX && register <= Register.R15 ? register - Register.RAX : undefined;
}
