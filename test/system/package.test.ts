/** What `npm pack` ships: built files only, and a command that works from an empty folder. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { skipUnless } from '../harness/features.ts';

/** Of the tree that this file was compiled from: `build/test/system/` lies three folders below it. */
const root = fileURLToPath(new URL('../../..', import.meta.url));

test('the package works from an empty folder', (t) => {
  // The other half runs on a copy of the built tree, which has nothing to pack.
  if (skipUnless(t, 'gcc', 'root')) return;
  const folder = mkdtempSync(join(tmpdir(), 'trapline-package-'));
  try {
    const packed = execFileSync(
      'npm',
      ['pack', '--json', '--silent', '--pack-destination', folder],
      {
        cwd: root,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      },
    );
    const report: unknown = JSON.parse(packed.slice(packed.indexOf('[\n')));
    assert.ok(Array.isArray(report));
    // npm's own report: one package, with the names of its files.
    const [{ filename, files }] = report as [{ filename: string; files: { path: string }[] }];
    const strangers = files
      .map(({ path }) => path)
      .filter(
        (path) => !/^(?:dist\/|package\.json$|README\.md$|LICENSE$|CHANGELOG\.md$)/.test(path),
      );
    assert.deepEqual(strangers, []);
    execFileSync('tar', ['-xzf', join(folder, filename), '-C', folder]);
    // What an install would put beside it, without asking the registry.
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    const main = join(folder, 'package/dist/cli/main.js');
    assert.ok(existsSync(main));
    const run = spawnSync(
      process.execPath,
      [
        main,
        'trace',
        '-n',
        '1',
        '--format',
        'json',
        'malloc@libc.so.6 size=%di:u64',
        '--',
        '/bin/ls',
        '/',
      ],
      { encoding: 'utf8', cwd: folder },
    );
    assert.equal(run.status, 0, run.stderr);
    assert.match(run.stdout, /"event":"probe_libc:malloc"/);
    const library = `import { attach, TraplineError } from '${join(folder, 'package/dist/index.js')}';
      await attach({ pids: [process.pid] }).catch((error) => {
        if (error instanceof TraplineError) console.log(error.code);
      });`;
    const script = spawnSync(process.execPath, ['--input-type=module', '-e', library], {
      encoding: 'utf8',
    });
    assert.equal(script.stdout.trim(), 'refused', script.stderr);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
