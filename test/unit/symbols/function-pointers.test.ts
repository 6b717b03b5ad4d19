import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import { test } from 'node:test';

import { ElfFile } from '../../../src/symbols/elf.ts';
import { functionPointers } from '../../../src/symbols/function-pointers.ts';
import { requireProgram } from '../../harness/fixtures.ts';

interface Row {
  readonly at: bigint;
  readonly type: string;
  /** The symbol's name without its version, or the addend of a row without one. */
  readonly what: string;
}

/** What readelf shows of a file's relocations. */
function relocations(path: string): Row[] {
  const text = execFileSync(requireProgram('readelf'), ['-rW', path], { encoding: 'utf8' });
  return text.split('\n').flatMap((line): Row[] => {
    const [at = '', , type = '', first = '', name = ''] = line.trim().split(/\s+/);
    if (!/^[0-9a-f]{16}$/.test(at) || !type.startsWith('R_X86_64_')) return [];
    const what = type === 'R_X86_64_IRELATIVE' ? first : (name.split('@')[0] ?? '');
    return [{ at: BigInt(`0x${at}`), type, what }];
  });
}

const sorted = (words: Iterable<bigint>): string[] =>
  Array.from(words, (word) => word.toString(16)).toSorted();

for (const program of ['sh', 'readelf']) {
  test(`every word for a function that ${program} imports is found by its name`, () => {
    const path = realpathSync(requireProgram(program));
    const elf = ElfFile.open(readFileSync(path), path);
    const rows = relocations(path).filter(({ type }) => /GLOB_DAT|JUMP_SLO/.test(type));
    assert.ok(rows.length > 10);
    for (const name of new Set(rows.map(({ what }) => what))) {
      const expected = rows.filter(({ what }) => what === name).map(({ at }) => at);
      const found = functionPointers(elf, { names: new Set([name]), resolver: undefined });
      assert.deepEqual(sorted(found), sorted(expected), name);
    }
  });
}

test('words that a library resolves for itself are found by the resolver', () => {
  const listed = /=> (\/\S*libc[.-]\S*)/.exec(
    execFileSync('ldd', [realpathSync(requireProgram('sh'))], { encoding: 'utf8' }),
  );
  const path = realpathSync(listed?.[1] ?? '');
  const elf = ElfFile.open(readFileSync(path), path);
  const rows = relocations(path).filter(({ type }) => type === 'R_X86_64_IRELATIVE');
  assert.ok(rows.length > 5);
  for (const resolver of new Set(rows.map(({ what }) => what))) {
    const expected = rows.filter(({ what }) => what === resolver).map(({ at }) => at);
    const wanted = { names: new Set<string>(), resolver: BigInt(`0x${resolver}`) };
    assert.deepEqual(sorted(functionPointers(elf, wanted)), sorted(expected), resolver);
  }
});
