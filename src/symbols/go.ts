/** Go programs, whose functions keep other rules for stack and registers than C's. */

import { Buffer } from 'node:buffer';

import { fileOffset, type FileOffset } from '../base/brand.ts';
import type { ElfFile } from './elf.ts';
import { goFunctionTable } from './go-functions.ts';
import { staticSymbols } from './symbol-rows.ts';

/** Where a file's Go code lies. */
export interface GoText {
  readonly start: FileOffset;
  /** The first byte behind it. */
  readonly end: FileOffset;
}

/** Whether the Go linker made the file: its function table, its build information or its note. */
export function isGo(elf: ElfFile): boolean {
  return (
    elf.sections.some(({ name }) => name === '.gopclntab' || name === '.go.buildinfo') ||
    elf.notes.some(({ owner, type }) => owner === 'Go' && type === 4)
  );
}

/**
 * The range of Go code: by the symbols `runtime.text` and `runtime.etext`, else by the header of
 * the function table, else all of `.text` (C code of a cgo program included).
 * @returns undefined when the file is not Go's.
 * @throws TraplineError `bad-elf`.
 */
export function goText(elf: ElfFile): GoText | undefined {
  if (!isGo(elf)) return undefined;
  return textBySymbols(elf) ?? textByFunctionTable(elf) ?? textBySection(elf);
}

function textBySymbols(elf: ElfFile): GoText | undefined {
  const rows = staticSymbols(elf);
  if (rows === undefined) return undefined;
  const names = [Buffer.from('runtime.text'), Buffer.from('runtime.etext')] as const;
  let start: number | undefined;
  let end: number | undefined;
  for (let row = 0; row < rows.count; row++) {
    if (rows.isNamed(row, names[0])) start = rows.address(row);
    else if (rows.isNamed(row, names[1])) end = rows.address(row);
  }
  return start === undefined || end === undefined ? undefined : textBetween(elf, start, end);
}

function textByFunctionTable(elf: ElfFile): GoText | undefined {
  const table = goFunctionTable(elf);
  return table && textBetween(elf, table.startOf(0), table.startOf(table.count));
}

function textBySection(elf: ElfFile): GoText | undefined {
  const section = elf.section('.text');
  if (section === undefined) return undefined;
  return textBetween(elf, section.address, section.address + section.size);
}

function textBetween(elf: ElfFile, startAddress: number, endAddress: number): GoText | undefined {
  const start = elf.loads.offsetOf(startAddress);
  const last = elf.loads.offsetOf(endAddress - 1);
  if (start < 0 || last < start) return undefined;
  return { start: fileOffset(start), end: fileOffset(last + 1) };
}
