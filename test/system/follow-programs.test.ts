/** Programs of all kinds that a command executes, and real commands that make many processes. */

import assert from 'node:assert/strict';
import { chmodSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import {
  assertCounted,
  countFollowed,
  EVENT,
  followedAlone,
  followedProgram,
} from './follow-support.ts';
import { countOf, main, runPlain, withFolder } from './real-support.ts';

const { program, library, probe } = followedProgram();

for (const flag of ['-static', '-static-pie', '-no-pie']) {
  test(`a program that is ${flag.slice(1)}, executed by a shell`, () => {
    const alone = followedAlone(flag);
    const ran = countFollowed(`followed_hit@${alone}`, ['sh', '-c', `${alone} ways 3`]);
    assertCounted(ran, 'probe_followed_alone:followed_hit');
  });
}

test('a script: its interpreter is what runs', () => {
  withFolder((folder) => {
    const script = join(folder, 'script');
    writeFileSync(script, `#!/bin/sh\n${program} hit 3\nexec ${program} hit 4\n`);
    const own = join(folder, 'own');
    // The kernel gives the interpreter what stands behind it, and the script's path.
    writeFileSync(own, `#!${program} hit\n`);
    for (const file of [script, own]) chmodSync(file, 0o755);
    symlinkSync(own, join(folder, '5'));
    const ran = countFollowed(probe, [
      'sh',
      '-c',
      `cd ${folder}; PATH=:$PATH; 5; ./script; echo ok 12`,
    ]);
    assertCounted(ran);
  });
});

test('addresses have names though the program, and its child, ended long before they were read', () => {
  const short = compileFixture({ sources: ['short-lived.c'], flags: ['-O1'] });
  const definition = `take@${short} what=%di:symbol`;
  const ran = runPlain(process.execPath, [main, 'trace', '-q', definition, '--', short]);
  assert.equal(ran.status, 0, ran.err);
  const names = Array.from(ran.out.matchAll(/what=(\S+)/g), ([, name]) => name);
  assert.equal(names.length, 2, ran.out);
  for (const name of names) assert.match(name ?? '', /^given\+0x0\/0x[0-9a-f]+$/);
});

test('a 32-bit program runs on unharmed, and that is said', () => {
  const foreign = compileFixture({
    sources: ['foreign.S'],
    flags: ['-m32', '-nostdlib', '-static'],
    name: 'foreign',
  });
  const command = ['sh', '-c', `${foreign}; echo status $?; ${program} said 4`];
  const ran = countFollowed(probe, command);
  assertCounted(ran);
  assert.match(ran.out, /^status 7$/m);
  assert.match(ran.err, /foreign \(\d+\) is a 32-bit program: it has no probes/);
});

for (const shell of ['dash', 'bash', 'zsh']) {
  test(`pipelines, subshells and background jobs of ${shell}`, () => {
    const script = `
${program} hit 3 | ${program} hit 4 | cat
(${program} hit 5; ${program} hit 6) &
x=$(${program} said 7)
for i in 1 2 3; do ${program} hit 2; done
wait
echo "ok $(( 3 + 4 + 5 + 6 + 7 + 6 ))"`;
    assertCounted(countFollowed(probe, [requireProgram(shell), '-c', script]));
  });
}

test('processes that python starts', () => {
  const script = `
import subprocess, os
for n in (3, 4): subprocess.run(['${program}', 'hit', str(n)], check=True)
subprocess.run('${program} hit 5', shell=True, check=True)
child = os.fork()
if child == 0: os.execv('${program}', ['followed', 'hit', '6'])
os.waitpid(child, 0)
p = os.posix_spawn('${program}', ['followed', 'hit', '7'], os.environ)
os.waitpid(p, 0)
print('ok 25')`;
  assertCounted(countFollowed(probe, ['/usr/bin/python3', '-c', script]));
});

test('make -j2 and gcc: every process of a build, those of a library that all of them load', () => {
  withFolder((folder) => {
    const names = ['a', 'b', 'c', 'd'];
    for (const name of names) {
      writeFileSync(join(folder, `${name}.c`), `int ${name}(void) { return 1; }\n`);
    }
    const begin = join(folder, 'begin.c');
    writeFileSync(
      begin,
      `#include <fcntl.h>
#include <unistd.h>
long followed_hit(long);
__attribute__((constructor)) static void begin(void) {
  int file = open("${folder}/log", O_WRONLY | O_APPEND | O_CREAT, 0600);
  followed_hit(1);
  if (write(file, "x", 1) != 1) _exit(99);
  close(file);
}`,
    );
    const preloaded = compileFixture({
      sources: [begin],
      flags: ['-O2', '-shared', '-fPIC'],
      libraries: [library, `-Wl,-rpath,${dirname(library)}`],
      name: 'libbegin.so',
    });
    const objects = names.map((name) => `${name}.o`).join(' ');
    writeFileSync(
      join(folder, 'Makefile'),
      `all: ${objects}\n\tgcc -shared -o all.so ${objects}\n%.o: %.c\n\tgcc -c $< -o $@\n`,
    );
    const command = ['sh', '-c', `LD_PRELOAD=${preloaded} make -j2`];
    const ran = countFollowed(probe, command, { cwd: folder });
    assert.equal(ran.status, 0, ran.err);
    // One letter for each program: make, and gcc, cc1, as for each file, collect2 and ld.
    const begun = readFileSync(join(folder, 'log')).byteLength;
    assert.ok(begun >= 1 + 3 * names.length + 3, String(begun));
    assert.equal(countOf(ran, EVENT), begun);
  });
});

test('a file that is not there is refused at once; one that nobody maps yet is waited for', () => {
  const wrong = countFollowed('followed_hit@no-such-file-at-all', ['true']);
  assert.equal(wrong.status, 1);
  assert.match(wrong.err, /no-such-file-at-all/);
  const ran = countFollowed(`followed_hit@${library}`, ['sh', '-c', 'true; true']);
  assert.equal(ran.status, 0, ran.err);
});
