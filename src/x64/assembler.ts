/**
 * The assembler for the code that we put into programs: 64-bit mode, typed operands, no text.
 *
 * One method a mnemonic, operands in Intel's order (destination first):
 *
 *     const code = new Assembler(address(0x7f0000001000n));
 *     const done = code.label('done');
 *     const word = code.label('word');
 *     code.mov('rax', mem({ target: word }));                 // mov rax,[rip+word]
 *     code.cmp(mem({ base: 'rcx', displacement: 16, width: 4 }), 7); // cmp dword ptr [rcx+16],7
 *     code.jcc('ne', done);
 *     code.lock().inc(mem({ base: 'rdi', width: 8 }));        // lock inc qword ptr [rdi]
 *     code.bind(done).ret().align(8).bind(word).u64(5n);
 *     const bytes = code.finish();
 *
 * An operand is a register's name, a memory operand made by `mem`, or a number, which is an
 * immediate. The width is that of the register; with no register operand, it is the memory operand's
 * `width`. Every method returns the assembler. Wrong operands throw RangeError at once.
 */

import type { BranchForm, BranchTarget } from './code-buffer.ts';
import { littleEndian, signedImmediate, type Immediate } from './encoding.ts';
import {
  conditionNumber,
  InstructionForms,
  isByte,
  isIndirect,
  onlyRegister,
  sameWidth,
  prefixesOf,
  widthOf,
} from './forms.ts';
import type { Condition, Memory } from './operands.ts';
import { partOf, type Register, type Register32, type Register64 } from './registers.ts';

/** The opcode extensions of the arithmetic group; times 8 they are its other opcodes (SDM 2, A-6). */
const ARITHMETIC = { add: 0, or: 1, adc: 2, sbb: 3, and: 4, sub: 5, xor: 6, cmp: 7 } as const;

/** Writes machine code from an address on. Not for use after `finish`. */
export class Assembler extends InstructionForms {
  // Moving

  /**
   * Copies a register, loads, stores, or sets. A 64-bit register is set by the shortest form that
   * leaves it equal; the flags are never touched.
   */
  mov(destination: Register | Memory, source: Register | Memory | Immediate): this {
    if (typeof source === 'string') return this.binary(0x88, source, destination);
    if (typeof source === 'object') return this.binary(0x8a, onlyRegister(destination), source);
    if (typeof destination === 'string') return this.setRegister(destination, source);
    const width = widthOf(destination);
    const tail = littleEndian(signedImmediate(source, width), Math.min(width, 4));
    return this.sized(width, 0xc6, 0, destination, tail);
  }

  /** `mov` that extends with zeros. The source is of 1 or 2 bytes; loads need `width`. */
  movzx(destination: Register64 | Register32, source: Register | Memory): this {
    return this.extend(destination, source, { 1: [0x0f, 0xb6], 2: [0x0f, 0xb7] });
  }

  /** `mov` that extends the sign (`movsxd` for 4 bytes). The source is narrower; loads need `width`. */
  movsx(destination: Register64 | Register32, source: Register | Memory): this {
    return this.extend(destination, source, {
      1: [0x0f, 0xbe],
      2: [0x0f, 0xbf],
      4: [0x63],
    });
  }

  /** The address of a memory operand. No memory is read. */
  lea(destination: Register64, source: Memory): this {
    return this.form({ opcode: [0x8d], reg: partOf(destination).number, rm: source, wide: true });
  }

  /** `mov` of 2, 4 or 8 bytes if the condition holds. The source is read whether or not. */
  cmov(condition: Condition, destination: Register, source: Register | Memory): this {
    const { number, width } = partOf(destination);
    if (width === 1) throw new RangeError('cmov has no form of 1 byte');
    sameWidth(width, source);
    const opcode = [0x0f, 0x40 | conditionNumber(condition)];
    return this.form({
      prefixes: prefixesOf(width),
      wide: width === 8,
      opcode,
      reg: number,
      rm: source,
    });
  }

  /** Pushes a register, or 8 bytes of memory; an rsp in the operand counts as it was before. */
  push(source: Register64 | Memory): this {
    if (typeof source === 'string') return this.plus(0x50, source);
    return this.indirect(6, source, undefined);
  }

  pop(register: Register64): this {
    return this.plus(0x58, register);
  }

  // Arithmetic and logic

  add(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.add, destination, source);
  }

  adc(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.adc, destination, source);
  }

  sub(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.sub, destination, source);
  }

  sbb(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.sbb, destination, source);
  }

  and(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.and, destination, source);
  }

  or(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.or, destination, source);
  }

  xor(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.xor, destination, source);
  }

  cmp(destination: Register | Memory, source: Register | Memory | Immediate): this {
    return this.arithmetic(ARITHMETIC.cmp, destination, source);
  }

  /** `and` that only sets the flags. */
  test(destination: Register | Memory, source: Register | Immediate): this {
    if (typeof source === 'string') return this.binary(0x84, source, destination);
    const width = widthOf(destination);
    const tail = littleEndian(signedImmediate(source, width), Math.min(width, 4));
    return this.sized(width, 0xf6, 0, destination, tail);
  }

  inc(operand: Register | Memory): this {
    return this.sized(widthOf(operand), 0xfe, 0, operand);
  }

  dec(operand: Register | Memory): this {
    return this.sized(widthOf(operand), 0xfe, 1, operand);
  }

  not(operand: Register | Memory): this {
    return this.sized(widthOf(operand), 0xf6, 2, operand);
  }

  neg(operand: Register | Memory): this {
    return this.sized(widthOf(operand), 0xf6, 3, operand);
  }

  shl(operand: Register | Memory, count: number): this {
    return this.shift(4, operand, count);
  }

  shr(operand: Register | Memory, count: number): this {
    return this.shift(5, operand, count);
  }

  sar(operand: Register | Memory, count: number): this {
    return this.shift(7, operand, count);
  }

  /** `destination = source × factor`, signed, the low part; 2, 4 or 8 bytes wide. */
  imul(destination: Register, source: Register | Memory, factor?: Immediate): this {
    const { number, width } = partOf(destination);
    if (width === 1) throw new RangeError('imul has no form of 1 byte');
    sameWidth(width, source);
    const form = { prefixes: prefixesOf(width), wide: width === 8, reg: number, rm: source };
    if (factor === undefined) return this.form({ ...form, opcode: [0x0f, 0xaf] });
    const value = signedImmediate(factor, width);
    if (isByte(value)) {
      return this.form({ ...form, opcode: [0x6b], tail: littleEndian(value, 1) });
    }
    return this.form({ ...form, opcode: [0x69], tail: littleEndian(value, Math.min(width, 4)) });
  }

  /** 1 or 0, as the condition holds or not. */
  set(condition: Condition, destination: Register | Memory): this {
    if (widthOf(destination, 1) !== 1) throw new RangeError('setcc writes 1 byte');
    const opcode = [0x0f, 0x90 | conditionNumber(condition)];
    return this.form({ opcode, reg: 0, rm: destination, wide: false });
  }

  // Atomic

  /** The `lock` prefix: makes the read-modify-write instruction that follows atomic for all cores. */
  lock(): this {
    return this.raw([0xf0]);
  }

  /** If memory equals rax: memory = source, ZF = 1. Else rax = memory, ZF = 0. */
  cmpxchg(destination: Memory, source: Register): this {
    return this.atomic(0xb0, destination, source);
  }

  /** Memory += source, source = what memory was. */
  xadd(destination: Memory, source: Register): this {
    return this.atomic(0xc0, destination, source);
  }

  /** Swaps a register and memory; locked, prefix or not. */
  xchg(destination: Memory, source: Register): this {
    return this.binary(0x86, source, destination);
  }

  // Control flow

  /** Jumps to a label or address, or to where a register or 8 bytes of memory point. */
  jmp(target: BranchTarget | Register64 | Memory, form?: BranchForm): this {
    if (isIndirect(target)) return this.indirect(4, target, form);
    return this.branch([0xeb], [0xe9], target, form);
  }

  /** Jumps to a label or address if the condition holds. */
  jcc(condition: Condition, target: BranchTarget, form?: BranchForm): this {
    const number = conditionNumber(condition);
    return this.branch([0x70 | number], [0x0f, 0x80 | number], target, form);
  }

  /** Calls a label or address, or where a register or 8 bytes of memory point. */
  call(target: BranchTarget | Register64 | Memory): this {
    if (isIndirect(target)) return this.indirect(2, target, undefined);
    return this.branch(undefined, [0xe8], target, 'near');
  }

  ret(): this {
    return this.raw([0xc3]);
  }

  /** Enters the kernel: number in rax, arguments in SYSCALL_REGISTERS, result in rax. */
  syscall(): this {
    return this.raw([0x0f, 0x05]);
  }

  int3(): this {
    return this.raw([0xcc]);
  }

  ud2(): this {
    return this.raw([0x0f, 0x0b]);
  }

  // Flags, time, the processor

  /** SF, ZF, AF, PF and CF to ah. OF is not among them: see `set('o', …)`. */
  lahf(): this {
    return this.raw([0x9f]);
  }

  /** SF, ZF, AF, PF and CF from ah. */
  sahf(): this {
    return this.raw([0x9e]);
  }

  pushfq(): this {
    return this.raw([0x9c]);
  }

  popfq(): this {
    return this.raw([0x9d]);
  }

  cld(): this {
    return this.raw([0xfc]);
  }

  std(): this {
    return this.raw([0xfd]);
  }

  /** Copies rcx bytes from [rsi] to [rdi]. */
  repMovsb(): this {
    return this.raw([0xf3, 0xa4]);
  }

  pause(): this {
    return this.raw([0xf3, 0x90]);
  }

  /** The time stamp counter, to edx:eax. */
  rdtsc(): this {
    return this.raw([0x0f, 0x31]);
  }

  /** The thread pointer. Needs CR4.FSGSBASE, which the kernel shows as AT_HWCAP2 bit 1. */
  rdfsbase(destination: Register64): this {
    return this.form({
      prefixes: [0xf3],
      opcode: [0x0f, 0xae],
      reg: 0,
      rm: destination,
      wide: true,
    });
  }

  /** IA32_TSC_AUX: the processor's number in the low 12 bits, its node above (vdso getcpu). */
  rdpid(destination: Register64): this {
    return this.form({
      prefixes: [0xf3],
      opcode: [0x0f, 0xc7],
      reg: 7,
      rm: destination,
      wide: false,
    });
  }

  /** The limit of a segment selector: for the kernel's per-cpu selector, what rdpid gives. */
  lsl(destination: Register32, selector: Register32): this {
    return this.form({
      opcode: [0x0f, 0x03],
      reg: partOf(destination).number,
      rm: selector,
      wide: false,
    });
  }
}
