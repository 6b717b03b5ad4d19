import assert from 'node:assert/strict';
import { existsSync, realpathSync } from 'node:fs';
import { test } from 'node:test';

import { versionedName } from '../../../src/symbols/function-symbol.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { openElf, readelfSymbols, without } from './fixtures.ts';

const CANDIDATES: readonly (string | undefined)[] = [
  '/lib/x86_64-linux-gnu/libc.so.6',
  '/usr/lib/x86_64-linux-gnu/libstdc++.so.6',
  '/bin/ls',
  '/usr/bin/python3',
  '/bin/zsh',
  process.execPath,
];

for (const candidate of CANDIDATES) {
  const path = candidate !== undefined && existsSync(candidate) ? candidate : undefined;
  const skip = path === undefined ? 'the file is not here' : without('readelf');
  test(`functions of ${candidate} are those that readelf lists`, { skip }, () => {
    const file = realpathSync(path ?? '');
    const table = SymbolTable.of(openElf(file));
    const ours = new Set(
      table
        .functions()
        .filter(({ kind }) => kind !== 'assembly' && kind !== 'plt')
        .map((symbol) =>
          [
            symbol.address.toString(16),
            symbol.sizeKnown ? symbol.size : 0,
            symbol.kind === 'ifunc' ? 'IFUNC' : 'FUNC',
            symbol.binding.toUpperCase(),
            versionedName(symbol),
          ].join(' '),
        ),
    );
    const theirs = new Set(
      readelfSymbols(file)
        .filter(({ type, section }) => /^I?FUNC$/.test(type) && section !== 'UND')
        .map(({ address, size, type, binding, name }) =>
          [address.toString(16), size, type, binding, name].join(' '),
        ),
    );
    const missing = [...theirs].filter((line) => !ours.has(line));
    const invented = [...ours].filter((line) => !theirs.has(line));
    assert.deepEqual({ missing, invented }, { missing: [], invented: [] });
    assert.equal(ours.size, theirs.size);
  });
}
