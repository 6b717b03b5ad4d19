import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { fileOffset } from '../../../src/base/brand.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { functionBounds } from '../../../src/symbols/function-bounds.ts';
import { versionedName } from '../../../src/symbols/function-symbol.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import {
  compile,
  filtDemangler,
  openElf,
  readelfSymbols,
  run,
  without,
  withoutSectionHeaders,
  write,
} from './fixtures.ts';
import { C_SOURCE, CPP_SOURCE, VERSIONED_SOURCE, VERSION_SCRIPT } from './sources.ts';

const skip = without('gcc', 'g++', 'readelf', 'strip', 'c++filt');

const KINDS: Readonly<Record<string, readonly string[]>> = {
  PIE: ['-pie', '-fPIE'],
  fixed: ['-no-pie'],
  static: ['-static', '-no-pie'],
  'static PIE': ['-static-pie', '-fPIE'],
  library: ['-shared', '-fPIC'],
};

for (const [kind, options] of Object.entries(KINDS)) {
  test(`names, aliases and kinds in a ${kind} file`, { skip }, () => {
    const path = compile('kinds.c', C_SOURCE, ['-O1', ...options]);
    const elf = openElf(path);
    const table = SymbolTable.of(elf);
    const known = new Map(readelfSymbols(path).map((symbol) => [symbol.name, symbol]));
    for (const name of ['visible', 'hidden', 'weakling', 'chosen', 'assembled', 'sizeless']) {
      const [symbol, ...others] = table.find(name);
      assert.ok(symbol !== undefined && others.length === 0, name);
      assert.equal(symbol.address, known.get(name)?.address);
      assert.equal(elf.addressOf(symbol.offset), symbol.address);
      assert.equal(elf.fileOffsetOf(symbol.address), symbol.offset);
      assert.equal(symbol.sizeKnown, !/assembled|sizeless/.test(name), name);
    }
    assert.equal(table.find('hidden')[0]?.binding, 'local');
    assert.equal(table.find('weakling')[0]?.binding, 'weak');
    assert.equal(table.find('chosen')[0]?.kind, 'ifunc');
    assert.equal(table.find('assembled')[0]?.kind, 'assembly');
    assert.equal(table.find('assembled')[0]?.size, 3);
    assert.equal(table.find('sizeless')[0]?.size, 2);
    assert.deepEqual(table.find('data_object'), []);
    assert.deepEqual(table.find('_etext'), []);
    const visible = table.find('visible')[0];
    assert.ok(visible !== undefined);
    const names = ['visible', 'visible_alias', '__visible'];
    assert.deepEqual(
      table.aliasesAt(visible.offset).map(({ name }) => name),
      names,
    );
    assert.equal(table.at(fileOffset(visible.offset + 2))?.name, 'visible');
    const bounds = functionBounds(elf, fileOffset(visible.offset + 1));
    assert.deepEqual(bounds, {
      start: visible.offset,
      end: fileOffset(visible.offset + visible.size),
      source: 'symbol',
    });
    assert.deepEqual(
      table.glob('visible*').map(({ name }) => name),
      ['visible'],
    );
    assert.deepEqual(
      table.glob('v?sible_al[a-i]as').map(({ name }) => name),
      ['visible_alias'],
    );
  });
}

const shape = ({ name, offset, size }: { name: string; offset: number; size: number }): string =>
  `${name} ${offset} ${name.startsWith('assembled') ? '' : size}`;

test('a stripped library keeps its exported functions, with and without sections', { skip }, () => {
  const options = ['-O1', '-shared', '-fPIC'];
  const path = compile('stripped.c', C_SOURCE, [...options, '-s']);
  const hidden = SymbolTable.of(openElf(compile('full.c', C_SOURCE, options))).find('hidden')[0];
  assert.ok(hidden !== undefined);
  const whole = SymbolTable.of(openElf(path));
  const bare = withoutSectionHeaders(path);
  assert.deepEqual(bare.sections, []);
  const table = SymbolTable.of(bare);
  for (const { find, elf } of [
    { find: whole.find.bind(whole), elf: openElf(path) },
    { find: table.find.bind(table), elf: bare },
  ]) {
    assert.deepEqual(find('hidden'), []);
    const visible = find('visible')[0];
    assert.equal(visible?.table, 'dynsym');
    assert.ok(visible.sizeKnown && visible.size > 0);
    // `hidden` has no name any more, but the unwind tables know it.
    const end = fileOffset(hidden.offset + hidden.size);
    const bounds = functionBounds(elf, fileOffset(end - 1));
    assert.deepEqual(bounds, { start: hidden.offset, end, source: 'fde' });
  }
  assert.deepEqual(
    table
      .functions()
      .filter(({ kind }) => kind !== 'assembly')
      .map(shape),
    // Without section headers nobody knows where the linkage table is.
    whole
      .functions()
      .filter(({ kind }) => kind !== 'assembly' && kind !== 'plt')
      .map(shape),
  );
});

for (const stripped of [false, true]) {
  test(`versions in ${stripped ? '.dynsym alone' : 'both tables'}`, { skip }, () => {
    const script = write('versions.map', VERSION_SCRIPT);
    const options = ['-O1', '-shared', '-fPIC', `-Wl,--version-script=${script}`];
    const path = compile('versions.c', VERSIONED_SOURCE, [...options, ...(stripped ? ['-s'] : [])]);
    for (const elf of [openElf(path), ...(stripped ? [withoutSectionHeaders(path)] : [])]) {
      const table = SymbolTable.of(elf);
      const names = (name: string): string[] => table.find(name).map(versionedName);
      assert.deepEqual(names('work'), ['work@@FIX_2.0', 'work@FIX_1.0']);
      assert.deepEqual(names('work@FIX_1.0'), ['work@FIX_1.0']);
      assert.deepEqual(names('work@FIX_2.0'), ['work@@FIX_2.0']);
      assert.deepEqual(names('work@@FIX_2.0'), ['work@@FIX_2.0']);
      assert.deepEqual(names('work@@FIX_1.0'), []);
      assert.deepEqual(names('work@FIX_9'), []);
      assert.deepEqual(table.near('work@FIX_9', 2), ['work@@FIX_2.0', 'work@FIX_1.0']);
      assert.deepEqual(
        table.glob('w*k').map(({ version }) => version),
        ['FIX_1.0', 'FIX_2.0'],
      );
    }
  });
}

test('C++ functions by their names with and without parameters', { skip }, () => {
  const path = compile('names.cc', CPP_SOURCE, ['-O1']);
  const elf = openElf(path);
  const raw = readelfSymbols(path).map(({ name }) => name.replace(/@.*/, ''));
  const mangled = raw.filter((name) => name.startsWith('_Z'));
  const table = SymbolTable.of(elf, filtDemangler(mangled));
  const found = (name: string): string[] =>
    table
      .find(name)
      .map((symbol) => symbol.name)
      .sort();
  assert.deepEqual(found('ns::Class::method(int) const'), ['_ZNK2ns5Class6methodEi']);
  assert.deepEqual(found('ns::Class::method( int )const'), ['_ZNK2ns5Class6methodEi']);
  assert.equal(found('ns::Class::method').length, 2);
  assert.deepEqual(found('ns::Class::Class(int)'), ['_ZN2ns5ClassC1Ei', '_ZN2ns5ClassC2Ei']);
  assert.deepEqual(found('ns::Class::~Class'), ['_ZN2ns5ClassD1Ev', '_ZN2ns5ClassD2Ev']);
  assert.deepEqual(found('ns::Class::operator<'), ['_ZNK2ns5ClassltERKS0_']);
  assert.deepEqual(found('ns::Class::operator()'), ['_ZN2ns5ClassclEi']);
  assert.deepEqual(found('ns::Class::operator int'), ['_ZNK2ns5ClasscviEv']);
  assert.deepEqual(found('ns::generic<int>'), ['_ZN2ns7genericIiEET_S1_']);
  assert.deepEqual(found('int ns::generic<int>(int)'), ['_ZN2ns7genericIiEET_S1_']);
  assert.deepEqual(found('ns::(anonymous namespace)::inner'), ['_ZN2ns12_GLOBAL__N_15innerEi']);
  assert.deepEqual(found('plain_c'), ['plain_c']);
  assert.deepEqual(found('ns::Class::missing'), []);
  const globbed = (glob: string): string[] =>
    table
      .glob(glob)
      .map((symbol) => symbol.name)
      .sort();
  assert.deepEqual(globbed('ns::Class::conv*'), [
    '_ZN2ns5Class7convertIdEET_S2_',
    '_ZN2ns5Class7convertIiEET_S2_',
  ]);
  assert.deepEqual(globbed('ns::*thod(int)*'), ['_ZNK2ns5Class6methodEi']);
  assert.ok(table.near('ns::Class::metod', 5).includes('ns::Class::method'));
  assert.ok(table.near('inner_usr', 5).includes('ns::inner_user'));
  // Every readable name leads back to its symbol, whatever its shape.
  for (const symbol of table.functions()) {
    const readable = table.readable(symbol);
    if (readable === undefined) continue;
    assert.ok(found(readable.signature).includes(symbol.name), readable.signature);
    assert.ok(found(readable.path).includes(symbol.name), readable.path);
  }
});

test('readable names in libstdc++ lead back to their symbols', { skip }, (t) => {
  const path = run('g++', ['-print-file-name=libstdc++.so.6']).trim();
  if (!path.startsWith('/')) {
    t.skip('libstdc++ is not here');
    return;
  }
  const elf = openElf(path);
  const names = readelfSymbols(path).map(({ name }) => name.replace(/@.*/, ''));
  const table = SymbolTable.of(elf, filtDemangler(names.filter((name) => name.startsWith('_Z'))));
  const all = table.functions();
  for (let at = 0; at < all.length; at += 37) {
    const symbol = all[at];
    const readable = symbol && table.readable(symbol);
    if (readable === undefined) continue;
    for (const form of [readable.signature, readable.path]) {
      const found = table.find(form).map(({ name }) => name);
      assert.ok(found.includes(symbol?.name ?? ''), `${form} does not lead to ${symbol?.name}`);
    }
  }
});

test('near names: case, typing errors, parts', { skip }, () => {
  const table = SymbolTable.of(openElf(compile('near.c', C_SOURCE, ['-O1', '-no-pie'])));
  for (const [wrong, right] of [
    ['VISIBLE', 'visible'],
    ['visable', 'visible'],
    ['weakilng', 'weakling'],
    ['assemb', 'assembled'],
    ['ible_alias', 'visible_alias'],
    ['visible_alias_of_all', 'visible_alias'],
  ] as const) {
    assert.ok(table.near(wrong, 4).includes(right), `${wrong}: ${table.near(wrong, 4).join()}`);
    assert.ok(table.near(wrong, 1).length <= 1);
  }
  assert.deepEqual(table.near('', 5), []);
  assert.deepEqual(table.near('quite_something_else', 5), []);
  assert.deepEqual(table.near('x'.repeat(100_000), 5), []);
});

/** Processor time, whatever else the machine does. */
function millisecondsSince(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

test('one look-up in a file of 100 MB takes less than 100 ms of a processor', () => {
  const bytes = readFileSync(process.execPath);
  const demangler = { demangle: (): string | undefined => assert.fail('nothing to demangle here') };
  const best = { raw: Infinity, missing: Infinity };
  for (let round = 0; round < 3; round++) {
    const started = process.cpuUsage();
    const table = SymbolTable.of(ElfFile.open(bytes, 'node'), demangler);
    const found = table.find('uv_run');
    best.raw = Math.min(best.raw, millisecondsSince(started));
    assert.ok(found.length <= 1);
    const again = process.cpuUsage();
    assert.deepEqual(table.find('no_such_function_anywhere'), []);
    best.missing = Math.min(best.missing, millisecondsSince(again));
  }
  assert.ok(best.raw < 100 && best.missing < 100, JSON.stringify(best));
});
