/**
 * What a seccomp filter answers to a system call: an evaluator of the classic BPF that
 * seccomp(2) takes (kernel/seccomp.c, seccomp_check_filter; linux/bpf_common.h). Jumps only lead forwards,
 * so every program ends.
 */

import { TraplineError } from '../base/errors.ts';

/** A system call as a filter sees it (struct seccomp_data). */
export interface FilteredCall {
  readonly number: number;
  /** Six at most; absent ones are 0. */
  readonly arguments: readonly bigint[];
}

/** The actions that let a call through: SECCOMP_RET_ALLOW and SECCOMP_RET_LOG. */
const PASSING: ReadonlySet<number> = new Set([0x7fff_0000, 0x7ffc_0000]);
const ACTION_MASK = 0xffff_0000;
/** AUDIT_ARCH_X86_64: EM_X86_64, 64 bits, little-endian. */
const ARCHITECTURE = 0xc000_003e;
const INSTRUCTION_BYTES = 8;
const DATA_BYTES = 64;
const MEMORY_WORDS = 16;

/** Whether a filter lets a call through untouched: not an error in its place, not a trap, not a death. */
export function passes(filter: Uint8Array, call: FilteredCall): boolean {
  return PASSING.has((evaluate(filter, call) & ACTION_MASK) >>> 0);
}

/**
 * Runs a filter.
 * @param filter struct sock_filter after struct sock_filter, 8 bytes each
 * @returns its answer, an action with data
 * @throws TraplineError `bad-input` for a program that the kernel would not have taken
 */
export function evaluate(filter: Uint8Array, call: FilteredCall): number {
  return new Machine(filter, call).run();
}

class Machine {
  readonly #program: DataView;
  readonly #data = new DataView(new ArrayBuffer(DATA_BYTES));
  readonly #memory = new Uint32Array(MEMORY_WORDS);
  #a = 0;
  #x = 0;

  constructor(filter: Uint8Array, call: FilteredCall) {
    this.#program = new DataView(filter.buffer, filter.byteOffset, filter.byteLength);
    this.#data.setUint32(0, call.number, true);
    this.#data.setUint32(4, ARCHITECTURE, true);
    call.arguments.forEach((value, index) => {
      this.#data.setBigUint64(16 + index * 8, BigInt.asUintN(64, value), true);
    });
  }

  run(): number {
    const count = Math.floor(this.#program.byteLength / INSTRUCTION_BYTES);
    for (let at = 0; at < count; at++) {
      const place = at * INSTRUCTION_BYTES;
      const code = this.#program.getUint16(place, true);
      const k = this.#program.getUint32(place + 4, true);
      switch (code & 0x07) {
        case 0x00: // BPF_LD
          this.#a = this.#load(code, k);
          break;
        case 0x01: // BPF_LDX
          this.#x = this.#load(code, k);
          break;
        case 0x02: // BPF_ST
          this.#memory[k % MEMORY_WORDS] = this.#a;
          break;
        case 0x03: // BPF_STX
          this.#memory[k % MEMORY_WORDS] = this.#x;
          break;
        case 0x04: // BPF_ALU
          this.#a = arithmetic(code, this.#a, (code & 0x08) === 0 ? k : this.#x);
          break;
        case 0x05: // BPF_JMP
          at += this.#jump(code, k, place);
          break;
        case 0x06: // BPF_RET
          return (code & 0x18) === 0x10 ? this.#a : k;
        default: // BPF_MISC: TAX, TXA
          if ((code & 0x80) === 0) this.#x = this.#a;
          else this.#a = this.#x;
      }
    }
    throw malformed('it does not end');
  }

  #load(code: number, k: number): number {
    switch (code & 0xe0) {
      case 0x00: // BPF_IMM
        return k;
      case 0x20: // BPF_ABS: only whole aligned words of the data
        if (k % 4 !== 0 || k + 4 > DATA_BYTES) throw malformed(`it reads at ${k}`);
        return this.#data.getUint32(k, true);
      case 0x60: // BPF_MEM
        return this.#memory[k % MEMORY_WORDS] ?? 0;
      case 0x80: // BPF_LEN
        return DATA_BYTES;
      default:
        throw malformed(`it has the code ${code}`);
    }
  }

  #jump(code: number, k: number, place: number): number {
    const operand = (code & 0x08) === 0 ? k : this.#x;
    const taken = this.#program.getUint8(place + 2);
    const other = this.#program.getUint8(place + 3);
    switch (code & 0xf0) {
      case 0x00:
        return k;
      case 0x10:
        return this.#a === operand ? taken : other;
      case 0x20:
        return this.#a > operand ? taken : other;
      case 0x30:
        return this.#a >= operand ? taken : other;
      case 0x40:
        return (this.#a & operand) !== 0 ? taken : other;
      default:
        throw malformed(`it has the code ${code}`);
    }
  }
}

function arithmetic(code: number, a: number, operand: number): number {
  switch (code & 0xf0) {
    case 0x00:
      return (a + operand) >>> 0;
    case 0x10:
      return (a - operand) >>> 0;
    case 0x20:
      return Math.imul(a, operand) >>> 0;
    case 0x30:
      return operand === 0 ? 0 : Math.floor(a / operand);
    case 0x40:
      return (a | operand) >>> 0;
    case 0x50:
      return (a & operand) >>> 0;
    case 0x60:
      return operand > 31 ? 0 : (a << operand) >>> 0;
    case 0x70:
      return operand > 31 ? 0 : a >>> operand;
    case 0x80:
      return -a >>> 0;
    case 0xa0:
      return (a ^ operand) >>> 0;
    default:
      throw malformed(`it has the code ${code}`);
  }
}

function malformed(what: string): TraplineError {
  return new TraplineError({
    code: 'bad-input',
    message: `a seccomp filter makes no sense: ${what}`,
  });
}
