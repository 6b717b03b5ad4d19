/** `struct user_regs_struct` of x86-64, as PTRACE_GETREGS fills it. */

/** The fields of `struct user_regs_struct` (arch/x86/include/asm/user_64.h), in order. */
export const registerFields = [
  'r15',
  'r14',
  'r13',
  'r12',
  'rbp',
  'rbx',
  'r11',
  'r10',
  'r9',
  'r8',
  'rax',
  'rcx',
  'rdx',
  'rsi',
  'rdi',
  'origRax',
  'rip',
  'cs',
  'flags',
  'rsp',
  'ss',
  'fsBase',
  'gsBase',
  'ds',
  'es',
  'fs',
  'gs',
] as const;

/** The name of one register in {@link Registers}. */
export type RegisterField = (typeof registerFields)[number];

// In the order of registerFields, of which every RegisterField is a member.
const indexes = Object.fromEntries(registerFields.map((name, index) => [name, index])) as Record<
  RegisterField,
  number
>;

/** The general registers of a task; unsigned 64-bit values by name. */
export class Registers {
  readonly #words: BigUint64Array = new BigUint64Array(registerFields.length);

  /** The words as the kernel reads and writes them; shared, not a copy. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.#words.buffer);
  }

  get(name: RegisterField): bigint {
    return this.#words[indexes[name]] ?? 0n;
  }

  /** The same 64 bits, signed: for results and for `origRax`, which is -1 outside a system call. */
  signed(name: RegisterField): bigint {
    return BigInt.asIntN(64, this.get(name));
  }

  /** Sets one register; values outside 64 bits wrap. Returns itself. */
  set(name: RegisterField, value: bigint): this {
    this.#words[indexes[name]] = BigInt.asUintN(64, value);
    return this;
  }

  copy(): Registers {
    const other = new Registers();
    other.#words.set(this.#words);
    return other;
  }

  equals(other: Registers): boolean {
    return this.#words.every((word, index) => word === other.#words[index]);
  }
}
