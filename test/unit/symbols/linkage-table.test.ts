/** Names of the entries of the procedure linkage table, against objdump. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fileOffset } from '../../../src/base/brand.ts';
import { readDynamic } from '../../../src/symbols/dynamic.ts';
import { functionBounds } from '../../../src/symbols/function-bounds.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { skipUnless } from '../../harness/features.ts';
import { systemFiles } from '../../harness/system-files.ts';
import { compile, filtDemangler, openElf, run, withoutSectionHeaders } from './fixtures.ts';

const SOURCE = `
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
int main(int argc, char **argv) {
  void (*give_back)(void *) = free;  /* its address is taken: .plt.got */
  char *copy = strdup(argv[0]);
  printf("%s %zu\\n", copy, strlen(copy));
  give_back(copy);
  free(malloc(argc));
}
`;

/** Every way in which compilers and linkers lay such tables out. */
const LAYOUTS: readonly (readonly string[])[] = [
  ['-O0', '-no-pie'],
  ['-O0', '-fcf-protection=none', '-no-pie'],
  ['-O0', '-fcf-protection=full', '-Wl,-z,ibtplt'],
  ['-O0', '-fcf-protection=full', '-Wl,-z,ibt', '-Wl,-z,lazy'],
  ['-O0', '-pie', '-fPIE', '-Wl,-z,now'],
  ['-O0', '-pie', '-fPIE', '-Wl,-z,lazy'],
  ['-O0', '-shared', '-fPIC'],
];

/** It exports nothing, as the address of none is taken: the GNU hash table knows no symbol. */
const PLAIN_SOURCE = `
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv) {
  char *copy = strdup(argv[0]);
  free(copy);
  free(malloc(argc));
}
`;
const PLAIN_LAYOUTS: readonly (readonly string[])[] = [
  ['-O0', '-no-pie', '-Wl,--hash-style=gnu'],
  ['-O0', '-no-pie', '-Wl,--hash-style=both'],
  ['-O0', '-no-pie', '-Wl,--hash-style=gnu', '-Wl,-z,now'],
];

/** Name → address, as objdump labels the entries. */
function objdumpEntries(path: string): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const elf = openElf(path);
  const names = ['.plt', '.plt.sec', '.plt.got', '.plt.bnd'];
  // It fails where it has nothing to show.
  const there = names.filter((name) => elf.section(name) !== undefined);
  if (there.length === 0) return found;
  const sections = there.flatMap((name) => ['-j', name]);
  for (const line of run('objdump', ['-d', ...sections, path]).split('\n')) {
    const match = /^0*([0-9a-f]+) <([^*].*@plt)>:$/.exec(line);
    if (match === null) continue;
    const [, place = '', name = ''] = match;
    // Newer ones write the symbol's version, too.
    const plain = name.replace(/@{1,2}[A-Z][A-Za-z_]*[\d.]*@plt$/, '@plt');
    found.set(plain, (found.get(plain) ?? new Set()).add(place));
  }
  return found;
}

function compare(path: string): number {
  const theirs = objdumpEntries(path);
  const ours = new Map<string, Set<string>>();
  for (const { name, kind, address } of SymbolTable.of(openElf(path)).functions()) {
    if (kind === 'plt') ours.set(name, (ours.get(name) ?? new Set()).add(address.toString(16)));
  }
  assert.deepEqual(ours, theirs, path);
  return ours.size;
}

test('entries of every layout have the names that objdump gives them', (t) => {
  if (skipUnless(t, 'gcc', 'objdump')) return;
  for (const options of LAYOUTS) {
    const path = compile('calls.c', SOURCE, options);
    assert.ok(compare(path) >= 4, options.join(' '));
    const elf = openElf(path);
    const table = SymbolTable.of(elf);
    const [entry, ...others] = table.find('strdup@plt');
    assert.ok(entry !== undefined && others.length === 0);
    assert.equal(entry.kind, 'plt');
    const inside = fileOffset(entry.offset + 3);
    assert.equal(table.at(inside)?.name, 'strdup@plt');
    const end = fileOffset(entry.offset + entry.size);
    const bounds = { start: entry.offset, end, source: 'symbol' };
    assert.deepEqual(functionBounds(elf, inside), bounds);
    // A call is not the function: a glob of functions has no entries unless it says so.
    assert.deepEqual(
      table.glob('strd*').map(({ name }) => name),
      [],
    );
    assert.deepEqual(
      table.glob('strd*@plt').map(({ name }) => name),
      ['strdup@plt'],
    );
    assert.deepEqual(table.find('strdup'), []);
    assert.deepEqual(table.find('nothing@plt'), []);
  }
});

test('entries of a program that exports nothing have names, with a table of sections or without', (t) => {
  if (skipUnless(t, 'gcc', 'objdump')) return;
  for (const options of PLAIN_LAYOUTS) {
    const path = compile('plain.c', PLAIN_SOURCE, options);
    assert.ok(compare(path) >= 3, options.join(' '));
    // Without section headers the relocations tell how many symbols there are.
    const symbols = readDynamic(withoutSectionHeaders(path))?.symbols.byteLength;
    assert.equal(symbols, readDynamic(openElf(path))?.symbols.byteLength);
  }
});

test('entries of C++ functions are found by readable names', (t) => {
  if (skipUnless(t, 'g++')) return;
  const path = compile('calls.cc', 'int main() { delete new int; }', ['-O0']);
  const table = SymbolTable.of(openElf(path), filtDemangler(['_Znwm', '_ZdlPvm']));
  for (const name of ['operator new@plt', 'operator new(unsigned long)@plt', '_Znwm@plt']) {
    assert.deepEqual(
      table.find(name).map((symbol) => symbol.name),
      ['_Znwm@plt'],
      name,
    );
  }
});

test('entries of installed programs are those of objdump', (t) => {
  if (skipUnless(t, 'objdump')) return;
  let total = 0;
  for (const path of [process.execPath, '/bin/ls', ...systemFiles()]) total += compare(path);
  assert.ok(total > 50, `${total} entries`);
});
