/** Names that are not in the file itself: the mini symbol table, and the order in which sources are asked. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fileOffset } from '../../../src/base/brand.ts';
import { DebugFile } from '../../../src/symbols/debug-file.ts';
import { debugLink } from '../../../src/symbols/debug-link.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { functionBounds } from '../../../src/symbols/function-bounds.ts';
import { isWholeFunction } from '../../../src/symbols/parts.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { symbolSources } from '../../../src/symbols/symbol-sources.ts';
import { unnamedFunctions } from '../../../src/symbols/unnamed-functions.ts';
import { skipUnless, type Skippable } from '../../harness/features.ts';
import { compile, openElf, run, write } from './fixtures.ts';
import { C_SOURCE } from './sources.ts';
import { readFileSync } from 'node:fs';

interface Parts {
  /** With all symbols. */
  readonly full: string;
  readonly stripped: string;
  readonly debug: string;
}

function parts(options: readonly string[]): Parts {
  const full = compile('parts.c', C_SOURCE, ['-O1', '-g', ...options]);
  const stripped = `${full}.stripped`;
  const debug = `${full}.debug`;
  run('objcopy', ['--only-keep-debug', full, debug]);
  run('objcopy', ['--strip-all', `--add-gnu-debuglink=${debug}`, full, stripped]);
  return { full, stripped, debug };
}

/** A program whose debug file is another one, and how often that was asked for. */
function withDebugFile(path: string, debug: string): { elf: ElfFile; asked: () => number } {
  const elf = openElf(path);
  let asked = 0;
  symbolSources(elf, () => {
    asked++;
    return DebugFile.ofBytes(readFileSync(debug), debug);
  });
  return { elf, asked: () => asked };
}

const COLD_SOURCE = `
__asm__(".text\\n.type torn, @function\\ntorn:\\n nop\\n ret\\n.size torn, 2\\n"
        ".type torn.cold, @function\\ntorn.cold:\\n nop\\n ret\\n.size torn.cold, 2\\n");
`;

const shape = (symbol: { name: string; offset: number; size: number; kind: string }): string =>
  `${symbol.name} ${symbol.offset} ${symbol.size} ${symbol.kind}`;

const lacks = (t: Skippable): boolean => skipUnless(t, 'gcc', 'objcopy', 'strip');

test('a stripped file and its debug file have what the whole file had', (t) => {
  if (lacks(t)) return;
  for (const options of [['-pie', '-fPIE'], ['-no-pie'], ['-shared', '-fPIC'], ['-static']]) {
    const { full, stripped, debug } = parts(options);
    const wanted = SymbolTable.of(openElf(full)).functions().map(shape).sort();
    assert.ok(wanted.some((line) => line.startsWith('hidden ')));
    const { elf } = withDebugFile(stripped, debug);
    assert.deepEqual(SymbolTable.of(elf).functions().map(shape).sort(), wanted, options.join(' '));
  }
});

test('the debug file is opened for what the file lacks, once', (t) => {
  if (lacks(t)) return;
  const { full, stripped, debug } = parts(['-shared', '-fPIC']);
  const hidden = SymbolTable.of(openElf(full)).find('hidden')[0];
  assert.ok(hidden !== undefined);
  const { elf, asked } = withDebugFile(stripped, debug);
  const table = SymbolTable.of(elf);
  const visible = table.find('visible')[0];
  assert.ok(visible !== undefined);
  assert.equal(table.at(visible.offset)?.name, 'visible');
  functionBounds(elf, visible.offset);
  functionBounds(elf, hidden.offset);
  assert.equal(table.find('free@plt').length, table.find('free@plt').length);
  assert.equal(asked(), 0);
  const found = table.find('hidden')[0];
  assert.equal(found?.table, 'debug-file');
  assert.equal(found.offset, hidden.offset);
  assert.equal(found.binding, 'local');
  assert.equal(table.at(fileOffset(hidden.offset + 1))?.name, 'hidden');
  assert.deepEqual(
    table.glob('hid*').map(({ name }) => name),
    ['hidden'],
  );
  assert.deepEqual(table.find('nothing_is_called_so'), []);
  assert.ok(table.near('hiden', 3).includes('hidden'));
  assert.equal(asked(), 1);
  // A file that is not stripped needs no debug file for its globs and lists.
  const whole = withDebugFile(full, debug);
  SymbolTable.of(whole.elf).glob('*');
  SymbolTable.of(whole.elf).functions();
  assert.equal(whole.asked(), 0);
});

test('a part that only a debug file names is not a whole function', (t) => {
  if (lacks(t)) return;
  // Assembly without unwind tables: only symbols know its bounds.
  const full = compile('cold.c', COLD_SOURCE, ['-O1', '-shared', '-fPIC']);
  const debug = `${full}.debug`;
  const stripped = `${full}.stripped`;
  run('objcopy', ['--only-keep-debug', full, debug]);
  run('objcopy', ['--strip-all', full, stripped]);
  for (const { elf } of [withDebugFile(full, debug), withDebugFile(stripped, debug)]) {
    const [whole, part] = ['torn', 'torn.cold'].map((name) => {
      const offset = SymbolTable.of(elf).find(name)[0]?.offset;
      const bounds = offset && functionBounds(elf, offset);
      assert.equal(bounds?.source, 'symbol');
      return isWholeFunction(elf, bounds);
    });
    assert.deepEqual({ whole, part }, { whole: true, part: false });
  }
});

test('a debug file that is damaged costs its own names only', (t) => {
  if (lacks(t)) return;
  const { stripped, debug } = parts(['-shared', '-fPIC']);
  const cut = write('cut.debug', readFileSync(debug).subarray(0, 2000));
  const { elf } = withDebugFile(stripped, cut);
  const table = SymbolTable.of(elf);
  assert.deepEqual(table.find('hidden'), []);
  assert.equal(table.glob('visible').length, 1);
  assert.match(table.sources.problems.join(), /cut\.debug section headers/);
});

test('the debug link says which file', (t) => {
  if (lacks(t)) return;
  const { stripped, debug } = parts(['-no-pie']);
  assert.equal(debugLink(openElf(stripped))?.file, debug.replace(/.*\//, ''));
  assert.equal(debugLink(openElf(debug)), undefined);
  assert.equal(DebugFile.ofBytes(readFileSync(debug), debug).buildId, openElf(stripped).buildId);
});

test('the mini symbol table gives local names, and counts as nothing when damaged', (t) => {
  if (lacks(t) || skipUnless(t, 'xz')) return;
  const { full, stripped, debug } = parts(['-pie', '-fPIE']);
  // As distributions make it: symbols alone, packed, in a section of the stripped file.
  const mini = `${full}.mini`;
  run('objcopy', ['-S', '--keep-symbol=hidden', '--keep-symbol=chosen_impl', debug, mini]);
  run('xz', ['-kf', mini]);
  const packed = `${full}.packed`;
  run('objcopy', [`--add-section=.gnu_debugdata=${mini}.xz`, stripped, packed]);
  const wanted = SymbolTable.of(openElf(full)).find('hidden')[0];
  const elf = openElf(packed);
  const table = SymbolTable.of(elf);
  const found = table.find('hidden')[0];
  assert.equal(found?.table, 'debugdata');
  assert.deepEqual([found.offset, found.size], [wanted?.offset, wanted?.size]);
  assert.equal(table.glob('*_impl')[0]?.name, 'chosen_impl');
  const bytes = Uint8Array.from(readFileSync(packed));
  const { offset = 0 } = elf.section('.gnu_debugdata') ?? {};
  bytes.fill(0xaa, offset + 100, offset + 140);
  const damaged = SymbolTable.of(ElfFile.open(bytes, 'damaged'));
  assert.deepEqual(damaged.find('hidden'), []);
  assert.match(damaged.sources.problems.join(), /^damaged \.gnu_debugdata: its xz data is damaged/);
});

test('functions without a name are listed by the unwind tables', (t) => {
  if (lacks(t)) return;
  const { full, stripped } = parts(['-no-pie']);
  const elf = openElf(stripped);
  const named = SymbolTable.of(openElf(full));
  const known = SymbolTable.of(elf).functions();
  const unnamed = unnamedFunctions(elf, known);
  for (const name of ['hidden', 'visible', 'weakling', 'main', 'chosen_impl']) {
    const symbol = named.find(name)[0];
    assert.ok(symbol !== undefined, name);
    const { offset, size } = symbol;
    assert.deepEqual(
      unnamed.find((one) => one.offset === offset),
      { offset, size },
    );
  }
  for (const { offset } of unnamed) assert.equal(named.at(offset)?.offset, offset);
  assert.deepEqual(unnamedFunctions(openElf(full), named.functions()), []);
});
