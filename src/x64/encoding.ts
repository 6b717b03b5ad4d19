/**
 * The bytes of one instruction in 64-bit mode: prefixes, REX, opcode, ModRM, SIB, displacement,
 * immediate (Intel SDM volume 2, chapter 2).
 */

import { partOf, type Register, type Register64, type Width } from './registers.ts';
import type { Memory } from './operands.ts';

/** A number as it stands in a source: both kinds are checked against the operand's width. */
export type Immediate = number | bigint;

/** What stands in an instruction's ModRM byte, and around it. */
export interface Form {
  /** Mandatory and size prefixes, before REX. */
  readonly prefixes?: readonly number[];
  /** The opcode with its 0F escape, if it has one. */
  readonly opcode: readonly number[];
  /** ModRM.reg: a register's number, or an opcode extension. */
  readonly reg: number;
  /** ModRM.rm, with SIB and displacement. */
  readonly rm: Register | Memory;
  /** Whether REX.W is set. */
  readonly wide: boolean;
  /** Set where ModRM.reg names spl, bpl, sil or dil, which exist only with a REX prefix. */
  readonly forceRex?: boolean;
  /** Immediate bytes that follow. */
  readonly tail?: Uint8Array;
}

/** An encoded instruction. */
export interface Encoded {
  readonly bytes: readonly number[];
  /** Where the 32-bit displacement of a rip-relative operand lies, if there is one. */
  readonly ripField: number | undefined;
}

/** What follows an instruction without an immediate. */
export const NO_BYTES: Uint8Array = new Uint8Array(0);
const SEGMENT_PREFIX = { fs: 0x64, gs: 0x65 } as const;

const NO_PREFIXES: readonly number[] = [];

/** Encodes one instruction that has a ModRM byte. */
export function encodeForm(form: Form): Encoded {
  const { rm, tail = NO_BYTES, prefixes = NO_PREFIXES } = form;
  const bytes: number[] = [];
  if (typeof rm !== 'string' && rm.segment !== undefined) bytes.push(SEGMENT_PREFIX[rm.segment]);
  for (const prefix of prefixes) bytes.push(prefix);
  const place = typeof rm === 'string' ? registerPlace(rm) : memoryPlace(rm);
  const rex = (form.wide ? 8 : 0) | (form.reg >= 8 ? 4 : 0) | place.rex;
  if (rex !== 0 || form.forceRex === true || place.forceRex) bytes.push(0x40 | rex);
  for (const byte of form.opcode) bytes.push(byte);
  bytes.push(place.modrm | ((form.reg & 7) << 3));
  for (const byte of place.rest) bytes.push(byte);
  const ripField = place.relative ? bytes.length - 4 : undefined;
  for (const byte of tail) bytes.push(byte);
  return { bytes, ripField };
}

/** Whether naming this register needs a REX prefix even if no bit of it is set. */
export function needsRex(register: Register): boolean {
  const { number, width } = partOf(register);
  return width === 1 && number >= 4 && number < 8;
}

interface Place {
  readonly modrm: number;
  /** The X and B bits. */
  readonly rex: number;
  readonly forceRex: boolean;
  /** SIB and displacement. */
  readonly rest: readonly number[];
  readonly relative: boolean;
}

function registerPlace(register: Register): Place {
  const { number } = partOf(register);
  return {
    modrm: 0xc0 | (number & 7),
    rex: number >> 3,
    forceRex: needsRex(register),
    rest: [],
    relative: false,
  };
}

function memoryPlace(memory: Memory): Place {
  const { base, index, target, displacement = 0 } = memory;
  if (target !== undefined) {
    return { modrm: 0x05, rex: 0, forceRex: false, rest: [0, 0, 0, 0], relative: true };
  }
  const indexNumber = index === undefined ? 4 : partOf(index).number;
  const sibIndex = ((indexNumber & 7) << 3) | (Math.log2(memory.scale ?? 1) << 6);
  const rexIndex = (indexNumber >> 3) << 1;
  if (base === undefined) {
    // SIB without base: base 101 under mod 00. Plain ModRM 00/101 would be relative to rip.
    return {
      modrm: 0x04,
      rex: rexIndex,
      forceRex: false,
      rest: [sibIndex | 5, ...bytesOf(displacement)],
      relative: false,
    };
  }
  const baseNumber = partOf(base).number;
  const mode = displacementMode(base, displacement);
  const shown = mode === 0 ? [] : mode === 0x40 ? [displacement & 0xff] : bytesOf(displacement);
  // rsp and r12 as a base take a SIB byte: their number in ModRM.rm announces one.
  const hasSib = index !== undefined || (baseNumber & 7) === 4;
  return {
    modrm: mode | (hasSib ? 4 : baseNumber & 7),
    rex: rexIndex | (baseNumber >> 3),
    forceRex: false,
    rest: hasSib ? [sibIndex | (baseNumber & 7), ...shown] : shown,
    relative: false,
  };
}

/** rbp and r13 as a base have no form without displacement: ModRM 00/101 is relative to rip. */
function displacementMode(base: Register64, displacement: number): number {
  if (displacement === 0 && (partOf(base).number & 7) !== 5) return 0;
  return displacement >= -128 && displacement <= 127 ? 0x40 : 0x80;
}

/** The four low bytes of a number, lowest first. */
function bytesOf(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];
}

/** The `count` low bytes of a number, lowest first. */
export function littleEndian(value: Immediate, count: number): Uint8Array {
  // What fits 32 bits is the rule, and bigints cost ten times as much.
  if (typeof value === 'number' && (value | 0) === value && count <= 4) {
    return Uint8Array.of(value, value >> 8, value >> 16, value >> 24).subarray(0, count);
  }
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, BigInt.asIntN(64, BigInt(value)), true);
  return bytes.subarray(0, count);
}

/**
 * An immediate as the signed number that an operand of `width` bytes holds. Signed and unsigned
 * spellings are both taken, but an instruction of 64 bits extends 32 with their sign.
 * @throws RangeError when it does not fit.
 */
export function signedImmediate(value: Immediate, width: Width): number {
  if (typeof value === 'number' && (value | 0) === value && width >= 4) return value;
  const wide = BigInt(value);
  const bits = width * 8;
  const fits =
    width === 8
      ? BigInt.asIntN(32, BigInt.asIntN(64, wide)) === BigInt.asIntN(64, wide) && fits64(wide)
      : wide >= -(1n << BigInt(bits - 1)) && wide < 1n << BigInt(bits);
  if (!fits) throw new RangeError(`immediate does not fit ${bits} bits: ${wide}`);
  return Number(BigInt.asIntN(bits, wide));
}

function fits64(value: bigint): boolean {
  return value >= -(1n << 63n) && value < 1n << 64n;
}
