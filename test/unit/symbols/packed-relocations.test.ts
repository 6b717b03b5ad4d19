import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { test } from 'node:test';

import { ElfFile } from '../../../src/symbols/elf.ts';
import { codePointers } from '../../../src/symbols/relocated-words.ts';
import { forEachPacked } from '../../../src/symbols/relocations.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { skipUnless } from '../../harness/features.ts';
import { compileFixture } from '../../harness/fixtures.ts';

function wordsOf(...entries: readonly bigint[]): number[] {
  const table = new Uint8Array(BigUint64Array.from(entries).buffer);
  const words: number[] = [];
  forEachPacked(table, (word) => words.push(word));
  return words;
}

test('a packed table: addresses, and bits for the words behind them', () => {
  assert.deepEqual(wordsOf(), []);
  assert.deepEqual(wordsOf(0x1000n, 0x3000n), [0x1000, 0x3000]);
  // The lowest bit says that it is one; then the first, the 31st, the 32nd and the 63rd word.
  const bits = 1n | (1n << 1n) | (1n << 31n) | (1n << 32n) | (1n << 63n);
  const first = 0x1008;
  const far = [30, 31, 62].map((nth) => first + nth * 8);
  assert.deepEqual(wordsOf(0x1000n, bits), [0x1000, first, ...far]);
  const next = first + 63 * 8;
  assert.deepEqual(wordsOf(0x1000n, 1n, 3n), [0x1000, next], 'a bitmap of none, and the next');
});

test('pointers to code are found in packed relocations, and numbers beside them are none', (t) => {
  if (skipUnless(t, 'gcc')) return;
  const folder = mkdtempSync(join(tmpdir(), 'trapline-packed-'));
  try {
    const source = join(folder, 'packed.c');
    const names = Array.from({ length: 100 }, (_, nth) => `f${nth}`);
    writeFileSync(
      source,
      `${names.map((name) => `void ${name}(void) {}`).join('\n')}
void (*table[])(void) = {${names.slice(0, 50).join(', ')}, 0, ${names.slice(50).join(', ')}};
unsigned long number = 0x1003;`,
    );
    const flags = ['-shared', '-fPIC', '-nostdlib', '-Wl,-Bsymbolic,-z,pack-relative-relocs'];
    const path = compileFixture({ sources: [source], flags, name: 'libpacked.so' });
    assert.match(execFileSync('readelf', ['-dW', path]).toString(), /\(RELR\)/, 'they are packed');
    const elf = ElfFile.open(readFileSync(path), path);
    const symbols = SymbolTable.of(elf, { demangle: () => undefined });
    const expected = names.map((name) => {
      const [symbol] = symbols.find(name);
      return Number(elf.addressOf(symbol?.offset ?? assert.fail(name)));
    });
    assert.deepEqual(
      [...codePointers(elf)],
      expected.toSorted((one, other) => one - other),
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});
