/** Files that are deleted or replaced while processes run the old ones: those are what is probed there. */

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, realpathSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'node:test';

import { attach, status, type Session } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget, type Target, type TargetOptions } from '../harness/target.ts';
import { assertExact, eventOf, until } from './jump-support.ts';
import { inFolder, librariesOf } from './real-support.ts';

const isRoot = process.getuid?.() === 0;

function libraryOf(version: number): string {
  const flags = ['-O2', '-g', '-shared', '-fPIC', `-DVERSION=${version}`];
  return compileFixture({ sources: ['life-library.c'], flags, name: 'liblife.so' });
}

/** As a package is upgraded: beside, then by one rename (dpkg does so). */
function install(file: string, to: string): void {
  copyFileSync(file, `${to}.dpkg-new`);
  renameSync(`${to}.dpkg-new`, to);
}

interface Installed {
  readonly folder: string;
  readonly program: string;
  readonly library: string;
}

/** A program and the first version of its library, in a folder of their own. */
function installed(work: (files: Installed) => Promise<void>): Promise<void> {
  return inFolder(async (folder) => {
    const [program, library] = [join(folder, 'life-user'), join(folder, 'liblife.so')];
    install(compileFixture({ sources: ['life-user.c'] }), program);
    install(libraryOf(1), library);
    await work({ folder, program, library });
  });
}

interface User extends AsyncDisposable {
  readonly target: Target;
  readonly version: number;
  /** Of life_call, in the file that it runs. */
  readonly offset: number;
}

async function startUser(
  { program, library }: Installed,
  words: readonly string[] = [],
  options: TargetOptions = {},
): Promise<User> {
  const target = await startTarget(program, [library, ...words], options);
  const [, version, offset] = (await target.waitForLine('ready')).split(' ');
  return {
    target,
    version: Number(version),
    offset: Number(`0x${offset}`),
    [Symbol.asyncDispose]: () => target[Symbol.asyncDispose](),
  };
}

async function call(target: Target, times: number): Promise<void> {
  target.send(`call ${times}`);
  assert.match(await target.waitForLine(/^(done|bad)/, 30_000), /^done/);
}

async function quit(target: Target): Promise<void> {
  await call(target, 10);
  assert.doesNotMatch(readFileSync(`/proc/${target.pid}/maps`, 'utf8'), /memfd:trapline/);
  target.send('quit');
  await target.waitForLine('ok');
}

/** Counts at a place of one process, which is left as it was. */
async function countAt(target: Target, place: string, event: string): Promise<Session> {
  await using session = await attach(
    { pids: [target.pid] },
    { probes: [{ definition: place, action: 'count' }] },
  );
  assert.equal(session.probes[0]?.sites[0]?.name, event);
  const [shown] = await status([target.pid]);
  assert.deepEqual(
    shown?.sites.map(({ name, found }) => [name, found]),
    [[event, 'its jump']],
  );
  await call(target, 25);
  const summary = await session.stop();
  assertExact(summary);
  assert.deepEqual(
    summary.events.map(({ hits }) => hits),
    [25],
  );
  return session;
}

/** By its name, by its path, and by the offset in the file that it runs. */
async function countAtAll(user: User, file: string, name: string, offset: number): Promise<void> {
  const hexadecimal = `0x${offset.toString(16)}`;
  for (const place of [
    `${name}@${basename(file)}`,
    `${name}@'${file}'`,
    `'${file}':${hexadecimal}`,
  ]) {
    await countAt(user.target, place, name);
  }
}

test('a library that was replaced by a newer one: the old one is probed, by its own symbols', async () => {
  await installed(async (files) => {
    await using old = await startUser(files);
    install(libraryOf(2), files.library);
    await using now = await startUser(files);
    assert.deepEqual([old.version, now.version], [1, 2]);
    assert.notEqual(old.offset, now.offset);
    await countAtAll(now, files.library, 'life_call', now.offset);
    if (isRoot) {
      await countAtAll(old, files.library, 'life_call', old.offset);
    } else {
      const probes = [`life_call@'${files.library}'`];
      await assert.rejects(attach({ pids: [old.target.pid] }, { probes }), (error: Error) => {
        assert.match(
          error.message,
          /liblife\.so, as process \d+ maps it, can't be read \(it was deleted or replaced\)/,
        );
        assert.match(Reflect.get(error, 'hint') as string, /as root/); // a TraplineError has one
        return true;
      });
    }
    await quit(old.target);
    await quit(now.target);
  });
});

test('a deleted library of which the process has an open descriptor is read by that', async () => {
  await installed(async (files) => {
    await using old = await startUser(files, ['keep']);
    install(libraryOf(2), files.library);
    await countAtAll(old, files.library, 'life_call', old.offset);
    rmSync(files.library);
    await countAtAll(old, files.library, 'life_call', old.offset);
    await quit(old.target);
  });
});

test('a deleted library that another process runs as its program, or has open, is read there', async () => {
  await installed(async (files) => {
    await using other = await startUser(files, ['keep']);
    await using old = await startUser(files);
    install(libraryOf(2), files.library);
    await countAtAll(old, files.library, 'life_call', old.offset);
    await quit(old.target);
    await quit(other.target);
  });
});

test('a program that was replaced by another version while it runs', async () => {
  await installed(async (files) => {
    await using old = await startUser(files);
    const flags = ['-O1', '-g', '-falign-functions=256'];
    install(compileFixture({ sources: ['life-user.c'], flags }), files.program);
    await using now = await startUser(files);
    for (const { target } of [old, now]) {
      for (const file of ['life-user', `'${files.program}'`]) {
        await countAt(target, `own_call@${file}`, 'own_call');
      }
      await quit(target);
    }
  });
});

/** The sites of each process, by its number: their offsets. */
function offsets(session: Session): Map<number, number[]> {
  const found = new Map<number, number[]>();
  for (const { sites } of session.probes) {
    for (const { pid, offset } of sites) found.set(pid, [...(found.get(pid) ?? []), offset]);
  }
  return found;
}

async function holds(session: Session, ...users: User[]): Promise<void> {
  await until('probes in all', () => users.every(({ target }) => offsets(session).has(target.pid)));
}

test('an upgrade in the middle of a session on all processes: old and new ones are counted, under one name', async () => {
  await installed(async (files) => {
    await using one = await startUser(files);
    const probe = { definition: `life_call@'${files.library}'`, action: 'count' } as const;
    await using session = await attach({ all: true }, { probes: [probe] });
    await using two = await startUser(files);
    await holds(session, one, two);
    await call(two.target, 5);
    install(libraryOf(2), files.library);
    await using three = await startUser(files);
    assert.deepEqual(
      [one, two, three].map(({ version }) => version),
      [1, 1, 2],
    );
    await holds(session, one, two, three);
    await call(one.target, 10);
    await call(two.target, 15);
    await call(three.target, 30);
    assert.deepEqual(
      offsets(session),
      new Map([one, two, three].map(({ target, offset }) => [Number(target.pid), [offset]])),
    );
    const names = session.probes.flatMap(({ sites }) =>
      sites.map(({ event, name }) => [event, name].join()),
    );
    assert.deepEqual([...new Set(names)], ['probe_liblife:life_call,life_call']);
    const summary = await session.stop();
    assertExact(summary);
    assert.deepEqual(
      summary.events.map(({ event, hits }) => [event, hits]),
      [['probe_liblife:life_call', 60]],
    );
    for (const { target } of [one, two, three]) await quit(target);
  });
});

test('a session on all processes that begins behind an upgrade has both files', async () => {
  await installed(async (files) => {
    await using old = await startUser(files);
    install(libraryOf(2), files.library);
    await using now = await startUser(files);
    const probe = { definition: `life_call@'${files.library}'`, action: 'count' } as const;
    await using session = await attach({ all: true }, { probes: [probe] });
    const readable = isRoot ? [old, now] : [now];
    assert.deepEqual(
      offsets(session),
      new Map(readable.map(({ target, offset }) => [Number(target.pid), [offset]])),
    );
    const refused = session.probes.flatMap((each) => each.refused);
    assert.deepEqual(
      refused.map(({ pid }) => pid),
      isRoot ? [] : [old.target.pid],
    );
    for (const { reason } of refused)
      assert.match(reason, /can't be read \(it was deleted or replaced\)/);
    await call(old.target, 7);
    await call(now.target, 9);
    const summary = await session.stop();
    assertExact(summary);
    assert.equal(eventOf(summary, 'life_call').hits, isRoot ? 16 : 9);
    for (const { target } of [old, now]) await quit(target);
  });
});

test('a process whose C library was replaced is probed as ever, and its tasks are told apart at no cost', async () => {
  await installed(async (files) => {
    const folder = join(files.folder, 'lib');
    mkdirSync(folder);
    const libc = librariesOf(files.program).find((path) => basename(path) === 'libc.so.6') ?? '';
    const own = join(folder, 'libc.so.6');
    copyFileSync(realpathSync(libc), own);
    const env = { LD_LIBRARY_PATH: folder, PATH: process.env['PATH'] ?? '' };
    await using user = await startUser(files, [], { env });
    const { target } = user;
    assert.match(readFileSync(`/proc/${target.pid}/maps`, 'utf8'), new RegExp(`${own}$`, 'm'));
    rmSync(own);
    await countAt(target, 'own_call@life-user', 'own_call');
    await quit(target);
  });
});
