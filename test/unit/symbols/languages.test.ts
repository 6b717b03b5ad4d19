/** Go text and restartable sequences: files built by hand, and by the compiler. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ElfFile } from '../../../src/symbols/elf.ts';
import { goText, isGo } from '../../../src/symbols/go.ts';
import { restartableSequences } from '../../../src/symbols/restartable.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { compile, openElf, without, withoutSectionHeaders } from './fixtures.ts';
import { BASE, FIRST, bytesOf, symbolRows, tinyElf, type TinySection } from './tiny-elf.ts';

const TEXT = BASE + FIRST;
const CODE: TinySection = {
  name: '.text',
  type: 1,
  flags: 6,
  bytes: new Uint8Array(64).fill(0x90),
};

function functionTable(textStart: number, end: number, magic = 0xfffffff1): TinySection {
  const bytes = bytesOf((w) => {
    w.u32(magic).u8(0).u8(0).u8(1).u8(8).u64(1n).u64(0n).u64(BigInt(textStart));
    w.u64(0n).u64(0n).u64(0n).u64(0n).u64(72n);
    w.u32(0).u32(0).u32(end);
  });
  return { name: '.gopclntab', type: 1, bytes };
}

const open = (...sections: TinySection[]): ElfFile => ElfFile.open(tinyElf(sections), 'prog');

test('Go text by symbols, by the function table, by section', () => {
  assert.equal(goText(open(CODE)), undefined);
  assert.deepEqual(goText(open(CODE, functionTable(TEXT + 8, 40))), {
    start: FIRST + 8,
    end: FIRST + 48,
  });
  const whole = { start: FIRST, end: FIRST + 64 };
  assert.deepEqual(goText(open(CODE, functionTable(0, 40))), whole);
  assert.deepEqual(goText(open(CODE, functionTable(TEXT, 4, 0xfffffffb))), whole);
  const names = new TextEncoder().encode('\0runtime.text\0runtime.etext\0');
  const symbols = symbolRows([
    [1, 0x12, 1, TEXT + 4, 0],
    [14, 0x12, 1, TEXT + 20, 0],
  ]);
  const symtab = { name: '.symtab', type: 2, bytes: symbols, link: 3, entrySize: 24 };
  const withSymbols = open(
    CODE,
    functionTable(TEXT, 60),
    { name: '.strtab', type: 3, bytes: names },
    symtab,
  );
  assert.deepEqual(goText(withSymbols), { start: FIRST + 4, end: FIRST + 20 });
  const note = bytesOf((w) =>
    w
      .u32(4)
      .u32(4)
      .u32(4)
      .raw(Uint8Array.of(0x47, 0x6f, 0, 0, 1, 2, 3, 4)),
  );
  const noted = ElfFile.open(tinyElf([CODE], { note }), 'prog');
  assert.ok(isGo(noted));
  assert.deepEqual(goText(noted), whole);
  assert.throws(() => goText(open(CODE, { ...functionTable(TEXT, 4), claimedSize: 20n })), {
    code: 'bad-elf',
  });
});

const SEQUENCE = `
__asm__(
  ".text\\n.globl sequence\\n.type sequence, @function\\nsequence:\\n nop\\n"
  "1: nop\\n nop\\n nop\\n2: ret\\n"
  ".long 0x53053053\\n3: ud2\\n.size sequence, . - sequence\\n"
  ".pushsection __rseq_cs, \\"aw\\"\\n.balign 32\\n.long 0, 0\\n.quad 1b, 2b - 1b, 3b\\n.popsection\\n");
int main(void) { return 0; }
`;

test('restartable sequences of fixed and relocatable files', { skip: without('gcc') }, () => {
  for (const options of [['-no-pie'], ['-pie', '-fPIE'], ['-shared', '-fPIC'], ['-static-pie']]) {
    const path = compile('sequence.c', SEQUENCE, options);
    const elf = openElf(path);
    const start = SymbolTable.of(elf).find('sequence')[0]?.offset ?? Number.NaN;
    assert.deepEqual(restartableSequences(elf), [
      { start: start + 1, end: start + 4, abort: start + 9 },
    ]);
    assert.equal(restartableSequences(withoutSectionHeaders(path)), undefined);
  }
  assert.deepEqual(restartableSequences(ElfFile.open(tinyElf([CODE]), 'prog')), []);
  const descriptor = bytesOf((w) =>
    w
      .u64(0n)
      .u64(1n << 40n)
      .u64(1n)
      .u64(BigInt(TEXT)),
  );
  const bad = tinyElf([CODE, { name: '__rseq_cs', type: 1, bytes: descriptor }]);
  assert.throws(() => restartableSequences(ElfFile.open(bad, 'prog')), { code: 'bad-elf' });
});
