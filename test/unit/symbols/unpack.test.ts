/** What is packed inside files: xz data and compressed sections, against the programs that pack. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { deflateSync } from 'node:zlib';

import * as fc from 'fast-check';

import { TraplineError } from '../../../src/base/errors.ts';
import { sectionContents } from '../../../src/symbols/compressed.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { MAX_XZ_BYTES, unpackXz } from '../../../src/symbols/xz.ts';
import { isLong, skipUnless } from '../../harness/features.ts';
import { compile, openElf, run } from './fixtures.ts';
import { CPP_SOURCE } from './sources.ts';
import { bytesOf, tinyElf } from './tiny-elf.ts';

function xz(data: Uint8Array, ...options: readonly string[]): Uint8Array {
  return execFileSync('xz', ['-c', ...options], { input: data, maxBuffer: 1 << 28 });
}

const texts: Readonly<Record<string, Uint8Array>> = {
  nothing: new Uint8Array(),
  'one byte': Uint8Array.of(7),
  'a program': readFileSync('/bin/ls'),
  'what can not be packed': randomBytes(70_000),
  'the same for ever': new Uint8Array(300_000),
  'both by turns': Buffer.concat(
    Array.from({ length: 5 }, (_, turn) =>
      turn % 2 === 0 ? randomBytes(70_000) : Buffer.alloc(70_000, `turn ${turn} `),
    ),
  ),
};

const OPTIONS: readonly (readonly string[])[] = [
  ['-6'],
  ['-0'],
  ['-3e'],
  ['-1', '--check=crc32'],
  ['-1', '--check=sha256'],
  ['-1', '--check=none'],
  ['-1', '--block-size=100000'],
  ['--lzma2=preset=2,lc=0,lp=4,pb=0'],
  ['--lzma2=preset=2,lc=4,lp=0,pb=4,dict=4096'],
  ['--lzma2=preset=1,lc=1,lp=2,pb=3'],
];

test('xz data come out as they went in', (t) => {
  if (skipUnless(t, 'xz')) return;
  for (const [name, data] of Object.entries(texts)) {
    for (const options of OPTIONS) {
      const out = unpackXz(xz(data, ...options), 'packed');
      assert.ok(Buffer.from(data).equals(out), `${name}, ${options.join(' ')}`);
    }
  }
});

/** The code of the error that some work ends with, which names its source. */
function codeOf(work: () => unknown, source: string): string {
  try {
    work();
    return 'none';
  } catch (error) {
    assert.ok(error instanceof TraplineError && error.message.startsWith(source), String(error));
    return error.code;
  }
}

const unpackCode = (bytes: Uint8Array): string =>
  codeOf(() => unpackXz(bytes, 'packed'), 'packed: ');

test('xz data that would be too large, are of another kind, or were cut', (t) => {
  if (skipUnless(t, 'xz')) return;
  const bomb = xz(new Uint8Array(MAX_XZ_BYTES + 1), '-0');
  assert.ok(bomb.length < 20_000);
  assert.equal(unpackCode(bomb), 'limit');
  assert.equal(unpackCode(xz(readFileSync('/bin/ls'), '--x86', '--lzma2')), 'unsupported');
  assert.equal(unpackCode(new Uint8Array()), 'bad-elf');
  const good = xz(readFileSync('/bin/ls').subarray(0, 20_000));
  for (let size = 0; size < good.length - 12; size += 97) {
    assert.equal(unpackCode(good.subarray(0, size)), 'bad-elf', `cut at ${size}`);
  }
});

test('damaged xz data are told as damaged, quickly', (t) => {
  if (skipUnless(t, 'xz')) return;
  const original = readFileSync('/bin/ls').subarray(0, 30_000);
  const good = xz(original, '--check=crc64', '--block-size=12000');
  let told = 0;
  let runs = 0;
  const change = fc.array(fc.tuple(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 3,
  });
  fc.assert(
    fc.property(change, (changes) => {
      const mutant = Uint8Array.from(good);
      for (const [at, difference] of changes) mutant[at] = (mutant[at] ?? 0) ^ difference;
      runs++;
      try {
        const out = unpackXz(mutant, 'packed');
        // Behind the index nothing is read; before its end every change has to be seen.
        assert.ok(original.equals(out));
      } catch (error) {
        assert.ok(error instanceof TraplineError, String(error));
        told++;
      }
    }),
    { numRuns: isLong() ? 100_000 : 300 },
  );
  assert.ok(told > runs / 2, `${told} of ${runs}`);
});

test('compressed sections are what they were', (t) => {
  if (skipUnless(t, 'gcc', 'objcopy')) return;
  const plain = compile('packed.cc', CPP_SOURCE, ['-O1', '-g']);
  const wanted = openElf(plain);
  const kinds = ['zlib', 'zlib-gnu', ...(knowsZstd() ? ['zstd'] : [])];
  for (const kind of kinds) {
    const path = `${plain}.${kind}`;
    run('objcopy', [`--compress-debug-sections=${kind}`, plain, path]);
    const elf = openElf(path);
    let compared = 0;
    let packed = 0;
    for (const section of elf.sections) {
      const name = section.name.replace(/^\.zdebug_/, '.debug_');
      const original = wanted.section(name);
      if (!name.startsWith('.debug_') || original === undefined) continue;
      const contents = sectionContents(elf, section);
      assert.ok(Buffer.from(wanted.sectionBytes(original)).equals(contents), `${kind} ${name}`);
      compared++;
      if (elf.sectionBytes(section).length < contents.length) packed++;
    }
    assert.ok(compared > 4 && packed > 2, `${kind}: ${packed} of ${compared}`);
  }
});

function knowsZstd(): boolean {
  return /compress-debug-sections\[=\{[^}]*zstd/.test(run('objcopy', ['--help']));
}

/** What becomes of a section with a compression header that says so. */
function contentsCode(kind: number, size: bigint, data: Uint8Array): string {
  const bytes = bytesOf((w) => w.u32(kind).u32(0).u64(size).u64(1n).raw(data));
  const elf = ElfFile.open(tinyElf([{ name: '.debug_x', type: 1, flags: 0x800, bytes }]), 'prog');
  const section = elf.section('.debug_x');
  assert.ok(section);
  return codeOf(() => sectionContents(elf, section), 'prog .debug_x');
}

test('a compressed section that claims what it can not hold', () => {
  const packed = deflateSync(new Uint8Array(1000));
  assert.equal(contentsCode(1, 1000n, packed), 'none');
  assert.equal(contentsCode(1, 999n, packed), 'bad-elf');
  assert.equal(contentsCode(1, 1001n, packed), 'bad-elf');
  assert.equal(contentsCode(1, 1n << 40n, packed), 'limit');
  assert.equal(contentsCode(1, 1n << 27n, packed), 'bad-elf');
  assert.equal(contentsCode(1, 1000n, packed.subarray(0, 5)), 'bad-elf');
  assert.equal(contentsCode(2, 1000n, packed), 'bad-elf');
  assert.equal(contentsCode(2, 1000n, new Uint8Array()), 'bad-elf');
  assert.equal(contentsCode(3, 1000n, packed), 'unsupported');
});
