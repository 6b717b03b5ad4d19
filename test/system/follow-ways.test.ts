/** Every way to make a process or to execute a program: each call is counted, and the program sees what it always sees. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isLong } from '../harness/features.ts';
import { assertCounted, countFollowed, EVENT, followedProgram } from './follow-support.ts';
import { countOf } from './real-support.ts';

const { program, probe } = followedProgram();
const many = isLong() ? '10000' : '2000';

for (const [what, ...words] of [
  ['fork, vfork, clone with every share of memory, posix_spawn', 'ways', '7'],
  ['exec after exec', 'chain', '10', '7'],
  ['execveat and fexecve', 'at', '7'],
  ['an exec that fails', 'failing', '7'],
  ['exec by a thread that is not the first, under others', 'thread-exec', '7'],
  ['a child that outlives its parent, and makes a child itself', 'orphan', '7'],
  ['the first thread ends first', 'first-ends', '7'],
  ['a thread ends the process under others', 'group', '7'],
  ['threads that come and go', 'threads', many, '3'],
  ['queued signals, with all that is told of them', 'signals', '300', '2'],
  ['a child that is stopped and continued, as its parent sees it', 'stops', '40', '7'],
  ['signals that are ignored interrupt nothing', 'ignored', '7'],
] as const) {
  test(what, () => {
    assertCounted(countFollowed(probe, [program, ...words]));
  });
}

test('a storm of 1,000 short children, a hundred of which execute', () => {
  assertCounted(countFollowed(probe, [program, 'storm', '1000', '5']));
});

test('without following only what the command itself does is counted', () => {
  const ran = countFollowed(probe, [program, 'at', '7'], { words: ['--no-follow'] });
  assert.equal(ran.status, 0, ran.err);
  assert.match(ran.out, /^ok 14$/m);
  assert.equal(countOf(ran, EVENT), 0);
  assert.doesNotMatch(ran.err, /following/);
});

test('the command line says that it holds the command; the exit status is the command’s', () => {
  const ran = countFollowed(probe, [
    'sh',
    '-c',
    `${program} hit 3; (${program} hit 2; exit 4); exit 9`,
  ]);
  assert.equal(ran.status, 9, ran.err);
  assert.equal(countOf(ran, EVENT), 5);
  assert.match(ran.err, /^trapline: following: held by ptrace/m);
});
