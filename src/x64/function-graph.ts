/** A function as instructions with their predecessors: for questions asked backwards from a jump. */

import { neverGoesOn, type Flow } from './decode.ts';
import {
  describe,
  mayNameAddress,
  takeAddresses,
  type GraphInstruction,
} from './graph-instruction.ts';
import type { HiddenJump } from './hidden-jumps.ts';
import { iced, type Iced } from './iced.ts';
import type { Listing } from './listing.ts';

/** An indirect jump is known to lead there. */
const ENTERED = 1;
/** It was asked from where control comes there. */
const LOOKED = 2;

/**
 * The graph of a function that decodes to its end. What its instructions do is worked out for those that are asked
 * about: few, as a rule. Holds memory of the decoder's; whoever makes one disposes it.
 */
export class FunctionGraph implements Disposable {
  /** Every constant of the function that may be an address, and so the base of a table. */
  readonly taken: readonly bigint[];
  readonly #listing: Listing;
  /** By position, for those that branches go to: from which positions, in ascending order. */
  readonly #branches: ReadonlyMap<number, readonly number[]>;
  readonly #indirect: readonly number[];
  /** By position: {@link ENTERED}, {@link LOOKED}. */
  readonly #marks: Uint8Array;
  readonly #hidden: ReadonlyMap<number, HiddenJump>;
  readonly #described: (GraphInstruction | undefined)[] = [];
  readonly #decoder: Iced.Decoder;
  readonly #instruction: Iced.Instruction;
  readonly #factory: Iced.InstructionInfoFactory;

  /**
   * @param listing of a clean function
   * @param indirect the positions of its indirect jumps
   * @param hidden those of them that are none by their opcode
   */
  constructor(
    listing: Listing,
    indirect: readonly number[],
    hidden: ReadonlyMap<number, HiddenJump>,
  ) {
    const { Decoder, DecoderOptions, Instruction, InstructionInfoFactory } = iced();
    this.#listing = listing;
    this.#branches = branchesOf(listing);
    this.#indirect = indirect;
    this.#marks = new Uint8Array(listing.count);
    this.#hidden = hidden;
    this.#decoder = new Decoder(64, listing.code, DecoderOptions.None);
    this.#instruction = new Instruction();
    this.#factory = new InstructionInfoFactory();
    this.taken = this.#takenAddresses();
  }

  /** How many instructions there are. */
  get count(): number {
    return this.#listing.count;
  }

  /** Where control goes after an instruction; `invalid` for a position behind the last. */
  flowAt(position: number): Flow {
    const flow = this.#listing.flowAt(position);
    // A retpoline's call never comes back.
    return flow === 'call' && this.#hidden.has(position) ? 'indirect-jump' : flow;
  }

  /** Where the instruction at a position lies. */
  addressOf(position: number): bigint {
    return this.#listing.address + BigInt(this.#listing.starts[position] ?? 0);
  }

  /** Whether one of the function's instructions begins at an address. */
  begins(at: bigint): boolean {
    return this.#listing.positionOf(Number(at - this.#listing.address)) >= 0;
  }

  /** Of an indirect jump that is none by its opcode: what says where it goes. */
  hiddenAt(position: number): HiddenJump | undefined {
    return this.#hidden.get(position);
  }

  /** Whether an instruction, if it leads to another one, jumps there by a register, which then holds its address. */
  jumpsBy(position: number, register: number, goal: number): boolean {
    // Else it stands for whatever leads there.
    if (((this.#marks[goal] ?? 0) & ENTERED) === 0) return false;
    const flow = this.flowAt(position);
    const hidden = this.#hidden.get(position);
    if (flow !== 'indirect-jump' && hidden === undefined) return false;
    if (goal === position + 1 && !neverGoesOn(flow)) return false;
    if (hidden !== undefined) return hidden.at === position && hidden.register === register;
    const jump = this.at(position);
    return jump?.memory === undefined && jump?.first === register;
  }

  /**
   * The positions from which control can come to an instruction: all indirect jumps of the function where one is known to
   * lead there, see {@link enter}, or where nothing else does, as to a case of a switch. The entry may have none at all.
   */
  predecessorsOf(position: number): readonly number[] {
    const mark = this.#marks[position] ?? 0;
    this.#marks[position] = mark | LOOKED;
    const direct = this.#directPredecessors(position);
    if (direct.length === 0 && position > 0) return this.#indirect;
    return (mark & ENTERED) === 0 ? direct : [...direct, ...this.#indirect];
  }

  /** Those that branch there, or come from before, in ascending order. */
  #directPredecessors(position: number): readonly number[] {
    const branches = this.#branches.get(position) ?? [];
    const before = position - 1;
    if (before < 0 || neverGoesOn(this.flowAt(before))) return branches;
    const next = branches.findIndex((from) => from > before);
    return next < 0 ? [...branches, before] : branches.toSpliced(next, 0, before);
  }

  /**
   * Takes it that an indirect jump of the function may lead to an address.
   * @returns whether {@link predecessorsOf} has said less of it before
   */
  enter(at: bigint): boolean {
    const position = this.#listing.positionOf(Number(at - this.#listing.address));
    const mark = this.#marks[position];
    // Among its instructions, but at none: an entry by chance.
    if (mark === undefined || (mark & ENTERED) !== 0) return false;
    this.#marks[position] = mark | ENTERED;
    if ((mark & LOOKED) === 0) return false;
    return position === 0 || this.#directPredecessors(position).length > 0;
  }

  /** What an instruction does; undefined for a position behind the last. */
  at(position: number): GraphInstruction | undefined {
    const known = this.#described[position];
    if (known !== undefined || position >= this.count) return known;
    this.#decode(position);
    const flow = this.flowAt(position);
    const described = { ...describe(this.#instruction, this.#factory), flow };
    this.#described[position] = described;
    return described;
  }

  [Symbol.dispose](): void {
    this.#factory.free();
    this.#instruction.free();
    this.#decoder.free();
  }

  #decode(position: number): void {
    const offset = this.#listing.starts[position] ?? 0;
    this.#decoder.position = offset;
    this.#decoder.ip = this.#listing.address + BigInt(offset);
    this.#decoder.decodeOut(this.#instruction);
  }

  #takenAddresses(): bigint[] {
    const taken = new Set<bigint>();
    for (let position = 0; position < this.count; position++) {
      if (!mayNameAddress(this.#listing, position)) continue;
      this.#decode(position);
      takeAddresses(this.#instruction, taken);
    }
    return [...taken];
  }
}

function branchesOf(listing: Listing): Map<number, number[]> {
  const branches = new Map<number, number[]>();
  for (let position = 0; position < listing.count; position++) {
    const flow = listing.flowAt(position);
    const target =
      flow === 'jump' || flow === 'conditional' ? listing.targetAt(position) : undefined;
    const goal = target === undefined ? -1 : listing.positionOf(target);
    if (goal < 0) continue;
    const known = branches.get(goal);
    if (known === undefined) branches.set(goal, [position]);
    else known.push(position);
  }
  return branches;
}
