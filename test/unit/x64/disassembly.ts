/** Code of real files, decoded by us and by objdump, held against each other as it streams by. */

import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { allFunctions } from '../../harness/functions.ts';
import { address } from '../../../src/base/brand.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { decodeAll, type DecodedInstruction } from '../../../src/x64/decode.ts';

/** Bytes of code that objdump is given at once. */
const PIECE_BYTES = 4 << 20;
/** Behind each function, so that the next one is met whatever came before: the longest instruction and one. */
const GAP_BYTES = 16;
const NOP = 0x90;
/** Displacements of 2 GB to both sides stay positive. */
const ORIGIN = 0x1_0000_0000n;

/** An instruction that the two see differently. */
export interface Disagreement {
  /** Its bytes, and some behind it. */
  readonly bytes: Uint8Array;
  readonly ours: DecodedInstruction;
  /** Of objdump: the instruction's text, or undefined where it has none. */
  readonly theirs: string | undefined;
  /** Bytes up to objdump's next instruction. */
  readonly length: number | undefined;
}

/** What {@link compareDecoding} compared. */
export interface Comparison {
  readonly instructions: number;
  readonly functions: number;
  /** Functions in which the decoder met what it takes for no instruction: nothing behind it is a known boundary. */
  readonly unclean: number;
  readonly disagreements: readonly Disagreement[];
}

/** Functions of a file, of which each byte is taken once, up to about `budget` bytes, spread over the whole file. */
function pickFunctions(elf: ElfFile, budget: number): Uint8Array[] {
  const picked: Uint8Array[] = [];
  let covered = 0;
  for (const { start, end } of allFunctions(elf)) {
    if (end <= covered) continue;
    picked.push(elf.bytes.subarray(start, end));
    covered = end;
  }
  const total = picked.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const every = Math.max(1, Math.ceil(total / budget));
  return picked.filter((_, nth) => nth % every === 0);
}

/** Decodes functions of the file at `path` and compares each instruction with objdump's. */
export async function compareDecoding(
  path: string,
  budget: number,
  folder: string,
): Promise<Comparison> {
  const functions = pickFunctions(ElfFile.open(new Uint8Array(readFileSync(path)), path), budget);
  const disagreements: Disagreement[] = [];
  const counts = { instructions: 0, unclean: 0 };
  for (let next = 0; next < functions.length;) {
    const piece: Uint8Array[] = [];
    for (let bytes = 0; next < functions.length && bytes < PIECE_BYTES; next++) {
      const one = functions[next];
      if (one === undefined) break;
      piece.push(one);
      bytes += one.byteLength + GAP_BYTES;
    }
    await comparePiece(piece, join(folder, 'code'), counts, disagreements);
  }
  return { ...counts, functions: functions.length, disagreements };
}

async function comparePiece(
  piece: readonly Uint8Array[],
  file: string,
  counts: { instructions: number; unclean: number },
  disagreements: Disagreement[],
): Promise<void> {
  const length = piece.reduce((sum, { byteLength }) => sum + byteLength + GAP_BYTES, 0);
  const image = new Uint8Array(length).fill(NOP);
  const starts: number[] = [];
  let offset = 0;
  for (const one of piece) {
    image.set(one, offset);
    starts.push(offset);
    offset += one.byteLength + GAP_BYTES;
  }
  writeFileSync(file, image);
  const theirs = objdumpLines(file);
  let line = await theirs.next();
  let isApart = false;
  for (const [nth, start] of starts.entries()) {
    const end = start + (piece[nth]?.byteLength ?? 0);
    for (const ours of decodeAll(image.subarray(start, end), address(ORIGIN + BigInt(start)))) {
      counts.instructions++;
      if (ours.flow === 'invalid') counts.unclean++;
      const at = Number(ours.address - ORIGIN);
      while (!line.done && line.value.at < at) line = await theirs.next();
      const found = line.done === true || line.value.at !== at ? undefined : line.value;
      // Behind an instruction of which each has its own length, until they meet again.
      if (found === undefined && isApart) continue;
      if (found !== undefined) line = await theirs.next();
      const theirLength = found === undefined || line.done ? undefined : line.value.at - at;
      // How many bytes make up what is no instruction is nobody's business.
      const sameLength = theirLength === ours.length || ours.flow === 'invalid';
      isApart &&= found === undefined;
      if (found !== undefined && sameLength && agrees(ours, found.text)) continue;
      isApart = !sameLength;
      const bytes = image.slice(at, at + GAP_BYTES);
      disagreements.push({ bytes, ours, theirs: found?.text, length: theirLength });
    }
  }
  // To the end: only there it shows whether objdump has read all.
  while (line.done !== true) line = await theirs.next();
}

/** Whether objdump's text names the same branch target and the same target of an operand relative to rip. */
export function agrees({ flow, target, ripTarget }: DecodedInstruction, text: string): boolean {
  const comment = text.indexOf('# 0x');
  if (ripTarget === undefined ? comment >= 0 : text.slice(comment + 4) !== ripTarget.toString(16))
    return false;
  if (flow === 'invalid') return text.includes('(bad)');
  if (target === undefined) return !/^(?:\S+ )*(?:j\S+|call|loop\S*|xbegin)\s+0x/.test(text);
  return text.endsWith(` 0x${target.toString(16)}`);
}

interface Line {
  /** Offset into the file. */
  readonly at: number;
  readonly text: string;
}

/** objdump's instructions of a file of bytes, as they come. */
async function* objdumpLines(file: string): AsyncGenerator<Line, undefined> {
  const options = ['-D', '-w', '-z', '-b', 'binary', '-m', 'i386:x86-64', '-M', 'intel'];
  const shown = ['--no-show-raw-insn', `--adjust-vma=0x${ORIGIN.toString(16)}`, file];
  const child = spawn('objdump', [...options, ...shown], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  let rest = '';
  for await (const chunk of child.stdout.setEncoding('latin1')) {
    const lines = `${rest}${chunk}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const colon = line.indexOf(':\t');
      if (colon < 0) continue;
      const at = Number.parseInt(line.slice(0, colon).trim(), 16) - Number(ORIGIN);
      yield { at, text: line.slice(colon + 2).trim() };
    }
  }
  if ((await ended) !== 0) throw new Error(`objdump ended with ${await ended}`);
  return undefined;
}
