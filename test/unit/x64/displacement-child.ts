/**
 * Runs code of libc and random code in its place and displaced, in a process of its own: a wrong byte may end
 * it. Writes what it runs to a file first, and what came of it all to standard output.
 *
 *   node displacement-child.js PROGRESS-FILE SEED PART…    PART: crafted, entries, windows=FUNCTIONS, random=BLOCKS
 */

import { openSync, readFileSync, writeSync } from 'node:fs';
import { allFunctions } from '../../harness/functions.ts';
import { Random } from '../../harness/random.ts';
import { address, hex } from '../../../src/base/brand.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { decodeAll, type DecodedInstruction } from '../../../src/x64/decode.ts';
import { iced, visitInstructions, type Iced } from '../../../src/x64/iced.ts';
import { CRAFTED } from './crafted-blocks.ts';
import { Difference, Displacement } from './displacement.ts';
import { mapLibrary } from './library-image.ts';
import { gnuAssemble } from './oracles.ts';

const LIBC = '/lib/x86_64-linux-gnu/libc.so.6';
const BASE = 0x2_0000_0000n;
const JUMP_BYTES = 5;
/** Bytes behind a function that its last windows may take in: padding, or the next function. */
const BEHIND = 32;
const STATES = 4;
/** Random displacements up to here lead from a small number or the arena to nothing of ours. */
const REACH = 0x8000n;

/** What is written to standard output, as JSON. */
export interface Report {
  /** For each part: how many blocks came to each verdict. */
  readonly verdicts: Record<string, Record<string, number>>;
  readonly differences: string[];
}

const [progressPath, seed, ...parts] = process.argv.slice(2);
if (progressPath === undefined) throw new Error('a progress file is needed');
const progress = openSync(progressPath, 'w');
const random = new Random(Number(seed));
const elf = ElfFile.open(new Uint8Array(readFileSync(LIBC)), LIBC);
const image = mapLibrary(elf, BASE, random);
const displacement = new Displacement(image, random);
const report: Report = { verdicts: {}, differences: [] };

function compare(part: string, bytes: Uint8Array, at: bigint, states = STATES): void {
  const line = `${part} ${hex(at - BASE)} ${Buffer.from(bytes).toString('hex')}`;
  writeSync(progress, line.padEnd(120), 0);
  const counts = (report.verdicts[part] ??= {});
  const count = (verdict: string): void => void (counts[verdict] = (counts[verdict] ?? 0) + 1);
  try {
    count(displacement.compare(bytes, address(at), states));
  } catch (error) {
    if (!(error instanceof Difference)) throw error;
    count('different');
    if (report.differences.length < 10) report.differences.push(`${line}\n${error.message}`);
  }
}

/** The code from a function's start on, and its instructions, as far as they are whole. */
function decodeFunction(start: number, end: number): [Uint8Array, bigint, DecodedInstruction[]] {
  const segment = elf.loads.segmentAtOffset(start);
  if (segment === undefined) throw new Error('a function lies in a segment');
  const last = Math.min(end + BEHIND, segment.offset + segment.fileSize);
  const at = BASE + BigInt(segment.address + start - segment.offset);
  const bytes = elf.bytes.subarray(start, last);
  return [bytes, at, decodeAll(bytes, address(at))];
}

/** The window that starts with the instruction number `first`. */
function windowAt(
  instructions: readonly DecodedInstruction[],
  first: number,
): { readonly offset: number; readonly length: number } | undefined {
  const [start] = instructions;
  const from = instructions[first];
  if (start === undefined || from === undefined) return undefined;
  let length = 0;
  for (let next = first; length < JUMP_BYTES; next++) {
    const instruction = instructions[next];
    if (instruction === undefined) return undefined;
    length += instruction.length;
  }
  return { offset: Number(from.address - start.address), length };
}

function runWindows(part: string, count: (own: number) => number, every: number): void {
  allFunctions(elf).forEach(({ start, end }, nth) => {
    if (nth % every !== 0) return;
    const [bytes, at, instructions] = decodeFunction(start, end);
    const own = instructions.filter((one) => one.address < at + BigInt(end - start)).length;
    for (let first = 0; first < count(own); first++) {
      const window = windowAt(instructions, first);
      if (window === undefined) throw new Error(`no window at ${hex(at)}`);
      const { offset, length } = window;
      compare(part, bytes.slice(offset, offset + length), at + BigInt(offset));
    }
  });
}

/** Each several times, for both outcomes of its branches. */
function runCrafted(): void {
  const from = image.textAddress + 0x80000n;
  for (const source of CRAFTED) compare('crafted', new Uint8Array(gnuAssemble(source)), from, 64);
}

/** Whole instructions of random bytes, in the middle of the text. */
function runRandom(blocks: number): void {
  const from = address(image.textAddress + 0x80000n);
  for (let block = 0; block < blocks;) {
    const bytes = Uint8Array.from({ length: 24 }, () => random.below(256));
    const length = lengthOf(bytes, from, 1 + random.below(4));
    if (length === 0) continue;
    block++;
    compare('random', bytes.slice(0, length), from);
  }
}

/**
 * The bytes of up to `wanted` instructions, up to the first that could reach this process's own memory: that has a
 * large displacement, or uses memory or the stack after others may have made any number of a register.
 */
function lengthOf(bytes: Uint8Array, from: bigint, wanted: number): number {
  let [length, left] = [0, wanted];
  let mayTouch = true;
  visitInstructions(bytes, from, (instruction) => {
    const isRelative = instruction.isIpRelMemoryOperand;
    const touches = touchesMemory(instruction) && !isRelative;
    const bits = instruction.memoryDisplSize === 4 ? 32 : 64;
    const reach = BigInt.asIntN(bits, instruction.memoryDisplacement);
    const isFar = !isRelative && (reach > REACH || reach < -REACH);
    if (instruction.isInvalid || isFar || (touches && !mayTouch)) return false;
    mayTouch = false;
    length += instruction.length;
    return --left > 0;
  });
  return length;
}

function touchesMemory(instruction: Iced.Instruction): boolean {
  const { OpKind } = iced();
  if (instruction.isStackInstruction) return true;
  for (let operand = 0; operand < instruction.opCount; operand++) {
    const kind = instruction.opKind(operand);
    // The kinds from here on are memory: of string instructions, and any other.
    if (kind >= OpKind.MemorySegSI) return true;
  }
  return false;
}

for (const part of parts) {
  const [name, value] = part.split('=');
  if (name === 'crafted') runCrafted();
  else if (name === 'entries') runWindows(name, () => 1, 1);
  else if (name === 'windows') runWindows(name, (own) => own, Number(value));
  else runRandom(Number(value));
}
process.stdout.write(JSON.stringify(report));
