/** Libraries that come and go in a running process: their probes are in before any of their code runs. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { attach, spawn, status, type ProbeRequest, type Session } from '../../src/index.ts';
import { address } from '../../src/base/brand.ts';
import { MemoryReader } from '../../src/engines/jump/spaces.ts';
import { SegmentHeader } from '../../src/events/layout.ts';
import { readMaps } from '../../src/process/maps.ts';
import { skipUnless } from '../harness/features.ts';
import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, eventOf, leavingClean, Reading, until } from './jump-support.ts';
import { startSession } from './kill-support.ts';

function plugin(name = 'libplugin.so'): string {
  const flags = ['-O2', '-g', '-fPIC', '-shared', '-DLIBRARY'];
  return compileFixture({ sources: ['plugins.c'], flags, name });
}

const program = (): string => compileFixture({ sources: ['plugins.c'] });

async function startPlugins(...libraries: readonly string[]): Promise<Target> {
  const target = await startTarget(program(), libraries);
  await target.waitForLine('ready');
  return target;
}

async function say(target: Target, words: string, answer: RegExp): Promise<string> {
  target.send(words);
  const line = await target.waitForLine(new RegExp(`${answer.source}|^bad`), 60_000);
  assert.match(line, answer);
  return line;
}

function counting(...definitions: readonly string[]): ProbeRequest[] {
  return definitions.map((definition) => ({ definition, action: 'count' }));
}

async function hitsOf(session: Session, event: string): Promise<number> {
  const { events } = await session.summary();
  return events.find((one) => one.event.endsWith(`:${event}`))?.hits ?? 0;
}

test('a library that is loaded later is probed before its constructor, wherever it comes', async () => {
  const path = plugin();
  await using target = await startPlugins(path);
  await leavingClean(target, async () => {
    const probes = [`plugin_step@${path} value=%di:s64`, `plugin_begin@${path} value=%di:s64`];
    await using session = await attach({ pids: [target.pid] }, { probes });
    assert.deepEqual(
      session.probes.map(({ sites, refused }) => [sites.length, refused.length]),
      [
        [0, 0],
        [0, 0],
      ],
    );
    const reading = new Reading(session);
    const addresses = new Set<string>();
    for (let round = 1; round <= 4; round++) {
      addresses.add(await say(target, 'open', /^opened/));
      await say(target, 'call 100', /^called/);
      assert.equal(await hitsOf(session, 'plugin_step'), round * 100);
      assert.equal(await hitsOf(session, 'plugin_begin'), round * 3);
      await say(target, 'close', /^closed/);
      await say(target, 'hole', /^hole/);
    }
    assert.equal(addresses.size, 4);
    const summary = await session.stop();
    assertExact(summary);
    await reading.done;
    assert.equal(summary.events.length, 2);
    assert.equal(reading.total, 412);
  });
});

test('loaded again at the same address it goes on with the counts that it had', async () => {
  const path = plugin();
  await using target = await startPlugins(path);
  await leavingClean(target, async () => {
    const probes = counting(`plugin_step@${path}`, `plugin_begin@${path}`);
    await using session = await attach({ pids: [target.pid] }, { probes });
    const addresses = new Set<string>();
    for (let round = 0; round < 10; round++) {
      addresses.add(await say(target, 'open', /^opened/));
      await say(target, 'call 10', /^called/);
      await say(target, 'close', /^closed/);
    }
    assert.equal(addresses.size, 1);
    assert.deepEqual(
      session.probes.map(({ sites }) => sites.length),
      [1, 1],
    );
    const [held] = await status([target.pid]);
    assert.deepEqual(
      held?.hooks?.map(({ name, found, programs }) => [name, found, programs.length]),
      [['_dl_debug_state', 'its jump', 1]],
    );
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'plugin_step').hits, 100);
    assert.equal(eventOf(summary, 'plugin_begin').hits, 30);
  });
});

test('two copies in two namespaces are both probed', async () => {
  const path = plugin();
  await using target = await startPlugins(path);
  await leavingClean(target, async () => {
    const probes = counting(`plugin_step@${path}`, `plugin_begin@${path}`);
    await using session = await attach({ pids: [target.pid] }, { probes });
    await say(target, 'open', /^opened/);
    await say(target, 'call 5', /^called/);
    await say(target, 'openns', /^opened/);
    await say(target, 'call 70', /^called/);
    await say(target, 'close', /^closed/);
    await say(target, 'call 600', /^called/);
    await say(target, 'close', /^closed/);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'plugin_step').hits, 675);
    assert.equal(eventOf(summary, 'plugin_begin').hits, 6);
  });
});

test('200 rounds of loading and unloading beside four threads, every hit counted', async () => {
  const path = plugin();
  await using target = await startPlugins(path);
  // The C library's own handler comes with the first thread.
  await say(target, 'rounds 1 1', /^rounds/);
  await leavingClean(target, async () => {
    const probes = counting(
      `plugin_step@${path}`,
      `plugin_begin@${path}`,
      `work_step@${program()}`,
    );
    await using session = await attach({ pids: [target.pid] }, { probes });
    const [, calls, work] = (await say(target, 'rounds 200 4', /^rounds/)).split(' ').map(Number);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'plugin_step').hits, calls);
    assert.equal(eventOf(summary, 'plugin_begin').hits, 600);
    assert.equal(eventOf(summary, 'work_step').hits, work);
  });
});

test('a child that loads a library of its own has it probed; its parent, too, when it comes to it', async () => {
  const path = plugin();
  await using target = await startPlugins(path);
  await leavingClean(target, async () => {
    const probes = counting(`plugin_step@${path}`, `plugin_begin@${path}`);
    await using session = await attach({ pids: [target.pid] }, { probes });
    assert.match(await say(target, 'fork 30', /^child/), /^child 0$/);
    assert.equal(await hitsOf(session, 'plugin_step'), 30);
    await say(target, 'open', /^opened/);
    await say(target, 'call 400', /^called/);
    assert.match(await say(target, 'fork 5000', /^child/), /^child 0$/);
    await say(target, 'close', /^closed/);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'plugin_step').hits, 5430);
    assert.equal(eventOf(summary, 'plugin_begin').hits, 6);
  });
});

for (const follow of [true, false]) {
  test(`a command loads a library with its first words, ${follow ? '' : 'not '}followed`, async () => {
    const path = plugin();
    const words = ['open', 'call 9', 'openns', 'call 20', 'quit'];
    const command = [program(), path, ...words];
    // A program that is executed later is led through its linker, too.
    const shell = ['sh', '-c', 'exec "$0" "$@" > /dev/null'];
    await using session = await spawn(follow ? [...shell, ...command] : command, {
      probes: counting(`plugin_step@${path}`, `plugin_begin@${path}`, `main@${program()}`),
      follow,
    });
    await session.ended;
    const summary = await session.stop();
    assert.deepEqual(summary.kept, []);
    assert.equal(eventOf(summary, 'plugin_step').hits, 29);
    assert.equal(eventOf(summary, 'plugin_begin').hits, 6);
    assert.equal(eventOf(summary, 'main').hits, 1);
  });
}

test('a program that is executed later, and maps no probed file, is told of what it loads', async () => {
  const path = plugin();
  const command = [program(), path, 'open', 'call 9', 'openns', 'call 20', 'quit'];
  await using session = await spawn(['sh', '-c', '"$0" "$@" > /dev/null; true', ...command], {
    probes: counting(`plugin_step@${path}`, `plugin_begin@${path}`),
  });
  await session.ended;
  const summary = await session.stop();
  assert.deepEqual(summary.kept, []);
  assert.equal(eventOf(summary, 'plugin_step').hits, 29);
  assert.equal(eventOf(summary, 'plugin_begin').hits, 6);
});

test('a session that is killed while a task waits for it holds nobody', async () => {
  const path = plugin();
  await using target = await startPlugins(path);
  await using session = await startSession(target, `plugin_step@${path}`, `plugin_begin@${path}`);
  session.kill('SIGSTOP');
  target.send('open');
  const FUTEX = '202 ';
  await until('the task waits', () => {
    return readFileSync(`/proc/${target.pid}/syscall`, 'utf8').startsWith(FUTEX);
  });
  session.kill('SIGKILL');
  assert.match(await target.waitForLine(/^opened|^bad/), /^opened/);
  // It went on because the session is gone, not because it had waited for long enough.
  assert.equal(headerWord(target, SegmentHeader.unserved), 0);
  const announced = headerWord(target, SegmentHeader.announced);
  assert.equal(announced, 1);
  await say(target, 'close', /^closed/);
  await say(target, 'open', /^opened/);
  await say(target, 'call 3', /^called/);
  assert.equal(headerWord(target, SegmentHeader.announced), announced);
  target.send('quit');
  await target.waitForLine('ok');
});

test('a session that is suspended is waited for once, and serves what it missed', async () => {
  const path = plugin();
  await using target = await startPlugins(path);
  await using session = await startSession(target, `plugin_step@${path} value=%di:s64`);
  session.kill('SIGSTOP');
  await say(target, 'open', /^opened/);
  assert.equal(headerWord(target, SegmentHeader.unserved), 1);
  await say(target, 'call 3', /^called/);
  await say(target, 'openns', /^opened/);
  assert.equal(headerWord(target, SegmentHeader.unserved), 1);
  session.kill('SIGCONT');
  await until('both are served', () => headerWord(target, SegmentHeader.served) >= 2);
  session.send('count');
  const before = Number(/\d+/.exec(await session.waitForLine(/^count/))?.[0]);
  await say(target, 'call 50', /^called/);
  await say(target, 'close', /^closed/);
  await say(target, 'call 500', /^called/);
  assert.equal(before, 0);
  session.send('quit');
  await session.waitForEnd(30_000);
  target.send('quit');
  await target.waitForLine('ok');
});

test('a module of python that is imported later is probed, and the library that it loads', async (t) => {
  if (skipUnless(t, 'python3')) return;
  const lines = [
    'import sys',
    'print("ready", flush=True)',
    'for line in sys.stdin: exec(line); print("done", flush=True)',
  ];
  await using target = await startTarget(requireProgram('python3'), ['-c', lines.join('\n')]);
  await target.waitForLine('ready');
  await using session = await attach(
    { pids: [target.pid] },
    { probes: counting('BZ2_bzCompressInit@libbz2.so.1.0', 'BZ2_bzCompressEnd@libbz2.so.1.0') },
  );
  target.send('import bz2; [bz2.compress(b"text") for _ in range(25)]');
  await target.waitForLine('done');
  const summary = await session.stop();
  assertExact(summary);
  assert.equal(eventOf(summary, 'BZ2_bzCompressInit').hits, 25);
  assert.equal(eventOf(summary, 'BZ2_bzCompressEnd').hits, 25);
});

test('a target whose filter forbids to wait is probed, and its libraries are not waited for', async (t) => {
  if (skipUnless(t, 'gcc', 'root')) return;
  const path = compileFixture({ sources: ['sandboxed.c'], name: 'sandboxed' });
  for (const [name, number] of [
    ['futex', 202],
    ['clock_gettime', 228],
  ] as const) {
    await using target = await startTarget(path, ['kill', String(number)]);
    await target.waitForLine(/^ready/);
    await using session = await attach(
      { pids: [target.pid] },
      { probes: [`sandboxed_step@${path}`] },
    );
    const [held] = await status([target.pid]);
    assert.equal(held?.hooks, undefined);
    await assert.rejects(session.add('BZ2_bzCompressInit@libbz2.so.1.0'), (error: unknown) => {
      assert.match(String(error), /is not mapped by/);
      assert.match(String((error as { hint?: string }).hint), new RegExp(name));
      return true;
    });
    const { kept } = await session.stop();
    assert.deepEqual(kept, []);
  }
});

test('a name that leads to no file is an error still', async () => {
  await using target = await startPlugins(plugin());
  for (const name of ['libthat-is-not-there.so', '/nowhere/libplugin.so']) {
    await assert.rejects(attach({ pids: [target.pid] }, { probes: [`f@${name}`] }), {
      code: 'no-file',
    });
  }
  await assert.rejects(
    attach({ pids: [target.pid] }, { probes: ['no_such_function@libbz2.so.1.0'] }),
    { code: 'no-symbol' },
  );
});

/** A word of the first page of a session's segment, as the target has it. */
function headerWord(target: Target, offset: number): number {
  const segment = readMaps(target.pid).find(({ path }) => path === '/memfd:trapline-session');
  assert.ok(segment !== undefined);
  using reader = new MemoryReader(target.pid);
  const bytes = reader.read(address(segment.start + BigInt(offset)), 4);
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
}
