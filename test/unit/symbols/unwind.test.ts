import assert from 'node:assert/strict';
import { test } from 'node:test';

import { fileOffset } from '../../../src/base/brand.ts';
import { boundsByFrame } from '../../../src/symbols/function-bounds.ts';
import { allLandingPads, landingPads } from '../../../src/symbols/landing-pads.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { unwindTables } from '../../../src/symbols/unwind.ts';
import { compile, openElf, run, without, withoutSectionHeaders } from './fixtures.ts';
import { CPP_SOURCE } from './sources.ts';

const skip = without('gcc', 'g++', 'readelf', 'objdump');

function framesByReadelf(path: string): string[] {
  return [
    ...run('readelf', ['--debug-dump=frames', '-W', path]).matchAll(/FDE .*pc=(\w+)\.\.(\w+)/g),
  ]
    .map(([, start = '', end = '']) => `${Number.parseInt(start, 16)} ${Number.parseInt(end, 16)}`)
    .sort();
}

const LINKAGES = [
  ['-O2'],
  ['-O2', '-no-pie', '-static'],
  ['-O2', '-Wl,--no-eh-frame-hdr'],
  // Without crtend.o nothing marks the end of .eh_frame.
  ['-O2', '-shared', '-fPIC', '-nostartfiles'],
];

for (const options of LINKAGES) {
  test(`frames are readelf's (${options.join(' ')})`, { skip }, () => {
    const path = compile('frames.cc', CPP_SOURCE, options);
    const elf = openElf(path);
    const ours = unwindTables(elf).all();
    const lines = ours.map(({ start, end }) => `${start} ${end}`).sort();
    const theirs = framesByReadelf(path);
    assert.ok(theirs.length > 3);
    assert.deepEqual(lines, theirs);
    for (const { start, end } of ours) {
      for (const address of [start, end - 1]) {
        const found = unwindTables(elf).find(address);
        assert.deepEqual([found?.start, found?.end], [start, end]);
      }
    }
    assert.equal(unwindTables(elf).find(0), undefined);
  });
}

test('frames bound functions as their symbols do, without section headers too', { skip }, () => {
  const path = compile('bounds.cc', CPP_SOURCE, ['-O1']);
  const bare = withoutSectionHeaders(path);
  for (const symbol of SymbolTable.of(openElf(path)).functions()) {
    // The linkage table has one frame for all its entries.
    if (!symbol.sizeKnown || symbol.kind === 'plt' || symbol.name.startsWith('_start')) continue;
    const bounds = boundsByFrame(bare, fileOffset(symbol.offset + symbol.size - 1));
    assert.equal(bounds?.start, symbol.offset, symbol.name);
    assert.equal(bounds.end, symbol.offset + symbol.size, symbol.name);
  }
});

/**
 * The pads of all functions by the assembler's listing: labels that the exception tables of the
 * compiler's own output name as the third column of call sites.
 */
function padLabels(assembly: string): Map<string, Set<string>> {
  const pads = new Map<string, Set<string>>();
  let current = '';
  const lines = assembly.split('\n');
  for (const [at, line] of lines.entries()) {
    const table = /^\.LLSDA(\d+):|^\.LLSDAC(\d+):/.exec(line);
    if (table !== null) current = table[0];
    const isSite = /^\s+\.uleb128 \.L\w+-\.L\w+$/.test(line);
    const site = isSite ? /^\s+\.uleb128 (\.L\w+)-(\.L\w+)$/.exec(lines[at + 2] ?? '') : null;
    if (site?.[1] === undefined || current === '') continue;
    const isFirst = /^\s+\.uleb128 (\.LEHB\w+)-/.test(line);
    if (!isFirst || !/^\.L\d+$/.test(site[1])) continue;
    pads.set(current, (pads.get(current) ?? new Set()).add(site[1]));
  }
  return pads;
}

const byValue = (a: number, b: number): number => a - b;

test('landing pads of C++ are those that the compiler wrote', { skip }, () => {
  for (const options of [['-O0'], ['-O2'], ['-O2', '-fPIC', '-shared']]) {
    const path = compile('throw.cc', CPP_SOURCE, options);
    const assembly = run(
      'g++',
      [...options.filter((one) => one !== '-shared'), '-S', '-x', 'c++', '-o', '-', '-'],
      CPP_SOURCE,
    );
    const expected = [...padLabels(assembly).values()].map(({ size }) => size).sort(byValue);
    assert.ok(expected.length >= 2);
    const elf = openElf(path);
    const counts: number[] = [];
    for (const frame of unwindTables(elf).all()) {
      if (frame.languageData === undefined) continue;
      const start = elf.loads.offsetOf(frame.start);
      const found = landingPads(elf, fileOffset(start));
      assert.equal(found.kind, 'known');
      if (found.kind === 'known' && found.pads.length > 0) counts.push(found.pads.length);
    }
    assert.deepEqual(counts.sort(byValue), expected);
    checkPadsAreInstructions(path);
  }
});

/** Each pad begins an instruction, and by psABI a pad finds the exception in rax. */
function checkPadsAreInstructions(path: string): void {
  const elf = openElf(path);
  const found = allLandingPads(elf);
  assert.equal(found.kind, 'known');
  const listing = run('objdump', ['-d', '--no-show-raw-insn', path]);
  const starts = new Set(
    [...listing.matchAll(/^ +([0-9a-f]+):/gm)].map(([, at = '']) => Number.parseInt(at, 16)),
  );
  assert.ok(found.kind === 'known' && found.pads.length > 0);
  for (const pad of found.pads) assert.ok(starts.has(Number(elf.addressOf(pad))), `pad ${pad}`);
}

test('a function that throws nothing has no pads; a damaged table is unknown', { skip }, () => {
  const path = compile('calm.cc', CPP_SOURCE, ['-O1']);
  const elf = openElf(path);
  const table = SymbolTable.of(elf);
  const calm = table.find('_ZN2ns4calmEi')[0];
  const catcher = table.find('_ZN2ns7catcherEi')[0];
  assert.ok(calm !== undefined && catcher !== undefined);
  assert.deepEqual(landingPads(elf, calm.offset), { kind: 'known', pads: [] });
  const good = landingPads(elf, catcher.offset);
  assert.ok(good.kind === 'known' && good.pads.length > 1);
  const section = elf.section('.gcc_except_table');
  assert.ok(section !== undefined);
  elf.bytes.fill(0xff, section.offset, section.offset + section.size);
  const bad = landingPads(elf, catcher.offset);
  assert.equal(bad.kind, 'unknown');
  assert.ok(bad.kind === 'unknown' && bad.reason.includes('exception table'));
});
