/** Code in the making: bytes, labels, and displacements that are filled in at the end. */

import { address, hex, type Address } from '../base/brand.ts';
import { ByteWriter } from '../base/bytes.ts';
import { encodeForm, type Form } from './encoding.ts';
import { Label } from './operands.ts';

/** Where a direct branch may go. */
export type BranchTarget = Label | Address;
/** `near`: always 32 bits. `short`: 8 bits, checked. Absent: short if known to reach, else near. */
export type BranchForm = 'short' | 'near';

/** The recommended nops of 1 to 9 bytes (Intel SDM volume 2, table 4-12). */
const NOPS: readonly (readonly number[])[] = [
  [0x90],
  [0x66, 0x90],
  [0x0f, 0x1f, 0x00],
  [0x0f, 0x1f, 0x40, 0x00],
  [0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
  [0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
  [0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
  [0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/** A displacement field that is filled in when everything is bound. */
interface Fixup {
  readonly at: number;
  readonly width: 1 | 4;
  /** The offset that the displacement counts from: the end of the instruction. */
  readonly from: number;
  readonly target: BranchTarget;
  readonly addend: number;
}

/** Bytes of code at an address, with labels. The mnemonics are added by `Assembler`. */
export class CodeBuffer {
  /** Where the first byte will lie. */
  readonly origin: Address;
  /** Most code is a few moved instructions. */
  readonly #writer = new ByteWriter(64);
  readonly #bound = new Map<Label, number>();
  readonly #fixups: Fixup[] = [];

  constructor(origin: Address) {
    this.origin = origin;
  }

  // Places

  /** A new label, not bound yet. */
  label(name = 'label'): Label {
    return new Label(name);
  }

  /** Binds a label to here; @throws RangeError when it is bound already. */
  bind(label: Label): this {
    if (this.#bound.has(label)) throw new RangeError(`label ${label.name} is bound twice`);
    this.#bound.set(label, this.length);
    return this;
  }

  /** A new label, bound to here. */
  boundLabel(name?: string): Label {
    const label = this.label(name);
    this.bind(label);
    return label;
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#writer.length;
  }

  /** The address of the next byte. */
  here(): Address {
    return address(this.origin + BigInt(this.length));
  }

  /** The address of a label; @throws RangeError when it is not bound. */
  addressOf(label: Label): Address {
    const offset = this.#bound.get(label);
    if (offset === undefined) throw new RangeError(`label ${label.name} is not bound`);
    return address(this.origin + BigInt(offset));
  }

  /**
   * The finished bytes.
   * @throws RangeError when a label is not bound or a displacement does not fit its field.
   */
  finish(): Uint8Array {
    const bytes = this.#writer.finish();
    if (this.#fixups.length === 0) return bytes;
    const view = new DataView(bytes.buffer);
    for (const { at, width, from, target, addend } of this.#fixups) {
      const goal = target instanceof Label ? this.addressOf(target) : target;
      const distance = goal + BigInt(addend) - this.origin - BigInt(from);
      if (BigInt.asIntN(width * 8, distance) !== distance) {
        throw new RangeError(`${hex(goal)} is out of reach at ${hex(this.origin + BigInt(at))}`);
      }
      if (width === 1) view.setInt8(at, Number(distance));
      else view.setInt32(at, Number(distance), true);
    }
    return bytes;
  }

  // Data

  /** Bytes as they are. */
  raw(bytes: Uint8Array | readonly number[]): this {
    this.#writer.raw(bytes);
    return this;
  }

  /** Eight bytes of data. */
  u64(value: bigint): this {
    this.#writer.u64(value);
    return this;
  }

  /** Fills up to a multiple of `bytes`, a power of two, of the address: with nops or with `int3`. */
  align(bytes: number, fill: 'nop' | 'int3' = 'int3'): this {
    const missing = Number((0n - this.here()) & BigInt(bytes - 1));
    return fill === 'nop' ? this.nop(missing) : this.raw(new Uint8Array(missing).fill(0xcc));
  }

  /** Nops of `length` bytes together, in as few instructions as possible; none for 0. */
  nop(length = 1): this {
    for (let left = length; left > 0; left -= NOPS.length) {
      this.raw(NOPS[Math.min(left, NOPS.length) - 1] ?? []);
    }
    return this;
  }

  // For the mnemonics

  /** Writes one instruction with a ModRM byte. */
  protected form(form: Form): this {
    const { bytes, ripField } = encodeForm(form);
    const start = this.length;
    this.raw(bytes);
    if (ripField !== undefined && typeof form.rm !== 'string' && form.rm.target !== undefined) {
      const { target, displacement = 0 } = form.rm;
      // The displacement counts from the end of the instruction, which may lie past an immediate.
      this.#fixups.push({
        at: start + ripField,
        width: 4,
        from: this.length,
        target,
        addend: displacement,
      });
    }
    return this;
  }

  /** Writes a direct branch: its opcode and a displacement. `short` is undefined if there is none. */
  protected branch(
    short: readonly number[] | undefined,
    near: readonly number[],
    target: BranchTarget,
    form: BranchForm | undefined,
  ): this {
    const isShort =
      short !== undefined && (form ?? this.#reach(target, short.length + 1)) === 'short';
    const width = isShort ? 1 : 4;
    this.raw(isShort ? short : near);
    const at = this.length;
    this.raw(new Uint8Array(width));
    this.#fixups.push({ at, width, from: this.length, target, addend: 0 });
    return this;
  }

  /** Labels that are not bound yet are taken to be far: one pass, and no surprise. */
  #reach(target: BranchTarget, shortLength: number): BranchForm {
    if (target instanceof Label && !this.#bound.has(target)) return 'near';
    const goal = target instanceof Label ? this.addressOf(target) : target;
    const distance = goal - this.here() - BigInt(shortLength);
    return BigInt.asIntN(8, distance) === distance ? 'short' : 'near';
  }
}
