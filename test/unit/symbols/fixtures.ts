/** Programs and libraries that the compiler makes for the tests of this folder. */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { ElfFile } from '../../../src/symbols/elf.ts';
import type { Demangler } from '../../../src/symbols/demangle.ts';

let folder: string | undefined;

function temporaryFolder(): string {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'trapline-symbols-'));
    process.on('exit', () => rmSync(made, { recursive: true, force: true }));
    folder = made;
  }
  return folder;
}

/** The output of a program, which must succeed. */
export function run(command: string, args: readonly string[], input?: string): string {
  return execFileSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(input === undefined ? {} : { input }),
  });
}

/** `false` when all tools are there, else the reason to skip a test. */
export function without(...tools: readonly string[]): string | false {
  const missing = tools.filter((tool) => {
    const folders = (process.env['PATH'] ?? '').split(':');
    return !folders.some((one) => existsSync(join(one, tool)));
  });
  return missing.length === 0 ? false : `not installed: ${missing.join(', ')}`;
}

/** Compiles `source` (the name's ending tells the language) and returns the path of the result. */
export function compile(name: string, source: string, options: readonly string[]): string {
  const input = join(temporaryFolder(), name);
  const output = `${input}.${options.join('').replace(/\W+/g, '_').slice(0, 100)}.out`;
  writeFileSync(input, source);
  const compiler = name.endsWith('.rs') ? 'rustc' : name.endsWith('.cc') ? 'g++' : 'gcc';
  run(compiler, [...options, '-o', output, input]);
  return output;
}

/** A file next to the fixtures. */
export function write(name: string, content: string | Uint8Array): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content);
  return path;
}

/** Opens the ELF file at a path. */
export function openElf(path: string): ElfFile {
  return ElfFile.open(readFileSync(path), path);
}

/** The same file with its section headers gone, as sstrip leaves it. */
export function withoutSectionHeaders(path: string): ElfFile {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const table = Number(view.getBigUint64(0x28, true));
  view.setBigUint64(0x28, 0n, true);
  view.setUint32(0x3c, 0, true);
  return ElfFile.open(bytes.subarray(0, table), `${path} without sections`);
}

/** Demangles by c++filt, all names of a list at once. */
export function filtDemangler(names: readonly string[]): Demangler {
  const output = run('c++filt', [], `${names.join('\n')}\n`).split('\n');
  const known = new Map(names.map((name, at) => [name, output[at]]));
  return {
    demangle: (name) => {
      const text = known.get(name);
      return text === name ? undefined : text;
    },
  };
}

/** What `readelf --syms` says of one symbol. */
export interface ReadelfSymbol {
  readonly table: string;
  readonly address: bigint;
  readonly size: number;
  readonly type: string;
  readonly binding: string;
  readonly section: string;
  readonly name: string;
}

/** All symbols of a file by readelf. */
export function readelfSymbols(path: string): ReadelfSymbol[] {
  let table = '';
  const symbols: ReadelfSymbol[] = [];
  for (const line of run('readelf', ['--syms', '-W', path]).split('\n')) {
    table = /^Symbol table '\.(\w+)'/.exec(line)?.[1] ?? table;
    const match = /^ *\d+: ([0-9a-f]+) +(\w+) (\w+) +(\w+) +\w+ +(?:\[.*\] +)?(\w+) ?(.*)$/.exec(
      line,
    );
    if (match === null) continue;
    const [, value = '', size, type = '', binding = '', section = '', name = ''] = match;
    symbols.push({
      table,
      type,
      binding,
      section,
      address: BigInt(`0x${value}`),
      size: Number(size),
      name,
    });
  }
  return symbols;
}
