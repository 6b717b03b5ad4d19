import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileOffset, address } from '../../../src/base/brand.ts';
import { TraplineError } from '../../../src/base/errors.ts';
import { renderReports } from '../../../src/cli/clean.ts';
import { findFile, usualPlaces } from '../../../src/session/files/find-file.ts';
import { renderFunctions, renderSources } from '../../../src/cli/list.ts';
import { renderStatus } from '../../../src/cli/status.ts';
import type { ProcessStatus } from '../../../src/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'trapline-files-'));
after(() => rmSync(folder, { recursive: true }));

function make(path: string, mode: number): string {
  const whole = join(folder, path);
  mkdirSync(join(whole, '..'), { recursive: true });
  writeFileSync(whole, '');
  chmodSync(whole, mode);
  return whole;
}

test('programs come before libraries, whole names before parts, short versions before long', () => {
  const program = make('bin/zsh', 0o755);
  make('bin/notes', 0o644);
  const notes = make('lib/notes', 0o644);
  const library = make('lib/libssl.so.3', 0o644);
  make('lib/libssl.so.3.0.1', 0o644);
  make('lib/zsh', 0o644);
  const plain = make('lib2/libz.so', 0o644);
  make('lib2/libz.so.1', 0o644);
  // As a folder that is closed to us: stat fails, and not because nothing is there.
  const closed = join(folder, 'closed');
  symlinkSync(closed, closed);
  const places = {
    programs: [join(folder, 'none'), closed, join(folder, 'bin')],
    libraries: [join(folder, 'lib'), join(folder, 'lib2')],
  };
  assert.equal(findFile('zsh', places), program);
  assert.equal(findFile('notes', places), notes, 'a file that is no program');
  assert.equal(findFile('libssl', places), library);
  assert.equal(findFile('libssl.so.3', places), library);
  assert.equal(findFile('libz', places), plain);
  assert.equal(findFile('./anything/at/all', places), './anything/at/all');
  assert.throws(
    () => findFile('libss', places),
    (error: unknown) => error instanceof TraplineError && error.code === 'no-file',
  );
});

test('the usual places have what every Debian has', () => {
  assert.match(findFile('sh'), /\/sh$/);
  assert.match(findFile('libc.so.6'), /\/libc\.so\.6$/);
  assert.match(findFile('libc'), /\/libc\.so/);
  assert.deepEqual(usualPlaces({ PATH: '/a::/b' }).programs, ['/a', '/b']);
  assert.equal(usualPlaces({ LD_LIBRARY_PATH: '/mine' }).libraries[0], '/mine');
});

test('functions as a table', () => {
  const plain = {
    offset: fileOffset(0x1000),
    size: 16,
    kind: 'function',
    binding: 'global',
    source: '.symtab',
  } as const;
  assert.deepEqual(
    renderFunctions([
      { ...plain, name: 'zfree' },
      { ...plain, name: '_ZN2ns1fEi', demangled: 'ns::f(int)', offset: fileOffset(0x20) },
      { ...plain, name: 'memcpy', version: 'GLIBC_2.14', kind: 'ifunc', binding: 'weak', size: 0 },
    ]),
    [
      'offset  size  kind         name               for people',
      '0x1000    16  function     zfree',
      '  0x20    16  function     _ZN2ns1fEi         ns::f(int)',
      '0x1000     0  ifunc, weak  memcpy@GLIBC_2.14',
    ],
  );
});

test('where the names come from', () => {
  const plain = {
    name: 'f',
    offset: fileOffset(0),
    size: 1,
    kind: 'function',
    binding: 'local',
  } as const;
  const listed = ['.dynsym', '/usr/lib/debug/x.debug', '.dynsym'].map((source) => ({
    ...plain,
    source,
  }));
  assert.deepEqual(renderSources(listed), ['names: 2 of .dynsym, 1 of /usr/lib/debug/x.debug']);
  assert.deepEqual(renderSources(listed.slice(0, 1), 'more'), [
    'names: 1 of .dynsym',
    'hint: more',
  ]);
  const common = { path: '../.dwz/x.debug', buildId: 'abcd', found: false };
  const found = { ...common, path: '/usr/lib/debug/.dwz/x.debug', found: true };
  assert.deepEqual(
    [found, common, { ...common, problem: 'it is no\nfile' }].map(
      (one) => renderSources(listed.slice(0, 1), undefined, one)[1],
    ),
    [
      'common file: /usr/lib/debug/.dwz/x.debug',
      'common file: ../.dwz/x.debug (build id abcd) was not found; no name is missing for that',
      'common file: ../.dwz/x.debug (build id abcd) was not found: it is no\\x0afile; no name is missing for that',
    ],
  );
});

const held: ProcessStatus = {
  pid: 12,
  comm: 'zsh',
  sessions: [
    {
      tracer: 20,
      alive: true,
      began: 1000,
      programs: 1,
      owner: {
        pid: 19,
        command: 'trapline trace',
        probes: [
          {
            id: 1,
            definition: 'zfree@zsh',
            listing: 'p:probe_zsh/zfree zfree@zsh',
            action: 'count',
            filter: 'common_pid != 7',
            costNanoseconds: 1.5,
            refused: [
              { pid: 12, name: 'mid', file: '/bin/zsh', reason: 'nothing\u0007 fits' },
              { pid: 13, name: 'other', file: '/bin/zsh', reason: 'of another process' },
            ],
          },
        ],
      },
    },
    { tracer: 21, alive: false, began: 900, programs: 2 },
  ],
  sites: [
    {
      address: address(0x5000n),
      file: '/bin/zsh',
      offset: fileOffset(0x10),
      name: 'zfree',
      state: 'live',
      method: 'pun',
      programs: [
        { tracer: 20, probe: 1, hits: 12_345 },
        { tracer: 21, probe: 4 },
      ],
      found: 'the jump',
    },
  ],
  puns: { mappings: 1, mappedBytes: 4096 },
  mappedBytes: 5000,
};

test('status as a page', () => {
  assert.deepEqual(renderStatus([held], 1005), [
    'zsh (12): 1 place, 5 KiB mapped, 4 KiB of it in 1 mapping for puns',
    '  session of tracer 20 of process 19 (trapline trace), alive, began 5 s ago, 1 program',
    '    p:probe_zsh/zfree zfree@zsh',
    '    refused mid: nothing\\x07 fits',
    '  session of tracer 21, dead, began 1m 45s ago, 2 programs',
    '  place  address  state  method  in memory  session  probe                                    hits   a hit',
    '  zfree  0x5000   live   pun     the jump   20       zfree@zsh if common_pid != 7 (counts)  12,345  1.5 ns',
    '                                            21       4',
    '',
    'Dead sessions do no harm; `trapline clean` takes them out.',
    '',
    'No kernel uprobe and no breakpoint may be set on these places meanwhile.',
  ]);
  assert.deepEqual(renderStatus([], 0), ['no process holds anything of Trapline']);
  const untouched = { ...held, sessions: [], sites: [], mappedBytes: 0 };
  assert.deepEqual(renderStatus([untouched], 0), ['zsh (12): nothing of Trapline']);
  const broken = { ...held, sessions: [], sites: [], unreadable: 'its table\u0007 ends early' };
  assert.deepEqual(renderStatus([broken], 0), [
    'zsh (12): 0 places, 5 KiB mapped, 4 KiB of it in 1 mapping for puns',
    '  its table\\x07 ends early',
  ]);
});

test('clean says what it did', () => {
  assert.deepEqual(renderReports([]), ['nothing to clean']);
  const nothing = { pid: 12, sessionsRemoved: 0, sitesRestored: 0, bytesUnmapped: 0, kept: [] };
  assert.deepEqual(renderReports([nothing]), ['process 12: nothing to clean']);
  assert.deepEqual(
    renderReports([{ ...nothing, sessionsRemoved: 1, sitesRestored: 2, kept: ['a page'] }]),
    ['process 12: 1 dead session removed, 2 places restored', '  kept: a page'],
  );
  assert.deepEqual(renderReports([{ ...nothing, bytesUnmapped: 8_720_000 }]), [
    'process 12: 8,516 KiB unmapped',
  ]);
  assert.deepEqual(
    renderReports([{ ...nothing, sessionsRemoved: 2, sitesRestored: 1, bytesUnmapped: 4096 }]),
    ['process 12: 2 dead sessions removed, 1 place restored, 4 KiB unmapped'],
  );
  assert.deepEqual(renderReports([{ ...nothing, kept: ['it is held'] }]), [
    'process 12: nothing was cleaned',
    '  kept: it is held',
  ]);
});
