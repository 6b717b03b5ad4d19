/** Where glibc keeps a thread's id. */

import { Buffer } from 'node:buffer';

import type { ElfFile } from './elf.ts';
import { elfReader, sliceOf } from './malformed.ts';
import { dynamicSymbols } from './symbol-rows.ts';

/**
 * The offset of the thread id from the thread pointer (fs base) in bytes, from glibc's description
 * of its own structures for debuggers (nptl_db, `_thread_db_pthread_tid`: size in bits, count,
 * offset). Verify it against a living task: nothing promises it.
 * @returns undefined when the file is not such a libc.
 * @throws TraplineError `bad-elf`.
 */
export function tidOffset(elf: ElfFile): number | undefined {
  const rows = dynamicSymbols(elf);
  const name = Buffer.from('_thread_db_pthread_tid');
  if (rows === undefined) return undefined;
  for (let row = 0; row < rows.count; row++) {
    if (!rows.isNamed(row, name) || rows.sectionIndex(row) === 0) continue;
    const offset = elf.loads.offsetOf(rows.address(row));
    if (offset < 0) return undefined;
    const source = `${elf.name} thread description`;
    const reader = elfReader(sliceOf(elf.bytes, offset, 12, source), source);
    const bits = reader.u32();
    const count = reader.u32();
    const place = reader.u32();
    return bits === 32 && count === 1 ? place : undefined;
  }
  return undefined;
}
