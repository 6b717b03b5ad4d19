/**
 * Programs that get rights from their files, executed by programs that are followed: the kernel gives none to one whose
 * tracer has no privilege, so these are let go before. `passwd -S` shows what it may read of /etc/shadow.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { feature, skipUnless } from '../harness/features.ts';
import { countFollowed, EVENT as FOLLOWED, followedProgram } from './follow-support.ts';
import { countOf, runPlain, type Ran } from './real-support.ts';

const isRoot = feature('root').present;
const PASSWD = '/usr/bin/passwd';
const script = fileURLToPath(new URL('../../../test/fixtures/follow-rights.py', import.meta.url));
/** What it says when nobody traces it. */
const plain = (): string => runPlain(PASSWD, ['-S']).out;

const EVENT = 'probe_libc:getppid';

function run(way: string, ...command: readonly string[]): Ran {
  const whole = ['/usr/bin/python3', script, way, ...command];
  // What is found by its name is to be the system's own, too.
  return countFollowed('getppid@libc.so.6', whole, { env: { PATH: '/usr/bin:/bin' } });
}

/** It had its rights, and is said to be let go where it would have lost them. */
function assertKept(ran: Ran, file = PASSWD, right = /set-user-ID 0/): void {
  assert.equal(ran.status, 0, ran.err);
  const said = new RegExp(`^trapline: ${file} is ${right.source}: it is not followed`, 'm');
  if (isRoot) assert.doesNotMatch(ran.err, / is set-/);
  else assert.match(ran.err, said);
  assert.doesNotMatch(ran.err, /without these rights/);
}

for (const way of [
  'execvp',
  'relative',
  'execveat',
  'execveat of a descriptor',
  'fexecve',
  'posix_spawn',
  'subprocess',
  'sh',
] as const) {
  test(`a set-user-ID program keeps its rights: ${way}`, (context) => {
    if (skipUnless(context, 'python3-testsuite', 'set-user-ID')) return;
    const ran = run(way, PASSWD, '-S');
    // How the path was written is said as it was.
    const file = /^(?:relative|execveat.*|fexecve)$/.test(way) ? '.*' : PASSWD;
    assertKept(ran, file);
    assert.equal(ran.out, plain());
    // The shell asks once, too.
    assert.equal(countOf(ran, EVENT), way === 'sh' ? 5 : 4, ran.err);
  });
}

for (const way of ['itself', 'thread'] as const) {
  test(`the command becomes a set-user-ID program: ${way}`, (context) => {
    if (skipUnless(context, 'python3-testsuite', 'set-user-ID')) return;
    const ran = run(way, PASSWD, '-S');
    assertKept(ran);
    assert.equal(ran.out, plain());
    assert.equal(countOf(ran, EVENT), 3, ran.err);
  });
}

test('a set-group-ID program keeps its rights', (context) => {
  if (skipUnless(context, 'python3-testsuite', 'set-user-ID')) return;
  const user = runPlain('id', ['-un']).out.trim();
  const expected = runPlain('chage', ['-l', user]);
  assert.equal(expected.status, 0, expected.err);
  const ran = run('subprocess', '/usr/bin/chage', '-l', user);
  assertKept(ran, '/usr/bin/chage', /set-group-ID \d+/);
  assert.equal(ran.out, expected.out);
});

test('a program that has not loaded the probed library tells of it, too', (context) => {
  if (skipUnless(context, 'set-user-ID')) return;
  const { program, probe } = followedProgram();
  const ran = countFollowed(probe, ['sh', '-c', `${PASSWD} -S; exec ${program} hit 3`]);
  assertKept(ran);
  assert.equal(ran.out.split('\n', 1)[0], plain().trimEnd());
  assert.equal(countOf(ran, FOLLOWED), 3, ran.err);
});

test('the exit status of a command that was let go is its own', (context) => {
  if (skipUnless(context, 'python3-testsuite', 'set-user-ID')) return;
  const words = ['-S', '--no-such-option'];
  const expected = runPlain(PASSWD, words);
  assert.notEqual(expected.status, 0);
  assert.equal(run('itself', PASSWD, ...words).status, expected.status);
});

test('a program that is let go, and whose exec fails, still has its probes', (context) => {
  if (skipUnless(context, 'python3-testsuite', 'set-user-ID')) return;
  const ran = run('failing', PASSWD, '-S');
  assertKept(ran);
  assert.equal(countOf(ran, EVENT), 5, ran.err);
});

test('by a system call of its own it runs under us, without its rights', (context) => {
  if (skipUnless(context, 'python3-testsuite', 'set-user-ID')) return;
  const ran = run('raw', PASSWD, '-S');
  assert.equal(ran.status, 0, ran.err);
  if (isRoot) assert.equal(ran.out, plain());
  else {
    assert.notEqual(ran.out, plain());
    assert.match(ran.err, /passwd is set-user-ID 0: started under a tracer it would run without/);
  }
  assert.equal(countOf(ran, EVENT), 4, ran.err);
});

for (const way of ['execvp', 'posix_spawn', 'subprocess', 'thread'] as const) {
  test(`a program without such rights stays followed: ${way}`, (context) => {
    if (skipUnless(context, 'python3-testsuite')) return;
    const child = ['-c', 'import os; [os.getppid() for _ in range(1000)]'];
    const ran = run(way, '/usr/bin/python3', ...child);
    assert.equal(ran.status, 0, ran.err);
    assert.doesNotMatch(ran.err, /not followed/);
    const behind = way === 'thread' ? 0 : 1;
    assert.equal(countOf(ran, EVENT), 3 + 1000 + behind, ran.err);
  });
}

test('who is privileged follows programs that get rights, too', (context) => {
  if (skipUnless(context, 'set-user-ID')) return;
  const probe = 'getuid@libc.so.6';
  const hits = (rest: string): number => {
    const ran = countFollowed(probe, ['sh', '-c', `${rest}; true`]);
    assert.equal(ran.status, 0, ran.err);
    return countOf(ran, 'probe_libc:getuid');
  };
  const more = hits(`${PASSWD} -S`) - hits('true');
  if (isRoot) assert.ok(more > 0);
  else assert.equal(more, 0);
});
