/** The shapes that instructions share: one method a shape, used by several mnemonics. */

import { CodeBuffer, type BranchForm, type BranchTarget } from './code-buffer.ts';
import { littleEndian, needsRex, NO_BYTES, signedImmediate, type Immediate } from './encoding.ts';
import { CONDITIONS, Label, type Condition, type Memory } from './operands.ts';
import {
  partOf,
  resized,
  type Register,
  type Register32,
  type Register64,
  type Width,
} from './registers.ts';

/** A code buffer that knows the shapes of instructions. */
export class InstructionForms extends CodeBuffer {
  /** An opcode whose low bit tells 1 byte from 2, 4 and 8. */
  protected sized(
    width: Width,
    opcode: number,
    reg: number,
    rm: Register | Memory,
    tail: Uint8Array = NO_BYTES,
  ): this {
    const wideOpcode = width === 1 ? opcode : opcode | 1;
    return this.form({
      prefixes: prefixesOf(width),
      wide: width === 8,
      opcode: [wideOpcode],
      reg,
      rm,
      tail,
    });
  }

  /** `opcode` with a register in ModRM.reg and a register or memory of the same width in ModRM.rm. */
  protected binary(opcode: number, register: Register, rm: Register | Memory): this {
    const { number, width } = partOf(register);
    sameWidth(width, rm);
    const wideOpcode = width === 1 ? opcode : opcode | 1;
    return this.form({
      prefixes: prefixesOf(width),
      wide: width === 8,
      opcode: [wideOpcode],
      reg: number,
      rm,
      forceRex: needsRex(register),
    });
  }

  protected arithmetic(
    extension: number,
    destination: Register | Memory,
    source: Register | Memory | Immediate,
  ): this {
    const opcode = extension << 3;
    if (typeof source === 'string') return this.binary(opcode, source, destination);
    if (typeof source === 'object') {
      return this.binary(opcode | 2, onlyRegister(destination), source);
    }
    const width = widthOf(destination);
    const value = signedImmediate(source, width);
    if (width === 1) {
      return this.sized(1, 0x80, extension, destination, littleEndian(value, 1));
    }
    const short = isByte(value);
    return this.form({
      prefixes: prefixesOf(width),
      wide: width === 8,
      opcode: [short ? 0x83 : 0x81],
      reg: extension,
      rm: destination,
      tail: littleEndian(value, short ? 1 : Math.min(width, 4)),
    });
  }

  protected setRegister(destination: Register, value: Immediate): this {
    const { number, width } = partOf(destination);
    if (width < 4) {
      const tail = littleEndian(signedImmediate(value, width), width);
      return this.sized(width, 0xc6, 0, destination, tail);
    }
    const unsigned = width === 8 ? unsigned64(value) : BigInt(signedImmediate(value, 4) >>> 0);
    if (unsigned <= 0xffff_ffffn) {
      return this.plus(0xb8, resized(destination, 4)).raw(littleEndian(unsigned, 4));
    }
    if (BigInt.asIntN(32, unsigned) === BigInt.asIntN(64, unsigned)) {
      return this.sized(8, 0xc6, 0, destination, littleEndian(unsigned, 4));
    }
    const rex = 0x48 | (number >> 3);
    return this.raw([rex, 0xb8 | (number & 7), ...littleEndian(unsigned, 8)]);
  }

  /** An opcode with the register's number in its low three bits. */
  protected plus(opcode: number, register: Register64 | Register32): this {
    const { number } = partOf(register);
    return this.raw(number >= 8 ? [0x41, opcode | (number & 7)] : [opcode | number]);
  }

  protected extend(
    destination: Register64 | Register32,
    source: Register | Memory,
    opcodes: { readonly [width in Width]?: readonly number[] },
  ): this {
    const { number, width } = partOf(destination);
    const from = widthOf(source);
    const opcode = opcodes[from];
    if (opcode === undefined || from >= width) {
      throw new RangeError(`no extension from ${from} to ${width} bytes`);
    }
    return this.form({ opcode, reg: number, rm: source, wide: width === 8 });
  }

  protected shift(extension: number, operand: Register | Memory, count: number): this {
    const width = widthOf(operand);
    if (!Number.isInteger(count) || count < 0 || count >= Math.max(32, width * 8)) {
      throw new RangeError(`shift count out of range: ${count}`);
    }
    return this.sized(width, 0xc0, extension, operand, Uint8Array.of(count));
  }

  protected atomic(opcode: number, destination: Memory, source: Register): this {
    const { number, width } = partOf(source);
    sameWidth(width, destination);
    return this.form({
      prefixes: prefixesOf(width),
      wide: width === 8,
      opcode: [0x0f, width === 1 ? opcode : opcode | 1],
      reg: number,
      rm: destination,
      forceRex: needsRex(source),
    });
  }

  protected indirect(
    extension: number,
    target: Register64 | Memory,
    form: BranchForm | undefined,
  ): this {
    if (form !== undefined) throw new RangeError('an indirect branch has one form');
    // 64 bits wide without REX.W: branches are so by default in 64-bit mode.
    if (widthOf(target, 8) !== 8) throw new RangeError('the operand is 8 bytes wide');
    return this.form({ opcode: [0xff], reg: extension, rm: target, wide: false });
  }
}

const HALF = [0x66] as const;
const NONE = [] as const;

/**
 * The prefixes of an instruction that is `width` bytes wide; REX.W is told apart. Forms are written without
 * spreading: there are dozens in each stub, of which thousands are made at once.
 */
export function prefixesOf(width: Width): readonly number[] {
  return width === 2 ? HALF : NONE;
}

/** The width of an operand; @throws RangeError when neither it nor `absent` tells. */
export function widthOf(operand: Register | Memory, absent?: Width): Width {
  if (typeof operand === 'string') return partOf(operand).width;
  const width = operand.width ?? absent;
  if (width === undefined) throw new RangeError('the memory operand needs a width');
  return width;
}

/** @throws RangeError unless the operand is, or may be taken to be, `width` bytes wide. */
export function sameWidth(width: Width, operand: Register | Memory): void {
  if (widthOf(operand, width) !== width) throw new RangeError('the operands differ in width');
}

/** The operand, a register; @throws RangeError for memory. */
export function onlyRegister(operand: Register | Memory): Register {
  if (typeof operand !== 'string') throw new RangeError('one operand at most may be memory');
  return operand;
}

/** Whether a branch goes where a register or memory points. */
export function isIndirect(
  target: BranchTarget | Register64 | Memory,
): target is Register64 | Memory {
  return typeof target === 'string' || (typeof target === 'object' && !(target instanceof Label));
}

/** The encoding number of a condition. */
export function conditionNumber(condition: Condition): number {
  const number = CONDITIONS.indexOf(condition);
  if (number < 0) throw new RangeError(`not a condition: ${condition}`);
  return number;
}

/** Whether a signed number fits one byte. */
export function isByte(value: number): boolean {
  return value >= -128 && value <= 127;
}

function unsigned64(value: Immediate): bigint {
  const wide = BigInt(value);
  if (wide < -(1n << 63n) || wide >= 1n << 64n) {
    throw new RangeError(`immediate does not fit 64 bits: ${wide}`);
  }
  return BigInt.asUintN(64, wide);
}
