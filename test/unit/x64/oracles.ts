/** Other people's assemblers and disassemblers, to hold ours against. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const MAX_OUTPUT = 1 << 28;

/** Runs `body` with a temporary folder that is removed afterwards. */
export function withFolder<T>(body: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-x64-'));
  try {
    return body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Assembles Intel-syntax source with GNU `as`; the bytes of its text. */
export function gnuAssemble(source: string): Uint8Array {
  return withFolder((folder) => {
    const input = join(folder, 'in.s');
    const object = join(folder, 'out.o');
    const binary = join(folder, 'out.bin');
    writeFileSync(input, `.intel_syntax noprefix\n.text\n${source}\n`);
    execFileSync('as', ['--64', '-o', object, input]);
    execFileSync('objcopy', ['-O', 'binary', '-j', '.text', object, binary]);
    return readFileSync(binary);
  });
}

/** Disassembles raw bytes with objdump: offset → text in Intel syntax. */
export function objdump(bytes: Uint8Array, origin = 0n): Map<bigint, string> {
  const text = withFolder((folder) => {
    const input = join(folder, 'in.bin');
    writeFileSync(input, bytes);
    const options = ['-D', '-w', '-b', 'binary', '-m', 'i386:x86-64', '-M', 'intel'];
    const at = `--adjust-vma=0x${origin.toString(16)}`;
    return execFileSync('objdump', [...options, '--no-show-raw-insn', at, input], {
      maxBuffer: MAX_OUTPUT,
    }).toString();
  });
  const lines = new Map<bigint, string>();
  for (const [, at, instruction] of text.matchAll(/^\s*([0-9a-f]+):\t(.*)$/gm)) {
    lines.set(BigInt(`0x${at}`), (instruction ?? '').trim());
  }
  return lines;
}
