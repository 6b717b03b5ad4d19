/** Programs on another C library: musl's linker tells of what it loads, too. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, spawn } from '../../src/index.ts';
import { skipUnless } from '../harness/features.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget } from '../harness/target.ts';
import { assertExact, eventOf, leavingClean } from './jump-support.ts';

/** What Debian's `musl-gcc` gives to gcc. */
const SPECS = '-specs=/usr/lib/x86_64-linux-musl/musl-gcc.specs';

const library = (): string =>
  compileFixture({
    sources: ['plugins.c'],
    flags: [SPECS, '-O2', '-g', '-fPIC', '-shared', '-DLIBRARY'],
    name: 'libplugin-musl.so',
  });
const program = (): string =>
  compileFixture({
    sources: ['plugins.c'],
    flags: [SPECS, '-O2', '-g', '-pthread'],
    name: 'plugins-musl',
  });

const probesOf = (path: string): string[] => [`plugin_begin@${path}`, `plugin_step@${path}`];

test('under musl a library is probed before its constructor', async (context) => {
  if (skipUnless(context, 'gcc', 'musl-gcc')) return;
  const path = library();
  await using target = await startTarget(program(), [path]);
  await target.waitForLine('ready');
  const trace = async (...lines: readonly (readonly [string, RegExp])[]): Promise<number[]> => {
    await using session = await attach({ pids: [target.pid] }, { probes: probesOf(path) });
    for (const [line, answer] of lines) {
      target.send(line);
      await target.waitForLine(answer);
    }
    const summary = await session.stop();
    assertExact(summary);
    return ['plugin_begin', 'plugin_step'].map((event) => eventOf(summary, event).hits);
  };
  assert.deepEqual(await trace(['open', /^opened/], ['call 100', /^called/]), [3, 100]);
  // It stays mapped from now on: what is left is ours.
  await leavingClean(target, async () => {
    assert.deepEqual(await trace(['call 10', /^called/]), [0, 10]);
  });
});

test('a command on musl is followed, and led through its linker', async (context) => {
  if (skipUnless(context, 'gcc', 'musl-gcc')) return;
  const path = library();
  const words = [program(), path, 'open', 'call 10', 'fork 5', 'quit'];
  await using session = await spawn(words, { probes: probesOf(path) });
  const [end] = await session.ended;
  assert.equal(end?.status?.code, 0);
  const summary = await session.stop();
  assertExact(summary);
  // musl never unmaps: the child opens what it has already.
  assert.equal(eventOf(summary, 'plugin_begin').hits, 3);
  assert.equal(eventOf(summary, 'plugin_step').hits, 15);
});
