/** Where separate debug files are looked for, and which are taken. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';

import { DebugFiles, debuginfodCaches } from '../../../src/session/files/debug-files.ts';
import { listFile } from '../../../src/session/files/list-file.ts';
import type { DebugFile } from '../../../src/symbols/debug-file.ts';
import { commonLink } from '../../../src/symbols/debug-link.ts';
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

function buildIdPath({ elf, root }: Program, id = elf.buildId ?? ''): string {
  assert.match(id, /^[0-9a-f]{40}$/);
  return join(root, 'usr/lib/debug/.build-id', id.slice(0, 2), `${id.slice(2)}.debug`);
}

function find({ elf, root }: Program, files: DebugFiles = new DebugFiles()): DebugFile | undefined {
  return files.find(elf, { path: '/app/program', root });
}

/** Runs `work` while debuginfod's cache is a folder of ours. */
function withCache(cache: string, work: () => void): void {
  const before = process.env['DEBUGINFOD_CACHE_PATH'];
  process.env['DEBUGINFOD_CACHE_PATH'] = cache;
  try {
    work();
  } finally {
    if (before === undefined) delete process.env['DEBUGINFOD_CACHE_PATH'];
    else process.env['DEBUGINFOD_CACHE_PATH'] = before;
  }
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
  withCache(cache, () => {
    assert.deepEqual(debuginfodCaches(), [cache]);
    assert.equal(find(made)?.name, path);
    // Empty: the client's note that no server has it.
    writeFileSync(path, '');
    assert.equal(find(made), undefined);
  });
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

test('packed debug files have the same names', (t) => {
  if (lacks(t)) return;
  const made = program();
  const zlib = join(made.root, 'zlib.debug');
  execFileSync('objcopy', ['--compress-debug-sections=zlib', made.debug, zlib]);
  const path = put(zlib, buildIdPath(made));
  assert.equal(find(made)?.name, path);
  symbolSources(made.elf, () => find(made));
  assert.equal(SymbolTable.of(made.elf).find('kept_inside').length, 1);
});

test('what is right for one file is not taken for another', (t) => {
  if (lacks(t)) return;
  const made = program();
  const other = program(['-DOTHER', '-O0']);
  const files = new DebugFiles();
  put(made.debug, join(made.root, 'app/program.debug'));
  assert.ok(find(made, files));
  // The same root, so the same path.
  assert.throws(() => find({ ...other, root: made.root }, files), { code: 'bad-elf' });
});

interface Shared {
  readonly made: Program;
  readonly debug: DebugFile;
  readonly common: string;
}

/**
 * A program whose debug file shares with another's, by dwz, and where it says that the common file is.
 * @param link of those that dwz writes: an absolute path, or one from the debug file's folder
 */
function shared(link: 'absolute' | 'relative' = 'absolute', below = 'common.debug'): Shared {
  const made = program();
  const path = put(made.debug, buildIdPath(made));
  const other = put(program(['-DOTHER']).debug, join(made.root, 'other.debug'));
  const common = join(made.root, below);
  mkdirSync(dirname(common), { recursive: true });
  const options = link === 'relative' ? ['-r'] : [];
  execFileSync('dwz', [...options, '-m', common, path, other]);
  const debug = find(made);
  assert.ok(debug);
  return { made, debug, common };
}

/** The common file that is found for a program. */
function commonOf(
  { made, debug }: Shared,
  files: DebugFiles = new DebugFiles(),
): string | undefined {
  return files.findCommon(debug, made.root)?.name;
}

const lacksDwz = (t: Skippable): boolean => lacks(t) || skipUnless(t, 'dwz', 'readelf');

test('a common file is found where the debug file says, and names are there without it', (t) => {
  if (lacksDwz(t)) return;
  for (const link of ['absolute', 'relative'] as const) {
    const all = shared(link);
    const said = commonLink(all.debug);
    assert.ok(said);
    assert.equal(said.path.startsWith('/'), link === 'absolute', said.path);
    const notes = execFileSync('readelf', ['-nW', all.common], { encoding: 'utf8' });
    assert.match(notes, new RegExp(`Build ID: ${said.buildId}`));
    assert.equal(commonOf(all), all.common);
    rmSync(all.common);
    assert.equal(commonOf(all), undefined);
    symbolSources(all.made.elf, () => all.debug);
    assert.equal(SymbolTable.of(all.made.elf).find('kept_inside').length, 1);
  }
});

test('a common file is found in the program’s own root, below .dwz, by build id and in the cache', (t) => {
  if (lacksDwz(t)) return;
  const all = shared('absolute', 'build/.dwz/x86_64-linux-gnu/some.debug');
  const { root } = all.made;
  const id = commonLink(all.debug)?.buildId ?? '';
  const cache = join(root, 'cache');
  const kept = put(all.common, join(root, 'kept'));
  withCache(cache, () => {
    for (const place of [
      join(root, all.common),
      join(root, 'usr/lib/debug/.dwz/x86_64-linux-gnu/some.debug'),
      buildIdPath(all.made, id),
      join(cache, id, 'debuginfo'),
    ]) {
      rmSync(all.common, { force: true });
      assert.equal(commonOf(all), undefined);
      put(kept, place);
      assert.equal(commonOf(all), place);
      rmSync(place);
    }
  });
});

test('another common file, a damaged one, a pipe and a device are not taken', (t) => {
  if (lacksDwz(t)) return;
  const all = shared();
  const id = commonLink(all.debug)?.buildId ?? '';
  const kept = put(all.common, join(all.made.root, 'kept'));
  // It has a build id as well, of its own.
  put(all.made.debug, all.common);
  assert.notEqual(all.made.elf.buildId, id);
  assert.throws(() => commonOf(all), {
    code: 'bad-elf',
    message: `${all.common} is the common file of other debug files`,
  });
  // One that is right elsewhere counts.
  const right = put(kept, buildIdPath(all.made, id));
  const files = new DebugFiles();
  assert.equal(commonOf(all, files), right);
  rmSync(right);
  writeFileSync(all.common, 'no ELF file at all');
  assert.throws(() => commonOf(all, files), { code: 'bad-elf', message: /not an ELF file/ });
  rmSync(all.common);
  execFileSync('mkfifo', [all.common]);
  assert.equal(commonOf(all, files), undefined);
  rmSync(all.common);
  symlinkSync('/dev/zero', all.common);
  assert.equal(commonOf(all, files), undefined);
});

test('a link through a symbolic link begins where the file itself is', (t) => {
  if (lacksDwz(t)) return;
  const all = shared('relative');
  const path = all.debug.name;
  // As distributions have it: `.build-id` holds links to the files.
  const real = join(all.made.root, 'a/b/c/d/e/f/g/program.debug');
  mkdirSync(dirname(real), { recursive: true });
  renameSync(path, real);
  symlinkSync(real, path);
  const said = commonLink(all.debug)?.path ?? '';
  const moved = join(dirname(real), said);
  assert.ok(moved.startsWith(all.made.root) && moved !== all.common, moved);
  mkdirSync(dirname(moved), { recursive: true });
  renameSync(all.common, moved);
  const debug = find(all.made);
  assert.ok(debug);
  assert.equal(commonOf({ ...all, debug }), moved);
});

test('the list of functions says whether the common file is there', (t) => {
  if (lacksDwz(t)) return;
  const all = shared();
  const path = all.made.elf.name;
  put(all.debug.name, `${path}.debug`);
  // The link's checksum is that of the debug file as dwz has left it.
  execFileSync('objcopy', ['--remove-section=.gnu_debuglink', path]);
  execFileSync('objcopy', [`--add-gnu-debuglink=${path}.debug`, path]);
  const buildId = commonLink(all.debug)?.buildId;
  const found = listFile(path, {});
  assert.deepEqual(found.commonFile, { path: all.common, buildId, found: true });
  assert.ok(
    found.functions.some(
      ({ name, source }) => name === 'kept_inside' && source === `${path}.debug`,
    ),
  );
  rmSync(all.common);
  assert.deepEqual(listFile(path, {}).commonFile, { path: all.common, buildId, found: false });
  writeFileSync(all.common, 'no ELF file at all');
  const { commonFile } = listFile(path, {});
  assert.match(commonFile?.problem ?? '', /not an ELF file/);
  assert.equal(listFile(program().elf.name, {}).commonFile, undefined);
});
