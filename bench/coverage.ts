/**
 * How many places of real programs can be probed, and by which method: each place by itself, planned by the
 * planner, and placed by the same code that places it in a target, in a model of a process.
 */

import { readFileSync } from 'node:fs';

import { address, fileOffset, type FileOffset } from '../src/base/brand.ts';
import { TraplineError } from '../src/base/errors.ts';
import { ControlBlock } from '../src/engines/jump/block.ts';
import { CodeSpace } from '../src/engines/jump/code-space.ts';
import { PatchMap } from '../src/engines/jump/patches.ts';
import { placeSite } from '../src/engines/jump/place-site.ts';
import { Planner, type SitePlan } from '../src/engines/jump/planner.ts';
import { ElfFile } from '../src/symbols/elf.ts';
import { SymbolTable } from '../src/symbols/symbol-table.ts';
import { unnamedFunctions } from '../src/symbols/unnamed-functions.ts';
import { baseFiles } from './coverage-files.ts';
import { spaceWith, textAround, type ModelSpace } from './coverage-space.ts';
import { Tally } from './coverage-tally.ts';
import { unknownCode, type UnknownCode } from './coverage-unknown.ts';
import type { Row } from './rows.ts';

/** Of a sample: each how manieth function of all. */
const SAMPLED_FUNCTION = 40;
/** Places that are planned at once: the text is searched once for each batch, and plans take memory. */
const BATCH = 40_000;

/** What is counted. */
export interface CoverageRequest {
  /** Paths; a Debian base where none is given. */
  readonly files: readonly string[];
  /** All functions, not a sample. */
  readonly isWhole: boolean;
}

/** Counts places. A figure is one of all files together. */
export async function measureCoverage({ files, isWhole }: CoverageRequest): Promise<Row[]> {
  const step = isWhole || files.length > 0 ? 1 : SAMPLED_FUNCTION;
  const entries = new Tally();
  const instructions = new Tally();
  const unknown: UnknownCode[] = [];
  const began = performance.now();
  let functions = 0;
  const all = files.length > 0 ? files : baseFiles();
  for (const [index, path] of all.entries()) {
    const counted = await new FileCoverage(path).count(step, functions);
    functions += counted.functions;
    entries.add(counted.entries);
    instructions.add(counted.instructions);
    if (counted.unknown !== undefined) unknown.push(counted.unknown);
    const seconds = ((performance.now() - began) / 1000).toFixed(0);
    process.stderr.write(
      `${seconds} s, ${index + 1} of ${all.length}: ${path}: ` +
        `entries ${counted.entries.summary()}; instructions ${counted.instructions.summary()}\n`,
    );
  }
  const of = `${all.length} files${step === 1 ? '' : `, each ${step}th function`}`;
  return [
    ...entries.rows(`Coverage: entries of functions, ${of}`, 'entries', 0.5),
    ...instructions.rows(`Coverage: all instructions, ${of}`, 'instructions', 3),
    ...unknownRows(unknown),
  ];
}

function unknownRows(files: readonly UnknownCode[]): Row[] {
  if (files.length === 0) return [];
  const group = 'Coverage: code of which no instructions are known';
  const sum = (what: keyof UnknownCode): number =>
    files.reduce((bytes, file) => bytes + file[what], 0);
  const row = (name: string, bytes: number): Row => {
    return { group, name, unit: 'bytes', values: [bytes] };
  };
  return [
    row('all code', sum('all')),
    row('no function is known there', sum('outside')),
    row("behind a function's first bytes that are no instruction", sum('undecoded')),
  ];
}

interface Counted {
  /** All of the file. */
  readonly functions: number;
  readonly entries: Tally;
  readonly instructions: Tally;
  /** Where all functions are counted. */
  readonly unknown: UnknownCode | undefined;
}

class FileCoverage {
  readonly #elf: ElfFile;
  readonly #planner: Planner;

  constructor(path: string) {
    this.#elf = ElfFile.open(readFileSync(path), path);
    this.#planner = new Planner(this.#elf);
  }

  /** @param before functions of the files before, for an even sample of all */
  async count(step: number, before: number): Promise<Counted> {
    const space = await spaceWith(this.#elf);
    const functions = this.#functions();
    const first = (step - (before % step)) % step;
    const some = functions.filter((_, index) => index % step === first);
    const entries = new Tally();
    const instructions = new Tally();
    for (let at = 0; at < some.length; at += BATCH) {
      this.#plan(some.slice(at, at + BATCH), space, entries);
    }
    for (const batch of this.#instructions(some)) this.#plan(batch, space, instructions);
    const unknown = step === 1 ? unknownCode(this.#elf, this.#planner) : undefined;
    return { functions: functions.length, entries, instructions, unknown };
  }

  #functions(): FileOffset[] {
    // Names are not asked for.
    const table = SymbolTable.of(this.#elf, { demangle: () => undefined });
    const named = table.functions().toSorted((a, b) => a.offset - b.offset);
    const unnamed = unnamedFunctions(this.#elf, named);
    const offsets = new Set([...named, ...unnamed].map(({ offset }) => offset));
    return [...offsets].sort((a, b) => a - b);
  }

  /** Each instruction once: functions may share some. */
  *#instructions(functions: readonly FileOffset[]): Generator<FileOffset[]> {
    const seen = new Uint8Array(this.#elf.bytes.byteLength);
    let batch: FileOffset[] = [];
    for (const offset of functions) {
      for (const at of this.#planner.boundaries(offset)) {
        if (seen[at] === 1) continue;
        seen[at] = 1;
        batch.push(fileOffset(at));
      }
      if (batch.length < BATCH) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  }

  #plan(offsets: readonly FileOffset[], space: ModelSpace, tally: Tally): void {
    for (const plan of this.#planner.plan(offsets)) {
      const outcome = plan.kind === 'refused' ? plan.reason : place(plan, space);
      if (typeof outcome === 'string') tally.refused(outcome);
      else tally.served(outcome.method);
    }
  }
}

/** The method by which a place is probed that is the only one, or why there is none. */
export function place(plan: SitePlan, space: ModelSpace): { readonly method: string } | string {
  const [best] = plan.ways;
  // They need memory near the text and nothing else, and the model has it.
  if (best?.method === 'nop' || best?.method === 'jump') return best;
  const at = address(plan.address + space.base);
  const text = textAround(space, at);
  const around = {
    space: new CodeSpace(space.maps, ControlBlock.empty()),
    live: new PatchMap(),
    all: new PatchMap(),
    paddings: new Set<never>(),
    original: () => undefined, // asked for puns that are there
  };
  try {
    const placed = placeSite({ plan, ways: plan.ways, address: at, text, left: 1 }, around);
    if (typeof placed === 'string') return `${placed} (${bytesOf(plan)} of it may be written)`;
    const { way, springboard } = placed;
    return { method: springboard === undefined ? way.method : `${way.method}, by a springboard` };
  } catch (error) {
    if (error instanceof TraplineError) return error.message;
    throw error;
  }
}

/** How many bytes the last way may write. */
function bytesOf({ ways }: SitePlan): string {
  const bytes = ways.at(-1)?.patchBytes;
  return bytes === 1 ? '1 byte' : `${bytes} bytes`;
}
