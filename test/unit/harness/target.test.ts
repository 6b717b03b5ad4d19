import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import { skipUnless } from '../../harness/features.ts';
import { compileFixture } from '../../harness/fixtures.ts';
import { LineTimeout, startTarget } from '../../harness/target.ts';

test('a target is not our child, and its status, output and errors arrive', async () => {
  await using target = await startTarget('/bin/sh', [
    '-c',
    'echo out; echo err >&2; read word; echo "got $word"; exit 7',
  ]);
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').split(' ');
  assert.ok(!children.includes(String(target.pid)));
  await target.waitForLine('out');
  target.send('hello');
  assert.equal(await target.waitForLine(/^got/), 'got hello');
  assert.deepEqual(await target.waitForEnd(), { status: 7, signal: undefined });
  assert.deepEqual(target.errors, ['err']);
});

test('a target has no descriptor of its shell, and no signal ignored or blocked', async () => {
  await using target = await startTarget('/bin/sleep', ['60']);
  const descriptors = readdirSync(`/proc/${target.pid}/fd`);
  assert.ok(!descriptors.includes('3') && !descriptors.includes('4'), descriptors.join(' '));
  const status = readFileSync(`/proc/${target.pid}/status`, 'utf8');
  for (const field of ['SigBlk', 'SigIgn', 'SigCgt']) {
    assert.match(status, new RegExp(`^${field}:\\t0+$`, 'm'));
  }
});

test('the end by a signal is told by its name', async () => {
  await using target = await startTarget('/bin/sleep', ['60']);
  target.kill('SIGKILL');
  assert.deepEqual(await target.waitForEnd(), { status: undefined, signal: 'SIGKILL' });
  assert.equal(target.running, false);
});

test('a program that is not there is an error', async () => {
  await assert.rejects(startTarget('/nowhere/at-all'), /ENOENT/);
});

test('a line that does not come is an error with the last words', async () => {
  await using target = await startTarget('/bin/sh', ['-c', 'echo last; exec sleep 60']);
  await assert.rejects(target.waitForLine('never', 50), (error: unknown) => {
    assert.ok(error instanceof LineTimeout);
    assert.match(error.message, /last/);
    return true;
  });
});

test('the cause of an uncaught error of a script is among the last words', async () => {
  const fields = "{ code: 'refused', hint: 'none', position: undefined, errno: undefined }";
  const cause = "new Error('what was under it')";
  const script = `throw Object.assign(new Error('the message', { cause: ${cause} }), ${fields})`;
  await using target = await startTarget(process.execPath, ['-e', script]);
  await assert.rejects(
    target.waitForLine('ready'),
    /Error: the message[\s\S]*Error: what was under it/,
  );
});

test('disposal ends the target and its children', async () => {
  let numbers: number[] = [];
  {
    await using target = await startTarget('/bin/sh', ['-c', 'sleep 60 & echo $!; wait']);
    numbers = [target.pid, Number(await target.waitForLine(/^\d+$/))];
  }
  for (const number of numbers) {
    const path = `/proc/${number}/stat`; // a zombie waits for init alone
    assert.ok(!existsSync(path) || / Z /.test(readFileSync(path, 'utf8')), `${number} is left`);
  }
});

test('self-check counts exactly what it calls', async (t) => {
  if (skipUnless(t, 'gcc')) return;
  await using target = await startTarget(compileFixture({ sources: ['self-check.c'] }), [
    '3',
    '0',
    'paused',
  ]);
  assert.equal(await target.waitForLine('ready'), `ready ${target.pid}`);
  target.send('step 5');
  const line = await target.waitForLine('stepped');
  const counts: unknown = JSON.parse(line.slice('stepped '.length));
  assert.ok(typeof counts === 'object' && counts !== null);
  assert.equal(Reflect.get(counts, 'rounds'), 15);
  assert.equal(Reflect.get(counts, 'work_step'), 15 * 8);
  target.send('run');
  await target.waitForLine('running');
  target.kill('SIGTERM');
  await target.waitForLine('ok');
  assert.deepEqual(await target.waitForEnd(), { status: 0, signal: undefined });
});
