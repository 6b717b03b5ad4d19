/** One block of instructions, run at its place and displaced, and what differs. */

import type { Random } from '../../harness/random.ts';
import { address, hex, type Address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { decodeAll, format, type DecodedInstruction } from '../../../src/x64/decode.ts';
import { relocate, type Relocated } from '../../../src/x64/relocate.ts';
import { mapRegion, type Region } from './executable.ts';
import type { LibraryImage } from './library-image.ts';
import {
  arenaPointer,
  End,
  FLAGS,
  Processor,
  randomWord,
  RIP,
  RSP,
  stackPointer,
} from './processor.ts';

const INT3 = 0xcc;
const JUMP_BYTES = 5;
const MB = 1n << 20n;
/** From the block to its displaced copy: from 16 MB to 1.9 GB, both ways. */
const DISTANCES = [16n, 300n, 1024n, 1940n].flatMap((distance) => [-distance * MB, distance * MB]);
const FAR_BYTES = 0x4000;
/** CF PF AF ZF SF OF, and DF. */
const STATUS = 0x8d5;
const DIRECTION = 0x400;
const CALL_FAULTED = 'a call that faults has pushed';

/** What came of a block: `same`, or why less than everything was compared, or nothing. */
export type Verdict = string;

/** A difference, told so that it can be repeated and understood. */
export class Difference extends Error {}

/** Blocks that have been run, by verdict. */
export class Displacement {
  readonly #image: LibraryImage;
  readonly #processor: Processor;
  readonly #random: Random;
  readonly #far: readonly Region[];

  constructor(image: LibraryImage, random: Random) {
    this.#image = image;
    this.#random = random;
    this.#processor = new Processor(random);
    for (const bytes of image.data) this.#processor.watch(bytes);
    const page = image.textAddress - (image.textAddress & 0xfffn);
    this.#far = DISTANCES.map((distance) => mapRegion(page + distance, FAR_BYTES));
  }

  /**
   * Runs `bytes`, which are whole instructions, at `from` and displaced, from several states.
   * @throws Difference
   */
  compare(bytes: Uint8Array, from: Address, states: number): Verdict {
    const far = this.#random.pick(this.#far);
    const to = address(far.address + BigInt(this.#random.below(0x1000)));
    const moved = relocate(bytes, from, to);
    if (moved.kind === 'refused') return `refused: ${moved.reason.replaceAll(/ \(.*\)/g, '')}`;
    const block: Block = { bytes, from, to, moved, instructions: decodeAll(bytes, from) };
    const verdict = new Set<string>();
    const runnable = withoutSystemCalls(block);
    if (runnable !== block) verdict.add('compared up to a system call');
    const isVolatileBlock = block.instructions.some((one) => isVolatile(bytes, from, one));
    if (isVolatileBlock) {
      verdict.add('compared but for what the processor or its clock say of themselves');
    }
    let left = 0;
    for (let nth = 0; nth < states; nth++) {
      const ending = this.#runBoth(runnable, far, nth, isVolatileBlock);
      if (ending !== 'left' && ending !== 'faulted') verdict.add(ending);
      if (ending !== 'faulted' && ending !== CALL_FAULTED) left++;
    }
    if (left === 0 && runnable === block) verdict.add('faults from each state');
    return [...verdict].join('; ') || 'same';
  }

  #runBoth(block: Block, far: Region, nth: number, isVolatileBlock: boolean): string {
    const processor = this.#processor;
    const state = this.#newState(nth, block);
    processor.state.set(state);
    processor.state[RIP] = block.from;
    this.#write(block.from, block.bytes);
    processor.run();
    const end = processor.end.slice();
    const vectors = processor.vectors.slice();
    const memory = processor.memory();
    const wasEndless = processor.isEndless;
    this.#displace(block, far);
    processor.run();
    this.#write(block.from, new Uint8Array(block.bytes.byteLength).fill(INT3));
    // Where the timer ends it says nothing.
    if (wasEndless && processor.isEndless) return 'endless both times';
    const inside = home(block, processor.end);
    homeX87(block, processor.vectors);
    const what = isVolatileBlock
      ? differenceOfEnd(end, processor.end, [End.rip, End.rsp, End.signal])
      : (differenceOfEnd(end, processor.end) ??
        (Buffer.compare(vectors, processor.vectors) === 0 ? undefined : 'vector registers') ??
        differenceOfMemory(processor.differs(memory)));
    if (what === undefined) {
      const offset = (end[End.rip] ?? 0n) - block.from;
      return offset >= 0n && offset < block.bytes.byteLength ? 'faulted' : 'left';
    }
    if (isStep(end) || isStep(processor.end)) return 'the code set the trap flag';
    if (inside !== undefined && isCallThatFaulted(inside, end, processor.end)) {
      return CALL_FAULTED;
    }
    throw new Difference(explain(block, state, what, end, processor.end));
  }

  /**
   * Every second state has pointers alone; others anything, some with a stack pointer that is none. Not for calls
   * through pointers: which of two bad ones faults first is not the same displaced. Theirs is away from all
   * other pointers, since a displaced call reads its operand when it has pushed.
   */
  #newState(nth: number, { instructions }: Block): BigUint64Array {
    const random = this.#random;
    const state = new BigUint64Array(this.#processor.state.length);
    const onlyPointers = nth % 2 === 0;
    for (let register = 0; register < FLAGS; register++) {
      state[register] = onlyPointers ? arenaPointer(random) : randomWord(random);
    }
    if (instructions.some(({ flow }) => flow === 'indirect-call'))
      state[RSP] = stackPointer(random);
    else if (onlyPointers || random.below(8) !== 0) state[RSP] = arenaPointer(random);
    const flags = random.below(STATUS + 1) & STATUS;
    state[FLAGS] = BigInt(flags | 2 | (random.below(4) === 0 ? DIRECTION : 0));
    return state;
  }

  #write(at: Address, bytes: Uint8Array): void {
    this.#image.text.set(bytes, Number(at - this.#image.textAddress));
  }

  /** As the engine does it: the jump at the place, the moved instructions, the jump back. */
  #displace(block: Block, far: Region): void {
    const { bytes, from, to, moved } = block;
    const jump = new Assembler(from).jmp(to, 'near').finish();
    const patch = new Uint8Array(bytes.byteLength).fill(INT3);
    if (bytes.byteLength >= JUMP_BYTES) patch.set(jump);
    else this.#processor.state[RIP] = to;
    this.#write(from, patch);
    const back = new Assembler(address(to + BigInt(moved.bytes.byteLength)));
    back.jmp(address(from + BigInt(bytes.byteLength)), 'near');
    far.bytes.fill(INT3);
    far.bytes.set(moved.bytes, Number(to - far.address));
    far.bytes.set(back.finish(), Number(to - far.address) + moved.bytes.byteLength);
  }
}

interface Block {
  readonly bytes: Uint8Array;
  readonly from: Address;
  readonly to: Address;
  readonly moved: Relocated;
  readonly instructions: readonly DecodedInstruction[];
}

/** System calls become `ud2`, at its place and displaced: all before them is compared. */
function withoutSystemCalls(block: Block): Block {
  const calls = block.instructions.flatMap(({ flow }, nth) => (flow === 'system' ? [nth] : []));
  if (calls.length === 0) return block;
  const bytes = block.bytes.slice();
  const displaced = block.moved.bytes.slice();
  for (const nth of calls) {
    const at = Number((block.instructions[nth]?.address ?? 0n) - block.from);
    const map = block.moved.map.find(({ from }) => from === at);
    const last = (block.instructions[nth]?.length ?? 0) - 1;
    if (map === undefined) throw new Error('every instruction is in the map');
    bytes[map.from + last] = 0x0b;
    displaced[map.to + last] = 0x0b;
  }
  return { ...block, bytes, moved: { ...block.moved, bytes: displaced } };
}

/** Whether an instruction says something else each time, or on each processor. */
function isVolatile(
  bytes: Uint8Array,
  from: Address,
  { address: at, length }: DecodedInstruction,
): boolean {
  const offset = Number(at - from);
  // All of them are in the 0F map or C7 F8: others need not be written out.
  if (!bytes.subarray(offset, offset + length).some((byte) => byte === 0x0f || byte === 0xc7)) {
    return false;
  }
  return /^(rdtsc|rdtscp|rdpid|rdrand|rdseed|cpuid|rdpru|xbegin)\b/.test(format(bytes, offset, at));
}

/** Takes addresses in displaced code home; the part of a sequence that a call became, where it ended in one. */
function home(block: Block, end: BigUint64Array): DecodedInstruction | undefined {
  let inside: DecodedInstruction | undefined;
  const { to, from, moved, instructions } = block;
  for (const word of [End.rip, End.address]) {
    const offset = Number((end[word] ?? 0n) - to);
    if (offset < 0 || offset >= moved.bytes.byteLength) continue;
    const nth = moved.map.findLastIndex((entry) => entry.to <= offset);
    const entry = moved.map[nth];
    if (entry === undefined) continue;
    end[word] = from + BigInt(entry.from);
    const there = from + BigInt(entry.from);
    if (entry.to !== offset) inside = instructions.find((one) => one.address === there);
  }
  return inside;
}

/** The x87 unit notes where its last instruction stood (Intel SDM volume 1, 8.1.8). */
function homeX87(block: Block, vectors: Uint8Array): void {
  const view = new DataView(vectors.buffer, vectors.byteOffset);
  const offset = Number(view.getBigUint64(8, true) - block.to);
  const entry = block.moved.map.find(({ to }) => to === offset);
  if (entry !== undefined) view.setBigUint64(8, block.from + BigInt(entry.from), true);
}

function differenceOfEnd(
  one: BigUint64Array,
  other: BigUint64Array,
  words?: readonly number[],
): string | undefined {
  for (let word = 0; word < End.words; word++) {
    if (words !== undefined && !words.includes(word)) continue;
    if (one[word] !== other[word]) {
      return `word ${word} is ${hex(one[word] ?? 0n)} in place, ${hex(other[word] ?? 0n)} displaced`;
    }
  }
  return undefined;
}

function differenceOfMemory(place: readonly [number, number] | undefined): string | undefined {
  return place && `memory ${place[0]} at ${hex(place[1])}`;
}

/**
 * A call through a pointer that can't be read or called faults before it pushes; ours when it has. The
 * signal, its address and the registers are the same but for the pushed word.
 */
function isCallThatFaulted(
  { flow }: DecodedInstruction,
  one: BigUint64Array,
  other: BigUint64Array,
): boolean {
  if (flow !== 'indirect-call') return false;
  const adjusted = other.slice();
  adjusted[End.rsp] = BigInt.asUintN(64, (other[End.rsp] ?? 0n) + 8n);
  return differenceOfEnd(one, adjusted) === undefined;
}

/** A single step, which shows every instruction of ours: SIGTRAP with TRAP_TRACE (uapi/asm-generic/siginfo.h). */
function isStep(end: BigUint64Array): boolean {
  return end[End.signal] === 5n && end[End.code] === 2n;
}

const words = (all: BigUint64Array): string => [...all].map((word) => hex(word)).join(' ');

function explain(
  { bytes, from, to, instructions }: Block,
  state: BigUint64Array,
  what: string,
  ...ends: readonly BigUint64Array[]
): string {
  return [
    what,
    `moved to ${hex(to)}:`,
    ...instructions.map(
      ({ address: at }) => `  ${hex(at)} ${format(bytes, Number(at - from), at)}`,
    ),
    `from the state ${words(state)}`,
    ...ends.map((end) => `it ended as ${words(end)}`),
  ].join('\n');
}
