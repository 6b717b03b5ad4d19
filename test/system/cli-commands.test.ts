import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { skipUnless } from '../harness/features.ts';
import { main, Running, leavingClean, run, selfCheck, startSelfCheck } from './cli-support.ts';

const PROBE = 'work_step@self-check';

test('--version and --help', async () => {
  const manifest: unknown = JSON.parse(readFileSync('package.json', 'utf8'));
  const version = await run('--version');
  assert.deepEqual(
    [version.status, version.out],
    [0, `${Reflect.get(Object(manifest), 'version')}\n`],
  );
  for (const words of [
    ['--help'],
    ['help', 'trace'],
    ...['trace', 'list', 'explain', 'doctor', 'status', 'clean'].map((name) => [name, '--help']),
  ]) {
    const { status, out, err } = await run(...words);
    assert.equal(status, 0, words.join(' '));
    assert.match(out, /Usage: trapline[\s\S]*Examples:\n/, words.join(' '));
    assert.equal(err, '');
  }
});

test('a full disk is told by every command, and on standard error by none', () => {
  for (const words of [
    ['--version'],
    ['--help'],
    ['trace', '--help'],
    ['doctor'],
    ['doctor', '--json'],
    ['status', '-p', String(process.pid)],
    ['status', '-p', String(process.pid), '--json'],
    ['list', 'libc.so.6', 'read'],
    ['explain', 'read@libc.so.6'],
  ]) {
    const full = openSync('/dev/full', 'w');
    try {
      const ran = spawnSync(process.execPath, [main, ...words], {
        stdio: ['ignore', full, 'pipe'],
        encoding: 'utf8',
      });
      assert.match(
        ran.stderr,
        /^trapline: can't write to standard output: ENOSPC/,
        words.join(' '),
      );
      assert.equal(ran.status, 1);
      const silent = spawnSync(process.execPath, [main, 'lits'], { stdio: ['ignore', full, full] });
      assert.equal(silent.status, 2);
    } finally {
      closeSync(full);
    }
  }
});

test('words that are not understood are a mistake of usage', async () => {
  for (const words of [
    [],
    ['trcae'],
    ['trace'],
    ['trace', '--formt', 'json', PROBE],
    ['trace', PROBE],
    ['list'],
    ['list', 'zsh', 'a', 'b'],
    ['explain'],
    ['status', '-p', 'x'],
    ['doctor', '--', 'ls'],
  ]) {
    const { status, out, err } = await run(...words);
    assert.equal(status, 2, words.join(' '));
    assert.equal(out, '');
    assert.notEqual(err, '');
  }
});

test('list agrees with nm', async (t) => {
  if (skipUnless(t, 'nm')) return;
  const path = selfCheck();
  const names = spawnSync('nm', ['--defined-only', path], { encoding: 'utf8' }).stdout;
  const { status, out, err } = await run('list', '--json', path, '*_step');
  assert.equal(status, 0, err);
  const listed = out
    .trimEnd()
    .split('\n')
    .map((line): unknown => JSON.parse(line));
  const expected = [...names.matchAll(/ [tT] (\w+_step)$/gm)].map((match) => match[1]);
  assert.deepEqual(
    new Set(listed.map((one): unknown => Reflect.get(Object(one), 'name'))),
    new Set(expected),
  );
  const table = await run('list', path, 'work_step');
  assert.match(table.out, /^ *0x[0-9a-f]+ +\d+ +function +work_step$/m);
});

test('list finds names, and says when there is nothing', async () => {
  const library = await run('list', 'libc.so.6', 'malloc');
  assert.equal(library.status, 0, library.err);
  assert.match(library.out, /malloc/);
  for (const words of [
    ['list', 'no-such-program-anywhere'],
    ['list', '/no/such/file'],
    ['list', selfCheck(), 'nothing_is_called_so'],
    ['list', '/etc/passwd'],
  ]) {
    const { status, err } = await run(...words);
    assert.equal(status, 1, `${words.join(' ')}\n${err}`);
    assert.match(err, /^trapline: /);
    assert.doesNotMatch(err, /defect/);
  }
});

test('doctor says that what the other tests do can be done', async (t) => {
  if (skipUnless(t, 'fsgsbase')) return;
  const { status, out, err } = await run('doctor');
  assert.equal(status, 0, `${out}${err}`);
  assert.match(out, /^Trapline can work here\.$/m);
  assert.match(out, /uprobe/);
  const json = await run('doctor', '--json');
  assert.equal(Reflect.get(Object(JSON.parse(json.out)), 'works'), true);
});

test('status sees a session, and clean leaves it alone', async () => {
  await using target = await startSelfCheck();
  const pid = String(target.pid);
  await leavingClean(target, async () => {
    assert.match((await run('status', '-p', pid)).out, /nothing of Trapline/);
    await using running = new Running(['trace', '-p', pid, PROBE]);
    await running.until('out', /work_step/);
    const { status, out, err } = await run('status', '-p', pid);
    assert.equal(status, 0, err);
    // The tracer is a thread of the process that was started.
    const owner = `of process ${running.child.pid} \\(.* trace .*\\)`;
    const tracer = new RegExp(`session of tracer (\\d+) ${owner}, alive`).exec(out)?.[1];
    const tracerStatus = readFileSync(`/proc/${tracer}/status`, 'utf8');
    assert.match(tracerStatus, new RegExp(`^Tgid:\\s*${running.child.pid}$`, 'm'));
    assert.match(out, /^ {4}p:probe_self_check\w*\/work_step work_step@\S+/m);
    const [line = ''] = (await run('status', '-p', pid, '--json')).out.split('\n');
    const shown: unknown = JSON.parse(line);
    assert.match(JSON.stringify(shown), /"listing":"p:probe_self_check\w*\/work_step work_step@/);
    const cleaned = await run('clean', '-p', pid);
    assert.equal(cleaned.status, 0, cleaned.err);
    assert.match((await run('status', '-p', pid)).out, /, alive/);
    running.child.kill('SIGINT');
    assert.equal((await running.result()).status, 0);
    assert.match((await run('status', '-p', pid)).out, /nothing of Trapline/);
  });
});

test('clean takes out what a killed tracer left', async () => {
  await using target = await startSelfCheck();
  const pid = String(target.pid);
  await leavingClean(target, async () => {
    const running = new Running(['trace', '-p', pid, PROBE]);
    await running.until('out', /work_step/);
    await running[Symbol.asyncDispose](); // by SIGKILL
    assert.match((await run('status', '-p', pid)).out, /, dead/);
    const { status, out, err } = await run('clean', '-p', pid);
    assert.equal(status, 0, err);
    assert.match(out, /1 dead session removed, 1 place restored/);
    assert.match((await run('clean', '-p', pid)).out, /nothing to clean/);
  });
});
