/**
 * Symbols of what is installed here, against nm, eu-readelf and addr2line: a sample, and every program and library in the
 * long form. Each difference that is meant stands where it is made, with its reason.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { fileOffset } from '../../../src/base/brand.ts';
import { DebugFiles } from '../../../src/session/files/debug-files.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { versionedName, type FunctionSymbol } from '../../../src/symbols/function-symbol.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { symbolSources } from '../../../src/symbols/symbol-sources.ts';
import { isLong, skipUnless } from '../../harness/features.ts';
import { systemFiles } from '../../harness/system-files.ts';

const PLACES = isLong() ? 400 : 60;

function output(command: string, args: readonly string[], input = ''): string[] {
  const { stdout, status, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    input,
    maxBuffer: 1 << 29,
  });
  // nm ends with 1 where a file has no symbols at all.
  assert.ok(
    status === 0 || stderr.includes('no symbols'),
    `${command} ${args.join(' ')}: ${stderr}`,
  );
  return stdout.split('\n');
}

interface Opened {
  readonly table: SymbolTable;
  readonly functions: readonly FunctionSymbol[];
  /** The files whose tables they come from. */
  readonly debugFile: string | undefined;
  readonly hasDebugInformation: boolean;
}

function open(path: string): Opened {
  const elf = ElfFile.open(readFileSync(path), path);
  const sources = symbolSources(elf, () => new DebugFiles().find(elf, { path, root: '' }));
  const table = SymbolTable.of(elf);
  // Entries of linkage tables are not symbols, and Go's table is not one of these tools'.
  const functions = table
    .functions()
    .filter(({ table: source }) => source !== 'plt' && source !== 'pclntab');
  assert.deepEqual(sources.problems, [], path);
  const debugFile = sources.debugFile?.name;
  const hasDebugInformation = debugFile !== undefined || elf.section('.debug_info') !== undefined;
  return { table, functions, debugFile, hasDebugInformation };
}

const keyOf = (symbol: FunctionSymbol): string =>
  `${symbol.address.toString(16)} ${versionedName(symbol)}`;

/** Functions by `nm -f sysv`: name, value, class, type. */
function nmFunctions(path: string, more: readonly string[]): string[] {
  const lines = output('nm', [...more, '-f', 'sysv', '--defined-only', path]);
  return lines.flatMap((line) => {
    const [name = '', value = '', , type = ''] = line.split('|').map((part) => part.trim());
    // A debug file does not say that its 10 is GNU's, an IFUNC.
    return /^I?FUNC$|^<OS specific>: 10$/.test(type)
      ? [`${BigInt(`0x${value}`).toString(16)} ${name}`]
      : [];
  });
}

function difference(ours: ReadonlySet<string>, theirs: ReadonlySet<string>): object {
  return {
    missing: [...theirs].filter((one) => !ours.has(one)),
    invented: [...ours].filter((one) => !theirs.has(one)),
  };
}

/** Versions are written in other ways by the other tools; nm's are compared. */
const plain = (name: string): string => name.replace(/(?<=.)@.*/, '');

const none = { missing: [], invented: [] };

test('functions are those of nm, in the file and in its debug file', (t) => {
  if (skipUnless(t, 'nm')) return;
  let total = 0;
  for (const path of systemFiles()) {
    const { functions, debugFile } = open(path);
    const typed = functions.filter(({ kind }) => kind !== 'assembly');
    const theirs = new Set([
      ...nmFunctions(path, ['-D']),
      ...nmFunctions(path, []),
      ...(debugFile === undefined ? [] : nmFunctions(debugFile, [])),
    ]);
    assert.deepEqual(difference(new Set(typed.map(keyOf)), theirs), none, path);
    total += theirs.size;
  }
  assert.ok(total > 100, `${total} functions`);
});

test('functions are those of eu-readelf', (t) => {
  if (skipUnless(t, 'eu-readelf')) return;
  let total = 0;
  for (const path of systemFiles()) {
    const { functions } = open(path);
    const own = functions.filter(
      ({ kind, table }) => kind !== 'assembly' && (table === 'symtab' || table === 'dynsym'),
    );
    const theirs = output('eu-readelf', ['-s', path]).flatMap((line) => {
      const match = /^ *\d+: ([0-9a-f]+) +(\d+) (?:FUNC|GNU_IFUNC) +\w+ +\w+ +(\w+) (\S+)/.exec(
        line,
      );
      if (match === null || match[3] === 'UNDEF') return [];
      return [`${BigInt(`0x${match[1]}`).toString(16)} ${match[2]} ${plain(match[4] ?? '')}`];
    });
    const ours = own.map(
      ({ address, size, sizeKnown, name }) =>
        `${address.toString(16)} ${sizeKnown ? size : 0} ${plain(name)}`,
    );
    assert.deepEqual(difference(new Set(ours), new Set(theirs)), none, path);
    total += theirs.length;
  }
  assert.ok(total > 100, `${total} functions`);
});

test('places are in the functions that addr2line says', (t) => {
  if (skipUnless(t, 'addr2line')) return;
  let total = 0;
  for (const path of systemFiles()) {
    const { table, functions, hasDebugInformation } = open(path);
    // There it tells what was inlined, and the compiler's names, which may be others than the linker's.
    if (hasDebugInformation) continue;
    const known = functions.filter(({ sizeKnown }) => sizeKnown);
    const step = Math.ceil(known.length / PLACES);
    const places = known
      .filter((_, at) => at % step === 0)
      .flatMap(({ address, offset, size }) => [
        { address, offset: Number(offset) },
        { address: address + BigInt(size - 1), offset: offset + size - 1 },
      ]);
    const input = places.map(({ address }) => `0x${address.toString(16)}\n`).join('');
    const lines = output('addr2line', ['-f', '-e', path], input);
    places.forEach(({ offset }, at) => {
      const theirs = plain(lines[at * 2] ?? '');
      const covering = known
        .filter((one) => one.offset <= offset && offset < one.offset + one.size)
        .map(({ name }) => name);
      assert.ok(covering.includes(theirs), `${path} ${offset}: ${theirs}, not ${covering.join()}`);
      assert.ok(covering.includes(table.at(fileOffset(offset))?.name ?? ''), path);
    });
    total += places.length;
  }
  assert.ok(total > 100, `${total} places`);
});
