/** The instructions of a function, in arrays: decoded once, they answer all that is asked of where they are and go. */

import type { Address } from '../base/brand.ts';
import { flowOf, isDirect, neverGoesOn, type Flow } from './decode.ts';
import { iced } from './iced.ts';

/** What stands in the array of targets where there is none that fits it. */
const NO_TARGET = -0x8000_0000;
const MAX_TARGET = 0x7fff_ffff;

const FLOWS: readonly Flow[] = [
  'next',
  'jump',
  'conditional',
  'call',
  'indirect-jump',
  'indirect-call',
  'return',
  'system',
  'interrupt',
  'exception',
  'transaction',
  'invalid',
];
const CODES: ReadonlyMap<Flow, number> = new Map(FLOWS.map((flow, code) => [flow, code]));

/**
 * The instructions of a function from its start on, up to its end or the first bytes that are none. A position is an
 * instruction's number; offsets are in bytes from the function's start. Nothing of the decoder's is held.
 */
export class Listing {
  /** Where the function lies. */
  readonly address: Address;
  /** The function's bytes; a view of those that were given. */
  readonly code: Uint8Array;
  /** Where each instruction begins, in ascending order. */
  readonly starts: Uint32Array;
  /** Behind the last instruction. */
  readonly end: number;
  /** Whether the instructions end exactly where the function does. Rule 3 rests on it. */
  readonly isClean: boolean;
  readonly #flows: Uint8Array;
  readonly #targets: Int32Array;
  #firstEnd: number | undefined;

  /**
   * Decodes a function.
   * @param code its bytes, which nobody may change
   * @param size its bytes by those who know its bounds: of one that is cut off, `code` has fewer, and it is not clean
   */
  constructor(code: Uint8Array, address: Address, size: number = code.byteLength) {
    const { count, end } = decode(code, address);
    this.address = address;
    this.code = code;
    this.starts = scratch.starts.slice(0, count);
    this.#flows = scratch.flows.slice(0, count);
    this.#targets = scratch.targets.slice(0, count);
    this.end = end;
    this.isClean = end === size;
  }

  /** How many instructions there are. */
  get count(): number {
    return this.starts.length;
  }

  /** Where control goes after the instruction at a position; `invalid` for a position behind the last. */
  flowAt(position: number): Flow {
    return FLOWS[this.#flows[position] ?? -1] ?? 'invalid';
  }

  /** Where the direct branch at a position goes, as an offset, outside of the function too; undefined beyond 2 GB. */
  targetAt(position: number): number | undefined {
    const target = this.#targets[position];
    return target === NO_TARGET ? undefined : target;
  }

  /** The bytes of the instruction at a position. */
  lengthAt(position: number): number {
    return (this.starts[position + 1] ?? this.end) - (this.starts[position] ?? this.end);
  }

  /** Which instruction holds the byte at an offset; -1 where none does. */
  holderOf(offset: number): number {
    if (offset < 0 || offset >= this.end) return -1;
    let low = 0;
    let high = this.starts.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.starts[middle] ?? Infinity) <= offset) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** Which instruction begins at an offset; -1 where none does. */
  positionOf(offset: number): number {
    const position = this.holderOf(offset);
    return this.starts[position] === offset ? position : -1;
  }

  /**
   * Whether control is not seen to go on behind the instruction at a position: it never does, or calls into its own function,
   * which may be to push the address of data that stand there.
   */
  endsAt(position: number): boolean {
    const flow = this.flowAt(position);
    if (flow !== 'call') return neverGoesOn(flow);
    const goal = this.targetAt(position) ?? 0;
    return goal > 0 && goal < this.code.byteLength && goal !== this.starts[position + 1];
  }

  /** Behind the first instruction of {@link endsAt}; Infinity if there is none. */
  get firstEnd(): number {
    if (this.#firstEnd === undefined) {
      const first = this.#flows.findIndex((_, position) => this.endsAt(position));
      this.#firstEnd = first < 0 ? Infinity : (this.starts[first + 1] ?? this.end);
    }
    return this.#firstEnd;
  }
}

/** What is decoded is written here first: it is not known before how many instructions there are. */
let scratch = arraysOf(1 << 12);

function arraysOf(count: number): { starts: Uint32Array; flows: Uint8Array; targets: Int32Array } {
  return {
    starts: new Uint32Array(count),
    flows: new Uint8Array(count),
    targets: new Int32Array(count),
  };
}

/** One pass of the decoder. It is asked for as little as possible: each question is a call into WebAssembly. */
function decode(code: Uint8Array, address: Address): { count: number; end: number } {
  const { Decoder, DecoderOptions, Instruction } = iced();
  const length = code.byteLength;
  if (scratch.starts.length < length) scratch = arraysOf(2 * length);
  const { starts, flows, targets } = scratch;
  let count = 0;
  let end = 0;
  const decoder = new Decoder(64, code, DecoderOptions.None);
  const instruction = new Instruction();
  try {
    decoder.ip = address;
    while (end < length) {
      decoder.decodeOut(instruction);
      const flow = flowOf(instruction);
      if (flow === 'invalid') break;
      starts[count] = end;
      flows[count] = CODES.get(flow) ?? 0xff;
      targets[count] = isDirect(flow)
        ? distance(instruction.nearBranchTarget - address)
        : NO_TARGET;
      count++;
      end = decoder.position;
    }
  } finally {
    instruction.free();
    decoder.free();
  }
  return { count, end };
}

function distance(wide: bigint): number {
  const narrow = Number(BigInt.asIntN(64, wide));
  return narrow > NO_TARGET && narrow <= MAX_TARGET ? narrow : NO_TARGET;
}
