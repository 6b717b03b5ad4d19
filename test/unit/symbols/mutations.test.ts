import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';

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
import { DebugFile } from '../../../src/symbols/debug-file.ts';
import { commonLink, debugLink } from '../../../src/symbols/debug-link.ts';
import { sectionContents } from '../../../src/symbols/compressed.ts';
import { goFunctionTable, goSymbols } from '../../../src/symbols/go-functions.ts';
import { linkageSymbols } from '../../../src/symbols/linkage-table.ts';
import { staticSymbols } from '../../../src/symbols/symbol-rows.ts';
import { symbolSources } from '../../../src/symbols/symbol-sources.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { tidOffset } from '../../../src/symbols/thread-id.ts';
import { unnamedFunctions } from '../../../src/symbols/unnamed-functions.ts';
import { unwindTables } from '../../../src/symbols/unwind.ts';
import { isLong, skipUnless } from '../../harness/features.ts';
import { compile, run, write } from './fixtures.ts';
import { GO_LAYOUTS, goFile } from './go-table.ts';
import { CPP_SOURCE, VERSIONED_SOURCE, VERSION_SCRIPT } from './sources.ts';

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
  (elf) => SymbolTable.of(elf).find('rand@plt'),
  (elf) => SymbolTable.of(elf).find('hidden_for_good'),
  (elf) => linkageSymbols(elf),
  (elf) => [debugLink(elf), commonLink(elf)],
  (elf) => [goFunctionTable(elf), goSymbols(elf)],
  (elf) => elf.sections.map((section) => sectionContents(elf, section)),
  (elf) => unnamedFunctions(elf, SymbolTable.of(elf).functions()),
  (elf) => staticSymbols(DebugFile.ofBytes(elf.bytes, 'mutant')),
  (elf) => {
    const { further, problems } = symbolSources(elf);
    for (const problem of problems) assert.match(problem, /^mutant/);
    return further;
  },
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
    // Far beyond what a busy machine makes of a millisecond: only a search without end takes so long.
    assert.ok(spent < 30_000, `${question.toString()} took ${spent} ms`);
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
    if (
      /sym|str|dyn|hash|version|eh_frame|except|note|rela|interp|gnu_debug|pclntab|go\.module|plt/.test(
        name,
      ) &&
      size > 0
    ) {
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

const FIXTURES: Readonly<Record<string, () => Uint8Array>> = {
  'C++': () => read(compile('mutant.cc', CPP_SOURCE, ['-O1'])),
  versions: () => versioned([]),
  bare: () => versioned(['-s']),
  packed,
  ...Object.fromEntries(GO_LAYOUTS.map((layout) => [`Go ${layout}`, () => goFile(layout)])),
};

function read(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

function versioned(more: readonly string[]): Uint8Array {
  const script = write('mutant.map', VERSION_SCRIPT);
  const options = ['-O1', '-shared', '-fPIC', `-Wl,--version-script=${script}`];
  return read(compile('mutant.c', VERSIONED_SOURCE, [...options, ...more]));
}

/** Without symbols; with a linkage table, a debug link, a packed mini symbol table and packed sections. */
function packed(): Uint8Array {
  const source = '#include <stdlib.h>\nint main() { return rand(); }';
  const path = compile('packed-mutant.c', source, ['-g', '-O1']);
  const mini = `${path}.mini`;
  run('objcopy', ['-S', '--keep-symbol=main', path, mini]);
  run('xz', ['-kf', mini]);
  const out = `${path}.packed`;
  const options = ['--strip-all', `--add-gnu-debuglink=${path}`];
  for (const [section, file] of [
    ['.gnu_debugdata', `${mini}.xz`],
    ['.zdebug_x', write('zlib.bin', zlibSection())],
    ['.gnu_debug_y', write('zstd.bin', zstdSection())],
  ] as const) {
    options.push('--add-section', `${section}=${file}`);
  }
  run('objcopy', [...options, path, out]);
  const bytes = read(out);
  // No tool sets the flag of a section that it did not pack itself.
  const elf = ElfFile.open(bytes, out);
  const at = elf.section('.gnu_debug_y')?.index ?? 0;
  bytes[elf.header.sectionHeaderOffset + at * 64 + 9] = 8;
  return bytes;
}

function zlibSection(): Uint8Array {
  const head = Buffer.from([0x5a, 0x4c, 0x49, 0x42, 0, 0, 0, 0, 0, 0, 3, 0xe8]);
  return Buffer.concat([head, deflateSync(Buffer.alloc(1000, 'text of a section '))]);
}

/** A compression header and a frame of one block of 100 equal bytes (RFC 8878). */
function zstdSection(): Uint8Array {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(2, 0);
  header.writeUInt32LE(100, 8);
  header.writeUInt32LE(1, 16);
  const block = 1 | (1 << 1) | (100 << 3);
  const frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 100, block & 0xff, (block >> 8) & 0xff, 0, 0x61];
  return Buffer.concat([header, Buffer.from(frame)]);
}

/** The large one takes ten times as long as the others. A million together in the long form. */
function runsOf(kind: string): number {
  if (kind === 'C++') return isLong() ? 20_000 : 300;
  if (kind.startsWith('Go')) return isLong() ? 125_000 : 500;
  return isLong() ? 160_000 : 600;
}

for (const [kind, fixture] of Object.entries(FIXTURES)) {
  test(`a damaged file (${kind}) is told as damaged, quickly`, (t) => {
    if (skipUnless(t, 'gcc', 'g++', 'objcopy', 'xz')) return;
    const bytes = fixture();
    assert.equal(interrogate(bytes), QUESTIONS.length);
    let answered = 0;
    let asked = 0;
    fc.assert(
      fc.property(mutations(bytes), (mutant) => {
        answered += interrogate(mutant);
        asked += QUESTIONS.length;
      }),
      { numRuns: runsOf(kind) },
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
