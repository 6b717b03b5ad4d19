/** Files that no target maps yet: the kernel engine probes the file, and events come when somebody maps it. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { skipUnless } from '../harness/features.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { countOf, run, Running } from './cli-support.ts';
import { ENGINES, heldBy, OwnFixture, skipEngine } from './kernel-support.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const EARLY = {
  sources: ['early.c'],
  flags: ['-O2', '-g', '-fPIC', '-shared', '-Wl,-soname,libearly.so'],
  name: 'libearly.so',
};

/** A program that uses a library of {@link EARLY}. */
function earlyMain(library: string): string {
  const found = `-Wl,-rpath,${dirname(library)}`;
  return compileFixture({ sources: ['early-main.c'], libraries: [library, found] });
}

/** The calls of `early_work` that a trace shows, by their first argument. */
function callsIn(out: string): string[] {
  return [...out.matchAll(/: early_work: \(0x[0-9a-f]+\) n=(\d+)/g)].map(([, n]) => n ?? '');
}

/** A shell that waits, and runs a program when it is told to. */
async function waitingShell(before: string, ...words: readonly string[]): Promise<Target> {
  const script = `${before} echo ready; read line; "$@"; read line`;
  const target = await startTarget('/bin/sh', ['-c', script, 'sh', ...words]);
  await target.waitForLine('ready', 60_000);
  return target;
}

for (const engine of ENGINES) {
  test(`${engine}: a command whose child alone maps the file, by path and by name`, async (t) => {
    if (skipEngine(t, engine)) return;
    using library = new OwnFixture(EARLY);
    const command = ['sh', '-c', '"$0" 3; exit $?', earlyMain(library.path)];
    const byPath = `early_work@${library.path} n=%di:s32`;
    const one = await run('trace', '--engine', engine, byPath, '--', ...command);
    assert.equal(one.status, 3, one.err);
    assert.deepEqual(callsIn(one.out), ['40', '2'], one.out);

    const words = ['trace', '--engine', engine, 'early_work@libearly n=%di:s32', '--', ...command];
    const env = { ...process.env, LD_LIBRARY_PATH: dirname(library.path) };
    const options = { encoding: 'utf8', timeout: 60_000, env } as const; // the literal
    const two = spawnSync(process.execPath, [MAIN, ...words], options);
    assert.equal(two.status, 3, two.stderr);
    assert.deepEqual(callsIn(two.stdout), ['40', '2'], two.stdout);
  });
}

test('a process that maps the file later, in a child', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using library = new OwnFixture(EARLY);
  await using target = await waitingShell('', earlyMain(library.path), '3');
  const words = ['trace', '--engine', 'kernel', '-p', String(target.pid)];
  await using running = new Running([...words, `early_work@${library.path} n=%di:s32`]);
  await running.until('err', /1 probe in what sh \(\d+\) has not mapped yet/);
  target.send('go');
  await running.until('out', /n=40\n.*n=2\n/);
  running.child.kill('SIGINT');
  const { status, err } = await running.result();
  assert.equal(status, 0, err);
  assert.equal(countOf(err, 'probe_libearly:early_work', 'recorded'), 2, err);
  assert.deepEqual(heldBy(running.child.pid ?? 0), []);
});

test('the file that the process sees by that path, not the one that we see', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture(EARLY);
  const folder = dirname(fixture.path);
  const main = earlyMain(fixture.path);
  const script = `mount -t tmpfs none /mnt; cp ${fixture.path} /mnt; mount --bind /mnt ${folder};`;
  const shell = `${script} echo ready; read line; "$@"; read line`;
  const words = ['-m', 'sh', '-c', shell, 'sh', main, '3'];
  await using target = await startTarget(requireProgram('unshare'), words);
  await target.waitForLine('ready', 60_000);
  const probe = `early_work@${fixture.path} n=%di:s32`;
  const options = ['--engine', 'kernel', '-p', String(target.pid)];
  await using running = new Running(['trace', ...options, probe]);
  await running.until('err', /1 probe in what .* has not mapped yet/);
  target.send('go');
  await running.until('out', /n=40\n.*n=2\n/);
  running.child.kill('SIGINT');
  const { status, err } = await running.result();
  assert.equal(status, 0, err);
});

for (const engine of ENGINES) {
  test(`${engine}: what is wrong with a file is shown at its name, or at the offset`, async (t) => {
    if (skipEngine(t, engine)) return;
    using library = new OwnFixture(EARLY);
    const { path } = library;
    const cases: readonly (readonly [string, string, string, string])[] = [
      ['p:g/e /usr:0x1000 %di', 'Not a regular file', '/usr:', '/usr is a folder'],
      ['/dev/null:0x1000', 'Not a regular file', '/dev', '/dev/null is a device'],
      ['p:g/e /no/such:0x10', 'Failed to find the given file', '/no', 'there is no /no/such'],
      ["f@'/no such'", 'Failed to find the given file', '/no', 'there is no /no such'],
      [`${path}:0x999999`, 'the offset 0x999999 of ', '0x999999', 'within the code'],
    ];
    await using target = await waitingShell('');
    for (const selection of [['--all'], ['-p', String(target.pid)]]) {
      for (const [probe, what, under, why] of cases) {
        const { status, err } = await run('trace', '--engine', engine, ...selection, probe);
        const [message = '', text = '', caret = '', hint = ''] = err.split('\n');
        assert.equal(status, 1, err);
        assert.ok(message.startsWith(`trapline: ${what}`), err);
        assert.equal(text, `  ${probe}`);
        assert.equal(caret, `${' '.repeat(2 + probe.lastIndexOf(under))}^`, err);
        assert.ok(hint.includes(why), err);
      }
    }
  });
}

test('what is not in a file that nobody maps yet is refused', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using library = new OwnFixture(EARLY);
  const cases: readonly (readonly [string, RegExp])[] = [
    [`early_wrok@${library.path}`, /there is no function early_wrok in .*\n.*early_work/],
    [`early_work+1@${library.path}`, /can't be probed|outside/],
    ['f@libnobodyhas', /libnobodyhas is not mapped by sh/],
  ];
  for (const [probe, text] of cases) {
    const { status, out, err } = await run(
      'trace',
      '--engine',
      'kernel',
      probe,
      '--',
      'sh',
      '-c',
      'echo ran',
    );
    assert.equal(status, 1, err);
    assert.match(err, text);
    assert.equal(out, '');
  }
});
