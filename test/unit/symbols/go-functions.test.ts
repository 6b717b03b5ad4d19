/** Go's function table: of each layout by hand, and of the installed compiler against the symbols that it wrote. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { fileOffset } from '../../../src/base/brand.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { functionBounds } from '../../../src/symbols/function-bounds.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { compileFixture } from '../../harness/fixtures.ts';
import { skipUnless } from '../../harness/features.ts';
import { openElf, run, write } from './fixtures.ts';
import { GO_CODE, GO_LAYOUTS, functionTable, goFile } from './go-table.ts';
import { BASE, FIRST, bytesOf, tinyElf, type TinySection } from './tiny-elf.ts';

const TEXT = BASE + FIRST;

function open(
  layout: (typeof GO_LAYOUTS)[number],
  textStart?: number,
  ...more: readonly TinySection[]
): ElfFile {
  return ElfFile.open(goFile(layout, textStart, ...more), 'prog');
}

function check(elf: ElfFile, what: string): void {
  const table = SymbolTable.of(elf);
  assert.deepEqual(
    table.functions().map(({ name, offset, size, table: source }) => [name, offset, size, source]),
    [
      ['main.first', FIRST, 8, 'pclntab'],
      ['main.(*T).second', FIRST + 16, 20, 'pclntab'],
    ],
    what,
  );
  assert.equal(table.find('main.(*T).second')[0]?.offset, FIRST + 16);
  assert.equal(table.at(fileOffset(FIRST + 3))?.name, 'main.first');
  assert.deepEqual(functionBounds(elf, fileOffset(FIRST + 20)), {
    start: FIRST + 16,
    end: FIRST + 36,
    source: 'symbol',
  });
}

test('each layout of the function table', () => {
  for (const layout of GO_LAYOUTS) check(open(layout), layout);
});

test('where the table does not say where text begins, the module data do', () => {
  // Where the sections before it put the table, so that the word that points to it can be written.
  const at = open('1.20').section('.gopclntab')?.address ?? 0;
  const bytes = bytesOf((w) => {
    w.u64(BigInt(at));
    for (let word = 1; word < 20; word++) w.u64(7n);
    w.u64(BigInt(TEXT))
      .u64(BigInt(TEXT + 64))
      .u64(BigInt(TEXT))
      .u64(BigInt(TEXT + 64));
  });
  check(open('1.20', 0, { name: '.go.module', type: 1, bytes }), 'module data');
  assert.deepEqual(SymbolTable.of(open('1.20', 0)).functions(), []);
});

test('a table that is damaged costs its own names only', () => {
  const bytes = functionTable('1.20').subarray(0, 90);
  const elf = ElfFile.open(tinyElf([GO_CODE, { name: '.gopclntab', type: 1, bytes }]), 'prog');
  const table = SymbolTable.of(elf);
  assert.deepEqual(table.functions(), []);
  assert.match(table.sources.problems.join(), /^prog \.gopclntab/);
});

test('a stripped Go program has the functions that its symbols had', (t) => {
  if (skipUnless(t, 'go', 'strip')) return;
  for (const flags of [[], ['-buildmode=pie']]) {
    const path = compileFixture({ sources: ['work.go'], flags });
    const stripped = write(`work${flags.length}.stripped`, '');
    run('strip', ['-o', stripped, path]);
    const whole = SymbolTable.of(openElf(path));
    const ours = SymbolTable.of(ElfFile.open(readFileSync(stripped), stripped));
    let compared = 0;
    for (const symbol of whole.functions()) {
      if (symbol.kind !== 'function' || !symbol.sizeKnown) continue;
      const named = ours.find(symbol.name);
      // Marks of the text's ends, and what only the linker made, are no functions of the runtime's.
      if (named.length === 0) continue;
      // Two of one name: a function, and its wrapper for the other calling convention.
      const found = named.find(({ offset }) => offset === symbol.offset);
      assert.ok(found !== undefined, symbol.name);
      if (found.size !== symbol.size) assert.ok(found.size < symbol.size + 16, symbol.name);
      compared++;
    }
    assert.ok(compared > 1000, `${compared} functions`);
    const [main] = ours.find('main.main');
    assert.ok(main !== undefined && main.table === 'pclntab');
  }
});
