/** The functions of one file, for people who look for what to probe. */

import { readFileSync } from 'node:fs';

import { TraplineError } from '../base/errors.ts';
import { compileGlob } from '../base/glob.ts';
import { demangleCpp } from '../sys/demangle.ts';
import { ElfFile } from '../symbols/elf.ts';
import { SymbolTable } from '../symbols/symbol-table.ts';
import type { ListedFunction } from './types.ts';

/**
 * Lists a file's functions by offset, all names of each.
 * @param glob takes raw and readable names
 * @throws TraplineError `no-file`, `bad-elf`, `unsupported`.
 */
export function listFile(path: string, glob: string | undefined): ListedFunction[] {
  const elf = ElfFile.open(readFile(path), path);
  const table = SymbolTable.of(elf, { demangle: demangleCpp });
  const matches = glob === undefined ? undefined : compileGlob(glob);
  const listed: ListedFunction[] = [];
  for (const symbol of table.functions()) {
    const readable = table.readable(symbol);
    const names = [symbol.name, readable?.signature, readable?.path];
    if (matches !== undefined && !names.some((name) => name !== undefined && matches(name)))
      continue;
    const { name, version, offset, size, kind, binding } = symbol;
    listed.push({
      name,
      offset,
      size,
      kind,
      binding,
      ...(readable === undefined ? {} : { demangled: readable.signature }),
      ...(version === undefined ? {} : { version }),
    });
  }
  return listed;
}

function readFile(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new TraplineError({
      code: 'no-file',
      message: `${path} can't be read`,
      hint: error instanceof Error ? error.message : String(error),
      cause: error,
    });
  }
}
