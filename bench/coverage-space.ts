/**
 * The memory of a process that has a file in it, as the kernel would lay it out: the mappings of a real process,
 * in which the file stands for its program, or is one library more. Nothing of the file is executed.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { address, pid as brandPid, type Address } from '../src/base/brand.ts';
import { pageDown, pageUp } from '../src/base/page.ts';
import { asMapping, readMaps, type MemoryMapping } from '../src/process/maps.ts';
import type { ElfFile } from '../src/symbols/elf.ts';

/** A process's memory. */
export interface ModelSpace {
  /** In order. */
  readonly maps: readonly MemoryMapping[];
  /** What is added to the file's own addresses. */
  readonly base: bigint;
}

const PROGRAM = '/bin/cat';

/** A new process each time: the kernel puts each elsewhere. */
export async function spaceWith(elf: ElfFile): Promise<ModelSpace> {
  const maps = await readRealMaps();
  const isFixed = elf.type === 'fixed';
  const isProgram = isFixed || !elf.liesAmongLibraries;
  const own = maps.slice(
    0,
    maps.findIndex(({ path }) => path === '[heap]'),
  );
  const others = maps.slice(own.length);
  const { start: lowest, end: highest } = extentOf(elf);
  if (!isProgram) {
    const first = others.find(({ path }) => path !== '[heap]');
    const base = (first?.start ?? 0n) - highest;
    return { maps: inOrder([...maps, ...mappingsOf(elf, base)]), base };
  }
  const base = isFixed ? 0n : (own[0]?.start ?? 0n) - lowest;
  // The heap begins at random behind the program: so far behind this one, too.
  const moved = base + highest - (own.at(-1)?.end ?? 0n);
  const rest = others.map((mapping) => {
    if (mapping.path !== '[heap]') return mapping;
    const { start, end } = mapping;
    return { ...mapping, start: address(start + moved), end: address(end + moved) };
  });
  return { maps: inOrder([...mappingsOf(elf, base), ...rest]), base };
}

async function readRealMaps(): Promise<MemoryMapping[]> {
  const child = spawn(PROGRAM, { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    // When it answers, all that it needs is loaded.
    child.stdin.write('\n');
    await once(child.stdout, 'data');
    if (child.pid === undefined) throw new Error(`${PROGRAM} did not start`);
    return readMaps(brandPid(child.pid));
  } finally {
    child.stdin.end();
    await once(child, 'exit');
  }
}

function extentOf(elf: ElfFile): { start: bigint; end: bigint } {
  const { segments } = elf.loads;
  const start = Math.min(...segments.map((segment) => segment.address));
  const end = Math.max(...segments.map((segment) => segment.address + segment.memorySize));
  return { start: pageDown(BigInt(start)), end: pageUp(BigInt(end)) };
}

function mappingsOf(elf: ElfFile, base: bigint): MemoryMapping[] {
  return elf.loads.segments.map((segment) => {
    const start = pageDown(base + BigInt(segment.address));
    const end = pageUp(base + BigInt(segment.address + segment.memorySize));
    const { executable } = segment;
    return { ...asMapping(address(start), Number(end - start)), executable, path: elf.name };
  });
}

function inOrder(maps: readonly MemoryMapping[]): MemoryMapping[] {
  return maps.toSorted((a, b) => (a.start < b.start ? -1 : 1));
}

/** The executable mapping around an address. @throws Error where there is none. */
export function textAround({ maps }: ModelSpace, at: Address): MemoryMapping {
  const text = maps.find(({ start, end, executable }) => executable && at >= start && at < end);
  if (text === undefined) throw new Error(`nothing executable is at 0x${at.toString(16)}`);
  return text;
}
