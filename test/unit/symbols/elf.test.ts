import assert from 'node:assert/strict';
import { existsSync, realpathSync } from 'node:fs';
import { test } from 'node:test';

import { fileOffset } from '../../../src/base/brand.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { tidOffset } from '../../../src/symbols/thread-id.ts';
import { compile, openElf, run, without, withoutSectionHeaders } from './fixtures.ts';
import { C_SOURCE } from './sources.ts';
import { BASE, FIRST, bytesOf, symbolRows, tinyElf, type TinySection } from './tiny-elf.ts';

const skip = without('gcc', 'readelf');
const CODE: TinySection = {
  name: '.text',
  type: 1,
  flags: 6,
  bytes: new Uint8Array(64).fill(0x90),
};
const TEXT = BASE + FIRST;

function expectError(act: () => unknown, code: string, message: RegExp): void {
  assert.throws(act, { name: 'TraplineError', code, message });
}

const open = (bytes: Uint8Array) => (): ElfFile => ElfFile.open(bytes, 'prog');

test('what is not for us is refused by name', () => {
  const change = (at: number, ...values: number[]): Uint8Array => {
    const bytes = tinyElf([CODE]);
    bytes.set(values, at);
    return bytes;
  };
  expectError(open(new Uint8Array()), 'bad-elf', /prog: not an ELF file/);
  expectError(open(new TextEncoder().encode('#!/bin/sh\n')), 'bad-elf', /not an ELF file/);
  expectError(open(change(4, 1)), 'unsupported', /32-bit/);
  expectError(open(change(4, 9)), 'bad-elf', /class/);
  expectError(open(change(5, 2)), 'unsupported', /little-endian/);
  expectError(open(change(18, 183)), 'unsupported', /machine 183/);
  expectError(open(change(16, 1)), 'unsupported', /neither a program nor a shared library/);
  expectError(open(change(16, 4)), 'unsupported', /neither/);
  expectError(open(change(54, 32)), 'bad-elf', /program header has 32 bytes/);
  expectError(open(change(58, 40)), 'bad-elf', /section header has 40 bytes/);
  expectError(open(change(56, 0xfe, 0xff)), 'bad-elf', /program headers/);
  expectError(open(change(39, 1)), 'bad-elf', /not possible/);
  expectError(open(tinyElf([CODE]).subarray(0, 40)), 'bad-elf', /cut off/);
});

test('sections that claim too much, or entries of no size', () => {
  const strings = { name: '.strtab', type: 3, bytes: Uint8Array.of(0, 0x66, 0) };
  const symbols = (more: Partial<TinySection>): SymbolTable =>
    SymbolTable.of(
      ElfFile.open(
        tinyElf([
          CODE,
          strings,
          {
            name: '.symtab',
            type: 2,
            bytes: symbolRows([[1, 0x12, 1, TEXT, 4]]),
            link: 2,
            entrySize: 24,
            ...more,
          },
        ]),
        'prog',
      ),
    );
  assert.equal(symbols({}).find('f')[0]?.offset, FIRST);
  expectError(
    () => symbols({ claimedSize: 1n << 60n }),
    'bad-elf',
    /section headers.*not possible/,
  );
  expectError(() => symbols({ claimedSize: 1n << 50n }), 'bad-elf', /\.symtab.*outside the file/);
  expectError(() => symbols({ entrySize: 0 }), 'bad-elf', /\.symtab.*0 bytes, not 24/);
  expectError(() => symbols({ link: 77 }), 'bad-elf', /no string table/);
  const outside = symbols({ bytes: symbolRows([[500, 0x12, 1, TEXT, 4]]) });
  assert.deepEqual(outside.find('f'), []);
  expectError(() => outside.functions(), 'bad-elf', /name of symbol 1/);
  const huge = symbols({
    bytes: symbolRows([
      [1, 0x12, 1, TEXT + 60, 1n << 63n],
      [1, 0x12, 1, 1n << 60n, 1],
    ]),
  });
  const found = huge.find('f');
  assert.equal(found.length, 1);
  assert.equal(found[0]?.sizeKnown, false);
  assert.equal(found[0].size, 4);
});

const hash = (chains: number): Uint8Array => bytesOf((w) => w.u32(1).u32(chains));

const gnu = (bucket: number, ...chain: number[]): Uint8Array =>
  bytesOf((w) => {
    w.u32(1).u32(1).u32(1).u32(0).u64(0n).u32(bucket);
    for (const one of chain) w.u32(one);
  });

const count = (elf: ElfFile): number => SymbolTable.of(elf).find('f').length;

test('dynamic tables: counts by either hash, chains that never end', () => {
  const rows = symbolRows([
    [1, 0x12, 1, TEXT, 4],
    [1, 0x12, 1, TEXT + 16, 4],
  ]);
  const build = (tag: number, table: Uint8Array, patch: Record<number, bigint> = {}): ElfFile => {
    const at = (section: number): bigint => BigInt(BASE + (offsets[section] ?? 0));
    const sections = [
      CODE,
      strings,
      { name: '.dynsym', type: 11, bytes: rows },
      { name: '.h', type: 5, bytes: table },
    ];
    const offsets: number[] = [];
    let next = FIRST;
    for (const { bytes } of sections) {
      next = Math.ceil(next / 16) * 16;
      offsets.push(next);
      next += bytes.length;
    }
    const entries = new Map([
      [5, at(1)],
      [10, 3n],
      [6, at(2)],
      [11, 24n],
      [tag, at(3)],
    ]);
    for (const [key, value] of Object.entries(patch)) entries.set(Number(key), value);
    return ElfFile.open(tinyElf(sections, { dynamic: [...entries] }), 'lib');
  };
  const strings = { name: '.dynstr', type: 3, bytes: Uint8Array.of(0, 0x66, 0) };
  assert.equal(count(build(4, hash(3))), 2);
  assert.equal(count(build(4, hash(2))), 1);
  assert.equal(count(build(0x6ffffef5, gnu(1, 2, 3))), 2);
  assert.equal(count(build(0x6ffffef5, gnu(1, 3))), 1);
  // It knows none: the section says how many there are.
  assert.equal(count(build(0x6ffffef5, gnu(0))), 2);
  expectError(() => count(build(4, hash(0xffffffff))), 'bad-elf', /dynamic symbols/);
  // Even hashes to the end of the segment: the chain has no last entry.
  expectError(() => count(build(0x6ffffef5, gnu(0xfffffff0, 2))), 'bad-elf', /GNU hash/);
  expectError(() => count(build(4, hash(3), { 11: 0n })), 'bad-elf', /0 bytes, not 24/);
  expectError(() => count(build(4, hash(3), { 5: 1n << 60n })), 'bad-elf', /not in the file/);
  expectError(() => count(build(4, hash(3), { 10: 1n << 62n })), 'bad-elf', /leave their segment/);
  expectError(() => build(4, hash(3), { 14: 99n }).soname, 'bad-elf', /dynamic strings/);
});

const note = (size: number, ...id: number[]): Uint8Array =>
  bytesOf((w) =>
    w
      .u32(4)
      .u32(size)
      .u32(3)
      .raw(Uint8Array.of(0x47, 0x4e, 0x55, 0, ...id)),
  );

test('notes: build id, other owners, a note that leaves its segment', () => {
  const stranger = bytesOf((w) =>
    w
      .u32(3)
      .u32(1)
      .u32(3)
      .raw(Uint8Array.of(0x41, 0x42, 0, 0, 9, 0, 0, 0)),
  );
  const both = Uint8Array.from([...stranger, ...note(3, 0xab, 0xcd, 0x01, 0)]);
  assert.equal(ElfFile.open(tinyElf([CODE], { note: both }), 'prog').buildId, 'abcd01');
  assert.equal(ElfFile.open(tinyElf([CODE], { note: stranger }), 'prog').buildId, undefined);
  const bad = ElfFile.open(tinyElf([CODE], { note: note(0x7fffffff) }), 'prog');
  expectError(() => bad.buildId, 'bad-elf', /notes/);
});

test('headers of compiled files are those that readelf shows', { skip }, () => {
  for (const options of [
    ['-pie', '-fPIE'],
    ['-no-pie'],
    ['-static', '-no-pie'],
    [
      '-shared',
      '-fPIC',
      '-Wl,-soname,libfix.so.1',
      '-Wl,-rpath,/opt/fix/lib',
      '-Wl,--enable-new-dtags',
    ],
  ]) {
    const path = compile('header.c', C_SOURCE, ['-O1', '-Wl,--build-id=sha1', ...options]);
    const shown = run('readelf', ['-hldn', '-W', path]);
    const grab = (pattern: RegExp): string | undefined => pattern.exec(shown)?.[1];
    for (const elf of [openElf(path), withoutSectionHeaders(path)]) {
      assert.equal(elf.type, grab(/Type: +(EXEC|DYN)/) === 'EXEC' ? 'fixed' : 'shared');
      assert.equal(elf.entry, BigInt(grab(/Entry point address: +(\w+)/) ?? -1));
      assert.equal(elf.buildId, grab(/Build ID: (\w+)/));
      assert.ok(elf.buildId !== undefined);
      assert.equal(elf.interpreter, grab(/interpreter: (.*)\]/));
      assert.equal(elf.soname, grab(/\(SONAME\).*\[(.*)\]/));
      assert.equal(elf.runpath, grab(/\(RUNPATH\).*\[(.*)\]/));
      assert.deepEqual(
        elf.needed,
        [...shown.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name),
      );
      const segments = [...shown.matchAll(/LOAD +(\w+) (\w+) \w+ (\w+) \w+ R E/g)];
      assert.deepEqual(
        elf.executableSegments(),
        segments.map(([, offset, address, size]) => ({
          fileOffset: Number(offset),
          address: BigInt(address ?? -1),
          fileSize: Number(size),
        })),
      );
      checkTails(elf);
    }
  }
});

function checkTails(elf: ElfFile): void {
  const [segment] = elf.executableSegments();
  const [tail] = elf.segmentTails();
  assert.ok(segment !== undefined && tail !== undefined);
  assert.equal(tail.fileOffset, segment.fileOffset + segment.fileSize);
  assert.equal(tail.address, segment.address + BigInt(segment.fileSize));
  assert.equal((tail.address + BigInt(tail.length)) % 4096n, 0n);
  assert.ok(tail.length < 4096);
  assert.equal(elf.addressOf(fileOffset(elf.bytes.length)), undefined);
  assert.equal(elf.fileOffsetOf(1n << 63n), undefined);
  assert.equal(elf.fileOffsetOf(segment.address - (1n << 20n)), undefined);
}

const LIBC = '/lib/x86_64-linux-gnu/libc.so.6';
test("libc's thread id", { skip: !existsSync(LIBC) && 'no such libc here' }, () => {
  const elf = openElf(realpathSync(LIBC));
  const offset = tidOffset(elf);
  assert.ok(offset !== undefined && offset > 0 && offset % 4 === 0 && offset < 0x1000);
  assert.equal(tidOffset(ElfFile.open(tinyElf([CODE]), 'prog')), undefined);
});
