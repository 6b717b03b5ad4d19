import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import * as fc from 'fast-check';

import { fileOffset } from '../../../src/base/brand.ts';
import { TraplineError } from '../../../src/base/errors.ts';
import { demangleRustLegacy } from '../../../src/symbols/demangle-rust-legacy.ts';
import { demangleRustV0 } from '../../../src/symbols/demangle-rust-v0.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { functionBounds } from '../../../src/symbols/function-bounds.ts';
import { goText } from '../../../src/symbols/go.ts';
import { allLandingPads, landingPads } from '../../../src/symbols/landing-pads.ts';
import { restartableSequences } from '../../../src/symbols/restartable.ts';
import { withoutParameters } from '../../../src/symbols/signature.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { tidOffset } from '../../../src/symbols/thread-id.ts';
import { unwindTables } from '../../../src/symbols/unwind.ts';
import { compile, without, write } from './fixtures.ts';
import { CPP_SOURCE, VERSIONED_SOURCE, VERSION_SCRIPT } from './sources.ts';

const skip = without('gcc', 'g++');

/** Every question of the folder; each may fail on its own. */
const QUESTIONS: readonly ((elf: ElfFile) => unknown)[] = [
  (elf) => [elf.buildId, elf.interpreter, elf.segmentTails(), elf.executableSegments()],
  (elf) => [elf.needed, elf.soname, elf.runpath],
  (elf) => elf.sections,
  (elf) => SymbolTable.of(elf).find('work@FIX_1.0'),
  (elf) => SymbolTable.of(elf).find('ns::Class::method'),
  (elf) => SymbolTable.of(elf).functions(),
  (elf) => SymbolTable.of(elf).near('wrok', 5),
  (elf) => SymbolTable.of(elf).glob('*o*'),
  (elf) => places(elf).map((place) => SymbolTable.of(elf).at(place)),
  (elf) => places(elf).map((place) => SymbolTable.of(elf).aliasesAt(place)),
  (elf) => places(elf).map((place) => functionBounds(elf, place)),
  (elf) => places(elf).map((place) => landingPads(elf, place)),
  (elf) => unwindTables(elf).all(),
  (elf) => allLandingPads(elf),
  (elf) => restartableSequences(elf),
  (elf) => goText(elf),
  (elf) => tidOffset(elf),
];

function places(elf: ElfFile): ReturnType<typeof fileOffset>[] {
  return elf
    .executableSegments()
    .flatMap((one) => [one.fileOffset, fileOffset(one.fileOffset + Math.floor(one.fileSize / 2))]);
}

/** Asks everything; returns how many questions had an answer. */
function interrogate(bytes: Uint8Array): number {
  let elf: ElfFile;
  try {
    elf = ElfFile.open(bytes, 'mutant');
  } catch (error) {
    checkError(error);
    return 0;
  }
  let answered = 0;
  for (const question of QUESTIONS) {
    const started = performance.now();
    try {
      question(elf);
      answered++;
    } catch (error) {
      checkError(error);
    }
    const spent = performance.now() - started;
    assert.ok(spent < 1000, `${question.toString()} took ${spent} ms`);
  }
  return answered;
}

function checkError(error: unknown): void {
  assert.ok(error instanceof TraplineError, error instanceof Error ? error.stack : String(error));
  assert.match(error.code, /^(bad-elf|unsupported|limit)$/);
  assert.match(error.message, /^mutant/);
}

/** Offsets where a change hurts: the headers and every table, not code and not debug data. */
function sensitiveRanges(bytes: Uint8Array): [number, number][] {
  const elf = ElfFile.open(bytes, 'fixture');
  const ranges: [number, number][] = [
    [0, 64],
    [64, 64 + elf.programHeaders.length * 56],
    [elf.header.sectionHeaderOffset, bytes.length],
  ];
  for (const { name, offset, size } of elf.sections) {
    if (/sym|str|dyn|hash|version|eh_frame|except|note|rela|interp/.test(name) && size > 0) {
      ranges.push([offset, offset + size]);
    }
  }
  return ranges;
}

function mutations(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const place = fc
    .constantFrom(...sensitiveRanges(bytes))
    .chain(([start, end]) => fc.integer({ min: start, max: Math.min(end, bytes.length) - 1 }));
  const value = fc.oneof(
    fc.constantFrom([0], [0xff], [0x7f], [0, 0, 0, 0], [0xff, 0xff, 0xff, 0xff]),
    fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 1, maxLength: 8 }),
  );
  const changes = fc.array(fc.tuple(place, value), { minLength: 1, maxLength: 4 });
  return fc
    .tuple(
      changes,
      fc.oneof(
        { weight: 15, arbitrary: fc.constant(null) },
        { weight: 1, arbitrary: fc.nat(bytes.length) },
      ),
    )
    .map(([list, cut]) => {
      const mutant = Uint8Array.from(bytes);
      for (const [at, values] of list) mutant.set(values.slice(0, mutant.length - at), at);
      return cut === null ? mutant : mutant.subarray(0, cut);
    });
}

function fixture(kind: 'C++' | 'versions' | 'bare'): Uint8Array {
  if (kind === 'C++')
    return new Uint8Array(readFileSync(compile('mutant.cc', CPP_SOURCE, ['-O1'])));
  const script = write('mutant.map', VERSION_SCRIPT);
  const options = ['-O1', '-shared', '-fPIC', `-Wl,--version-script=${script}`];
  const path = compile('mutant.c', VERSIONED_SOURCE, [
    ...options,
    ...(kind === 'bare' ? ['-s'] : []),
  ]);
  return new Uint8Array(readFileSync(path));
}

for (const kind of ['C++', 'versions', 'bare'] as const) {
  test(`a damaged file (${kind}) is told as damaged, quickly`, { skip }, () => {
    const bytes = fixture(kind);
    assert.equal(interrogate(bytes), QUESTIONS.length);
    let answered = 0;
    let asked = 0;
    fc.assert(
      fc.property(mutations(bytes), (mutant) => {
        answered += interrogate(mutant);
        asked += QUESTIONS.length;
      }),
      { numRuns: 1200 },
    );
    // Damage in one table must not hide the others, nor may all damage go unseen.
    assert.ok(answered > asked / 4 && answered < asked, `${answered} of ${asked}`);
  });
}

test('demanglers answer every text', () => {
  const rust = fc.string({
    unit: fc.constantFrom(...Array.from('NCINvMXYBEsLKpRTSADFG0123_abcu7.$')),
  });
  fc.assert(
    fc.property(fc.oneof(rust, fc.string()), (text) => {
      demangleRustV0(`_R${text}`);
      demangleRustLegacy(`_ZN${text}`);
      assert.equal(typeof withoutParameters(text), 'string');
    }),
    { numRuns: 5000 },
  );
});
