/** Commands that are started: what runs first is seen, and the command finds everything as a shell gives it. */

import assert from 'node:assert/strict';
import { chmodSync, constants, copyFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';

import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import {
  countOf,
  earlyProgram,
  main,
  runPlain,
  traceCommand,
  trapline,
  withFolder,
} from './real-support.ts';

test('what runs before main is seen: a resolver, a constructor, in order', () => {
  const { program } = earlyProgram();
  const words = [
    'resolve_twice@libearly',
    'early_start@libearly.so',
    'early_work@libearly n=%di:s32',
    '_start@early-main',
    'main@early-main argc=%di:s32',
  ];
  const traced = traceCommand(words, [program, '0'], { input: '\n' });
  assert.equal(traced.out, `${program} 42 42\nline 86\n`);
  const shown = traced.events.map(({ event, args }) =>
    [event.replace(/^.*:/, ''), ...Object.values(args).map(String)].join(' '),
  );
  assert.deepEqual(
    shown.filter((one) => one !== 'resolve_twice'),
    ['early_start', 'early_work 40', '_start', 'main 2', 'early_work 2', 'early_work 1'],
  );
  // Bound lazily: at the first call.
  assert.equal(countOf(traced, 'probe_libearly:resolve_twice'), 1);
});

test('malloc of the dynamic linker itself, before libc is there', () => {
  const { program } = earlyProgram();
  const { events } = traceCommand(['_dl_catch_exception@ld-linux-x86-64'], [program]);
  assert.ok(events.length > 0);
});

for (const [kind, flags] of [
  ['static', ['-static']],
  ['static PIE', ['-static-pie']],
  ['at a fixed address', ['-no-pie']],
  ['stripped but for what is exported', ['-rdynamic', '-s']],
] as const) {
  test(`a program that is ${kind}`, () => {
    const program = compileFixture({
      sources: ['self-check.c'],
      flags: ['-O2', '-pthread', ...flags],
      name: 'self-check-form',
    });
    const words = ['work_step@self-check-form', 'main@self-check-form'];
    const command = [program, '2', '0', 'paused'];
    const { status, out, events, err } = traceCommand(words, command, {
      input: 'step 5\nquit\n',
    });
    assert.equal(status, 0, err);
    const said = /^ok (.*)$/m.exec(out)?.[1] ?? '{}';
    // The program's own words: test/fixtures/self-check.c says what they are.
    const calls = (JSON.parse(said) as Record<string, number>)['work_step'];
    const of = (name: string): number => events.filter(({ event }) => event.endsWith(name)).length;
    assert.equal(of(':work_step'), calls);
    assert.equal(of(':main'), 1);
  });
}

test('argv[0] is what was typed: a path, a relative path, a name in PATH', () => {
  const { program } = earlyProgram();
  const folder = dirname(program);
  const first = (name: string, path = process.env['PATH'] ?? ''): string => {
    const options = { cwd: folder, env: { PATH: path } };
    const { out, err, status } = traceCommand(['main@early-main', '--count'], [name], options);
    assert.equal(status, 0, err);
    return out.split(' ')[0] ?? '';
  };
  const name = basename(program);
  assert.equal(first(program), program);
  assert.equal(first(`./${name}`), `./${name}`);
  assert.equal(first(name, `${folder}:/usr/bin:/bin`), name);
});

test('environment, folder and input are the command’s', () => {
  const script = 'pwd; env | grep -v "^_=" | sort; cat; echo "[$0]" "$@" >&2';
  withFolder((folder) => {
    const env = { PATH: '/usr/bin:/bin', PWD: folder, EMPTY: '', LANG: 'C' };
    const options = { cwd: folder, env, input: 'one\ntwo\n' };
    const args = ['-c', script, 'name', 'a b', '', '*'];
    const traced = traceCommand(['malloc@libc.so.6', '-q'], ['sh', ...args], options);
    const plain = runPlain('sh', args, options);
    assert.equal(traced.out, plain.out);
    assert.equal(traced.err, plain.err);
  });
});

test('scripts: by their first line, by a path and by name', () => {
  withFolder((folder) => {
    const script = join(folder, 'script');
    writeFileSync(script, '#!/bin/sh\necho "$0" "$1"\nexit 3\n');
    chmodSync(script, 0o755);
    for (const name of [script, './script']) {
      const traced = traceCommand(['malloc@libc.so.6', '--count'], [name, 'x'], { cwd: folder });
      assert.equal(traced.out, `${name} x\n`);
      assert.equal(traced.status, 3);
      assert.ok(countOf(traced, 'probe_libc:malloc') > 0);
    }
  });
});

test('the end of a command is ours: a status, a signal', () => {
  const { program } = earlyProgram();
  for (const [argument, status] of [
    ['0', 0],
    ['7', 7],
    ['255', 255],
    ['-15', 143],
    ['-9', 137],
    ['-6', 134],
  ] as const) {
    const traced = traceCommand(['main@early-main'], [program, argument]);
    assert.equal(traced.status, status, argument);
    assert.equal(traced.events.length, 1);
  }
});

test('-n ends the trace, not the command', () => {
  const { program } = earlyProgram();
  const words = ['early_work@libearly', '-n', '1'];
  const traced = traceCommand(words, [program, '5'], { input: '\n\n\n' });
  assert.equal(traced.status, 5, traced.err);
  assert.equal(traced.events.length, 1);
  assert.match(traced.out, /^line 90$/m);
});

test('a command waits for who reads its output, whatever we do: a pipe, a socket', () => {
  const program = requireProgram('grep');
  const files = [0, 1, 2].map((descriptor) => `/proc/self/fdinfo/${descriptor}`);
  const words = ['trace', '-v', '--count', 'write@libc.so.6', '--', program, 'flags:', ...files];
  // Node gives its children sockets; a shell gives them pipes.
  const piped = runPlain('sh', ['-c', '"$@" 2>&1 | cat', 'sh', process.execPath, main, ...words]);
  for (const { out, err } of [trapline(words), piped]) {
    const flags = [...out.matchAll(/^.*fdinfo\/\d:flags:\s*(\d+)$/gm)].map(([, octal = '']) =>
      Number.parseInt(octal, 8),
    );
    assert.equal(flags.length, files.length, `${out}\n${err}`);
    for (const one of flags) assert.equal(one & constants.O_NONBLOCK, 0, one.toString(8));
  }
});

test('a command’s stubs know their task: behind its first hit they ask the kernel for nothing', () => {
  const program = compileFixture({ sources: ['sandboxed.c'] });
  const gettid = '186';
  // main is reached before the filter that kills for it, poll behind it.
  const words = ['--count', 'main@sandboxed', 'poll@libc.so.6'];
  const traced = traceCommand(words, [program, 'kill', gettid]);
  assert.equal(traced.status, 0, traced.err);
  assert.match(traced.out, /^ok 0$/m);
  assert.equal(countOf(traced, 'probe_sandboxed:main'), 1);
  assert.equal(countOf(traced, 'probe_libc:poll'), 1);
});

test('a command that is not there, is not to be executed, or has no interpreter', () => {
  withFolder((folder) => {
    writeFileSync(join(folder, 'plain'), 'text');
    writeFileSync(join(folder, 'orphan'), '#!/no/such/interpreter\n');
    chmodSync(join(folder, 'orphan'), 0o755);
    for (const [command, words] of [
      ['no-such-command', /there is no command 'no-such-command'\n.*PATH/],
      ['./no-such-command', /there is no command '.\/no-such-command'/],
      ['', /there is no command ''/],
      ['./plain', /plain may not be executed/],
      [folder, /'\/\S+' is a folder, and no command/],
      ['./orphan', /.\/orphan could not be executed/],
    ] as const) {
      const { status, err, out } = trapline(['trace', 'main@x', '--', command], { cwd: folder });
      assert.equal(out, '');
      assert.match(err, words);
      assert.notEqual(status, 0, command);
    }
  });
});

test('nothing of a command has run when its probes are refused', () => {
  withFolder((folder) => {
    const file = join(folder, 'made');
    const words = ['trace', 'no_such_function@libc.so.6', '--', 'touch', file];
    const { status, err } = trapline(words);
    assert.notEqual(status, 0);
    assert.match(err, /there is no function no_such_function in \S+libc\S+/);
    assert.equal(runPlain('test', ['-e', file]).status, 1);
  });
});

test('a folder of PATH that is not ours to look into, or is not there, is passed over', () => {
  withFolder((folder) => {
    const closed = '/proc/1/cwd'; // another user's for anybody but root
    const env = { PATH: `${folder}/none:${closed}:${folder}/file:/usr/bin:/bin` };
    writeFileSync(join(folder, 'file'), '');
    const { status, out, err } = trapline(['trace', 'malloc@libc.so.6', '--', 'echo', 'a'], {
      env,
    });
    assert.equal(status, 0, err);
    assert.match(out, /^a$/m);
  });
});

test('a program under another name than its file’s', () => {
  withFolder((folder) => {
    const copy = join(folder, 'real name+1');
    copyFileSync(earlyProgram().program, copy);
    const link = join(folder, 'shown');
    symlinkSync(copy, link);
    for (const file of ['shown', `'${link}'`, `'${copy}'`, "'real name+1'"]) {
      const { events, err } = traceCommand([`main@${file}`], [link]);
      assert.equal(events.length, 1, `${file}: ${err}`);
    }
    assert.equal(traceCommand(['main@shown'], [requireProgram('env'), link]).status, 1);
  });
});
