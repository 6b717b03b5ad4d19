/** Programs and libraries that are installed here. */

import { closeSync, openSync, readSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { isLong } from './features.ts';

const FOLDERS = ['/usr/lib/x86_64-linux-gnu', '/usr/bin', '/usr/sbin'];
/** So many files in the short form, none larger than this. */
const SAMPLE = 12;
const SAMPLE_BYTES = 8 << 20;

/** Programs and libraries for this machine, each once: a sample, all of them in the long form. */
export function systemFiles(): string[] {
  const found = new Set<string>();
  for (const folder of FOLDERS) {
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      if (isElf(path)) found.add(realpathSync(path));
    }
  }
  const all = [...found].toSorted();
  if (isLong()) return all;
  const small = all.filter((path) => statSync(path).size < SAMPLE_BYTES);
  return small.filter((_, at) => at % Math.ceil(small.length / SAMPLE) === 0);
}

/** 64-bit little-endian ELF for x86-64, a program or a library (gABI, "ELF Header"). */
function isElf(path: string): boolean {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return false;
  const head = Buffer.alloc(20);
  const fd = openSync(path, 'r');
  try {
    readSync(fd, head, 0, 20, 0);
  } finally {
    closeSync(fd);
  }
  const isOurs = head.readUInt32BE(0) === 0x7f454c46 && head[4] === 2 && head[18] === 62;
  return isOurs && (head[16] === 2 || head[16] === 3);
}
