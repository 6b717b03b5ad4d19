/** All places of a file: its functions, and the instructions of each; which of them can be probed. */

import { readFileSync } from 'node:fs';

import { address, fileOffset } from '../../src/base/brand.ts';
import { Planner } from '../../src/engines/jump/planner.ts';
import { listFunctions, type ListedFunction, type ProbeRequest } from '../../src/index.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { decodeAll } from '../../src/x64/decode.ts';

/** What the planner says of places. */
export interface Plans {
  readonly accepted: readonly { readonly offset: number }[];
  readonly refused: readonly { readonly offset: number; readonly reason: string }[];
}

/** Every function of a file, with a name or without, by its offset; no entries of the linkage table. */
export async function functionsOf(file: string): Promise<readonly ListedFunction[]> {
  const { functions } = await listFunctions(file, { unnamed: true });
  const byOffset = new Map<number, ListedFunction>();
  for (const one of functions) {
    if (one.kind === 'plt' || one.size === 0) continue;
    const known = byOffset.get(one.offset);
    if (known === undefined || known.size < one.size) byOffset.set(one.offset, one);
  }
  return [...byOffset.values()].toSorted((one, other) => one.offset - other.offset);
}

/** The offsets of all instructions of functions, up to where they can't be decoded. */
export function instructionsOf(file: string, functions: readonly ListedFunction[]): number[] {
  const bytes = readFileSync(file);
  return functions.flatMap(({ offset, size }) => {
    const code = decodeAll(bytes.subarray(offset, offset + size), address(BigInt(offset)));
    return code.filter(({ flow }) => flow !== 'invalid').map((one) => Number(one.address));
  });
}

/** Asks the planner. */
export function plansFor(file: string, offsets: readonly number[]): Plans {
  const planner = new Planner(ElfFile.open(readFileSync(file), file));
  const plans = planner.plan(offsets.map((offset) => fileOffset(offset)));
  return {
    accepted: plans.filter(({ kind }) => kind === 'plan'),
    refused: plans.flatMap((plan) => (plan.kind === 'refused' ? [plan] : [])),
  };
}

/** Counts the hits of places of a file, each by itself. */
export function countingAt(file: string, places: readonly { offset: number }[]): ProbeRequest[] {
  return places.map(({ offset }) => ({
    definition: `p:all/at_${offset.toString(16)} '${file}':0x${offset.toString(16)}`,
    action: 'count',
  }));
}

/** At most so many of a list, evenly spread. */
export function spread<T>(list: readonly T[], count: number): readonly T[] {
  if (list.length <= count) return list;
  return list.filter(
    (_, at) =>
      Math.floor((at * count) / list.length) !== Math.floor(((at - 1) * count) / list.length),
  );
}
