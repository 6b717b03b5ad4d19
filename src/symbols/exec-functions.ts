/** The functions by which a C library executes a program: all its others, and what posix_spawn does, end in these. */

import { Buffer } from 'node:buffer';

import { fileOffset, type FileOffset } from '../base/brand.ts';
import type { ElfFile } from './elf.ts';
import { dynamicSymbols } from './symbol-rows.ts';

/** glibc's fexecve makes the system call itself (sysdeps/unix/sysv/linux/fexecve.c). */
export type ExecFunction = 'execve' | 'execveat' | 'fexecve';

const FUNCTIONS: readonly ExecFunction[] = ['execve', 'execveat', 'fexecve'];
const found = new WeakMap<ElfFile, ReadonlyMap<ExecFunction, FileOffset>>();

/**
 * Where a file has them, by its dynamic symbols. Looked for once.
 * @throws TraplineError `bad-elf`.
 */
export function execFunctions(elf: ElfFile): ReadonlyMap<ExecFunction, FileOffset> {
  const known = found.get(elf);
  if (known !== undefined) return known;
  const functions = new Map<ExecFunction, FileOffset>();
  found.set(elf, functions);
  const rows = dynamicSymbols(elf);
  if (rows === undefined) return functions;
  const names = FUNCTIONS.map((name) => ({ name, bytes: Buffer.from(name) }));
  for (let row = 0; row < rows.count; row++) {
    const name = names.find(({ bytes }) => rows.isNamed(row, bytes))?.name;
    if (name === undefined || rows.sectionIndex(row) === 0) continue;
    const offset = elf.loads.offsetOf(rows.address(row));
    if (offset >= 0) functions.set(name, fileOffset(offset));
  }
  return functions;
}
