/** Where separate debug files are looked for, and which are taken. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';

import { DebugFiles, debuginfodCaches } from '../../../src/session/debug-files.ts';
import type { DebugFile } from '../../../src/symbols/debug-file.ts';
import { ElfFile } from '../../../src/symbols/elf.ts';
import { SymbolTable } from '../../../src/symbols/symbol-table.ts';
import { symbolSources } from '../../../src/symbols/symbol-sources.ts';
import { skipUnless, type Skippable } from '../../harness/features.ts';

const SOURCE = `
static int __attribute__((noinline)) kept_inside(int x) { return x * 3; }
int main(int argc, char **argv) { return kept_inside(argc); }
`;

const folder = mkdtempSync(join(tmpdir(), 'trapline-debug-files-'));
after(() => rmSync(folder, { recursive: true, force: true }));

interface Program {
  readonly elf: ElfFile;
  /** What the program sees as `/`; it is `/app/program` there. */
  readonly root: string;
  readonly debug: string;
}

let count = 0;

/** A stripped program in a root of its own, and its debug file, which lies where nobody looks. */
function program(options: readonly string[] = []): Program {
  const root = join(folder, `root${count++}`);
  mkdirSync(join(root, 'app'), { recursive: true });
  const source = join(root, 'program.c');
  writeFileSync(source, SOURCE);
  const path = join(root, 'app/program');
  const debug = join(root, 'program.debug');
  execFileSync('gcc', ['-O1', '-g', ...options, '-o', path, source]);
  execFileSync('objcopy', ['--only-keep-debug', path, debug]);
  execFileSync('objcopy', ['--strip-all', `--add-gnu-debuglink=${debug}`, path]);
  return { elf: ElfFile.open(readFileSync(path), path), root, debug };
}

function put(from: string, to: string): string {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
  return to;
}

function buildIdPath({ elf, root }: Program): string {
  const id = elf.buildId ?? '';
  assert.match(id, /^[0-9a-f]{40}$/);
  return join(root, 'usr/lib/debug/.build-id', id.slice(0, 2), `${id.slice(2)}.debug`);
}

function find({ elf, root }: Program, files: DebugFiles = new DebugFiles()): DebugFile | undefined {
  return files.find(elf, { path: '/app/program', root });
}

const lacks = (t: Skippable): boolean => skipUnless(t, 'gcc', 'objcopy');

test('a debug file is found in each of its places, and gives the names', (t) => {
  if (lacks(t)) return;
  for (const place of [
    buildIdPath,
    ({ root }: Program) => join(root, 'app/program.debug'),
    ({ root }: Program) => join(root, 'app/.debug/program.debug'),
    ({ root }: Program) => join(root, 'usr/lib/debug/app/program.debug'),
  ]) {
    const made = program();
    assert.equal(find(made), undefined);
    const path = put(made.debug, place(made));
    assert.equal(find(made)?.name, path);
    symbolSources(made.elf, () => find(made));
    const table = SymbolTable.of(made.elf);
    assert.equal(table.find('kept_inside')[0]?.table, 'debug-file', path);
  }
});

test('the cache of debuginfod is used, without asking any server', (t) => {
  if (lacks(t)) return;
  const made = program();
  const cache = join(made.root, 'cache');
  const path = put(made.debug, join(cache, made.elf.buildId ?? '', 'debuginfo'));
  const before = process.env['DEBUGINFOD_CACHE_PATH'];
  process.env['DEBUGINFOD_CACHE_PATH'] = cache;
  try {
    assert.deepEqual(debuginfodCaches(), [cache]);
    assert.equal(find(made)?.name, path);
    // Empty: the client's note that no server has it.
    writeFileSync(path, '');
    assert.equal(find(made), undefined);
  } finally {
    if (before === undefined) delete process.env['DEBUGINFOD_CACHE_PATH'];
    else process.env['DEBUGINFOD_CACHE_PATH'] = before;
  }
});

test('the debug file of another build, a damaged one and a pipe are not taken', (t) => {
  if (lacks(t)) return;
  const made = program();
  const other = program(['-DOTHER', '-O0']);
  const byId = put(other.debug, buildIdPath(made));
  assert.throws(() => find(made), {
    code: 'bad-elf',
    message: /is the debug file of another build/,
  });
  const linked = put(other.debug, join(made.root, 'app/program.debug'));
  rmSync(byId);
  assert.throws(() => find(made), { code: 'bad-elf', message: /app\/program\.debug is the debug/ });
  writeFileSync(linked, 'no ELF file at all');
  assert.throws(() => find(made), { code: 'bad-elf', message: /not an ELF file/ });
  // One that is right elsewhere counts.
  const right = put(made.debug, join(made.root, 'usr/lib/debug/app/program.debug'));
  assert.equal(find(made)?.name, right);
  rmSync(right);
  rmSync(linked);
  execFileSync('mkfifo', [linked]);
  assert.equal(find(made), undefined);
});

test('a debug file without end is not read to its end', (t) => {
  if (lacks(t)) return;
  const made = program();
  const linked = put(made.debug, join(made.root, 'app/program.debug'));
  truncateSync(linked, 2 ** 33);
  assert.throws(() => find(made), { code: 'limit', message: /too many to make its checksum/ });
});

test('a debug file is opened once, and again when it was changed', (t) => {
  if (lacks(t)) return;
  const made = program();
  const files = new DebugFiles();
  const path = put(made.debug, buildIdPath(made));
  const first = find(made, files);
  assert.ok(first !== undefined && find(made, files) === first);
  writeFileSync(path, Buffer.concat([readFileSync(made.debug), Buffer.alloc(8)]));
  const second = find(made, files);
  assert.ok(second !== undefined && second !== first);
  // What was read of the file as it was must not be mixed with what it is.
  const section = first.sections.find(({ name }) => name === '.symtab');
  assert.ok(section);
  assert.throws(() => first.sectionBytes(section), { code: 'no-file', message: /was changed/ });
});

test('packed and shared debug files have the same names', (t) => {
  if (lacks(t) || skipUnless(t, 'dwz')) return;
  const made = program();
  const zlib = join(made.root, 'zlib.debug');
  execFileSync('objcopy', ['--compress-debug-sections=zlib', made.debug, zlib]);
  const path = put(zlib, buildIdPath(made));
  assert.equal(find(made)?.name, path);
  // dwz moves what two files share into a third; symbols stay.
  const other = put(made.debug, join(made.root, 'other.debug'));
  const shared = put(made.debug, path);
  execFileSync('dwz', ['-m', join(made.root, 'common.debug'), shared, other]);
  const links = execFileSync('readelf', ['-SW', shared], { encoding: 'utf8' });
  assert.match(links, /\.gnu_debugaltlink/);
  symbolSources(made.elf, () => find(made));
  assert.equal(SymbolTable.of(made.elf).find('kept_inside').length, 1);
});
