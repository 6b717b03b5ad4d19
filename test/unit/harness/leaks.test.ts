import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { test } from 'node:test';

import { skipUnless } from '../../harness/features.ts';
import { compileFixture } from '../../harness/fixtures.ts';
import { assertClean, differences, snapshot } from '../../harness/leaks.ts';
import { startTarget, type Target } from '../../harness/target.ts';

test('nothing changed is clean, whether it ran or stood still', async (t) => {
  if (skipUnless(t, 'gcc')) return;
  await using target = await pausedSelfCheck();
  const before = await snapshot(target.pid);
  assert.ok(before.mappings.length > 10);
  assertClean(before, await snapshot(target.pid));
  target.send('step 100');
  await target.waitForLine('stepped');
  assertClean(before, await snapshot(target.pid), { ran: true });
});

test('one changed byte of code is found and shown', async (t) => {
  if (skipUnless(t, 'gcc')) return;
  await using target = await pausedSelfCheck();
  const before = await snapshot(target.pid);
  const maps = readFileSync(`/proc/${target.pid}/maps`, 'utf8');
  const code = /^(\w+)-\w+ r-xp (\w+) .*self-check$/m.exec(maps);
  assert.ok(code?.[1] !== undefined && code[2] !== undefined);
  const memory = openSync(`/proc/${target.pid}/mem`, 'r+');
  const at = Number(`0x${code[1]}`) + 5;
  const old = Buffer.alloc(1);
  readSync(memory, old, 0, 1, at);
  writeSync(memory, Buffer.from([(old[0] ?? 0) ^ 0xff]), 0, 1, at);
  const all = differences(before, await snapshot(target.pid));
  const found = all.filter((line) => line.startsWith('code'));
  writeSync(memory, old, 0, 1, at);
  closeSync(memory);
  assert.equal(found.length, 1);
  assert.match(
    found[0] ?? '',
    new RegExp(`self-check\\+0x${(Number(`0x${code[2]}`) + 5).toString(16)}: file`),
  );
  assertClean(before, await snapshot(target.pid));
});

test('a descriptor of ours that stays open is found', async () => {
  await using target = await quietShell();
  const before = await snapshot(target.pid);
  const descriptor = openSync('/dev/null', 'r');
  const found = differences(before, await snapshot(target.pid));
  closeSync(descriptor);
  assert.deepEqual(found, ['our descriptor is new: /dev/null']);
});

test('new mappings, descriptors, tracers and masks of a target are found', async () => {
  await using target = await quietShell();
  const before = await snapshot(target.pid);
  const after = {
    ...before,
    mappings: [...before.mappings, '7000-8000 r-xp 00000000 00:01 7 /memfd:trapline-control'],
    descriptors: [...before.descriptors, '7 -> /memfd:trapline-live'],
    tasks: before.tasks.map((line) => line.replace('TracerPid 0 ', 'TracerPid 9 ')),
  };
  for (const ran of [false, true]) {
    const found = differences(before, after, { ran }).join('\n');
    assert.match(found, /mapping is new: .*trapline-control/);
    assert.match(found, /descriptor.*trapline-live/);
    assert.match(found, /still traced: task \d+: TracerPid 9/);
  }
});

/** Past its start: a snapshot of a program that still loads its libraries is never equal to the next. */
async function quietShell(): Promise<Target> {
  const target = await startTarget('/bin/sh', ['-c', 'echo ready; read line']);
  await target.waitForLine('ready');
  return target;
}

async function pausedSelfCheck(): Promise<Target> {
  const target = await startTarget(compileFixture({ sources: ['self-check.c'] }), [
    '2',
    '0',
    'paused',
  ]);
  await target.waitForLine('ready');
  return target;
}
