/** Processes in other mount, pid and user namespaces: files as they see them, numbers as both sides have them. */

import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';

import { attach, status } from '../../src/index.ts';
import { skipUnless } from '../harness/features.ts';
import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { Running, run } from './cli-support.ts';
import { assertExact, eventOf, Reading, until } from './jump-support.ts';
import { inFolder, librariesOf } from './real-support.ts';

/** The first process below another that runs a program of this name. */
async function descendant(of: number, comm: string): Promise<number> {
  let found = 0;
  const look = (pid: number): void => {
    if (read(`/proc/${pid}/comm`).trim() === comm) found ||= pid;
    const children = read(`/proc/${pid}/task/${pid}/children`).trim();
    for (const child of children === '' ? [] : children.split(' ')) look(Number(child));
  };
  await until(`a process ${comm}`, () => {
    look(of);
    return found !== 0;
  });
  return found;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // ended meanwhile
  }
}

/** @returns all calls since the start. */
async function tell(target: Target, command: string): Promise<number> {
  target.send(command);
  const line = await target.waitForLine(/^(done|bad)/, 60_000);
  assert.match(line, /^done/);
  return Number(line.split(' ')[2]);
}

/** The words that start a program in pid, mount and user namespaces of its own. */
const UNSHARED = ['-Urpfm', '--mount-proc'];

test('a process in namespaces of its own, its threads and children: by our numbers, and shown by both', async (context) => {
  if (skipUnless(context, 'user-namespaces')) return;
  const program = compileFixture({ sources: ['life-fork.c'] });
  await using starter = await startTarget(requireProgram('unshare'), [...UNSHARED, program, '50']);
  const inner = Number((await starter.waitForLine('ready', 30_000)).split(' ')[1]);
  const pid = await descendant(starter.pid, 'life-fork');
  assert.notEqual(pid, inner);
  await using session = await attach(
    { pids: [pid] },
    { probes: ['life_work@life-fork n=%di:u64 pid=%si:u32 tid=%dx:u32'] },
  );
  assert.equal(session.targets[0]?.namespacePid, inner);
  const shown = new Map<string, number>();
  const reading = new Reading(session, (event) => {
    const key = `${event.number(1)}/${event.number(2)} as ${event.pid}/${event.tid}`;
    shown.set(key, (shown.get(key) ?? 0) + 1);
  });
  await tell(starter, 'work 50');
  const before = starter.lines.length;
  const calls = await tell(starter, 'fork 2');
  await until('all events', () => reading.total === calls);
  assert.equal(shown.get(`${inner}/${inner} as ${pid}/${pid}`), 50);
  const children = starter.lines.slice(before).filter((line) => line.startsWith('child '));
  assert.equal(children.length, 2);
  assert.equal(shown.size, 3);
  const [held] = await status([pid]);
  assert.deepEqual([held?.pid, held?.namespacePid], [pid, inner]);
  const { out } = await run('status', '-p', String(pid));
  assert.match(out, new RegExp(`^life-fork \\(${pid}, there ${inner}\\): `, 'm'));
  const json = await run('status', '-p', String(pid), '--json');
  assert.equal((JSON.parse(json.out) as { namespacePid?: number }).namespacePid, inner);
  const summary = await session.stop();
  await reading.done;
  assertExact(summary);
  assert.equal(eventOf(summary, 'life_work').hits, calls);
  await using own = await startTarget(program, ['50']);
  await own.waitForLine('ready');
  await using plain = await attach({ pids: [own.pid] }, { probes: ['life_work@life-fork'] });
  assert.equal('namespacePid' in (plain.targets[0] ?? {}), false);
});

test('threads of a process in a pid namespace of its own: known by our numbers, and chosen by them', async (context) => {
  if (skipUnless(context, 'user-namespaces')) return;
  const program = compileFixture({ sources: ['life-threads.c'] });
  await using starter = await startTarget(requireProgram('unshare'), [...UNSHARED, program]);
  await starter.waitForLine('ready', 30_000);
  const pid = await descendant(starter.pid, 'life-threads');
  await using session = await attach(
    { pids: [pid] },
    { probes: ['life_step@life-threads n=%di:u64 tid=%si:u32'] },
  );
  const seen = new Set<number>();
  const inner = new Set<number>();
  const reading = new Reading(session, (event) => {
    assert.equal(event.pid, pid);
    seen.add(event.tid);
    inner.add(event.number(1));
  });
  const calls = await tell(starter, 'work 30');
  await until('all events', () => reading.total === calls);
  assert.deepEqual([...seen], [pid]);
  // Of its threads those that live are known by our numbers.
  await tell(starter, 'run 2');
  await until('events of threads', () => seen.size === 3);
  for (const tid of seen) assert.ok(existsSync(`/proc/${pid}/task/${tid}`), `task ${tid}`);
  for (const tid of inner) assert.ok(!existsSync(`/proc/${pid}/task/${tid}`), `task ${tid}`);
  const other = [...seen].find((tid) => tid !== pid);
  const {
    status: code,
    out,
    err,
  } = await run(
    'trace',
    '--tid',
    String(other),
    '-n',
    '20',
    '--format',
    'json',
    'life_step@life-threads',
  );
  assert.equal(code, 0, err);
  for (const line of out.trim().split('\n')) {
    const event = JSON.parse(line) as { pid: number; tid: number };
    assert.deepEqual([event.pid, event.tid], [pid, other]);
  }
  assertExact(await session.stop());
  await reading.done;
});

test('--all says of a process in a container which number it has there', async (context) => {
  if (skipUnless(context, 'user-namespaces')) return;
  await inFolder(async (folder) => {
    const program = join(folder, 'life-fork');
    copyFileSync(compileFixture({ sources: ['life-fork.c'] }), program);
    await using running = new Running(['trace', '--all', '--count', `life_work@'${program}'`]);
    await running.until('err', /no process has it yet/);
    await using starter = await startTarget(requireProgram('unshare'), [
      ...UNSHARED,
      program,
      '50',
    ]);
    const ready = await starter.waitForLine('ready', 30_000);
    const pid = await descendant(starter.pid, 'life-fork');
    await running.until(
      'err',
      new RegExp(`also in life-fork \\(${pid}, there ${ready.split(' ')[1]}\\)`),
    );
    const calls = await tell(starter, 'work 70');
    running.child.kill('SIGINT');
    const { err } = await running.result();
    assert.match(err, new RegExp(`^\\S*life_work +${calls} `, 'm'));
  });
});

test('children that are put into pid namespaces of their own have the same numbers there, and lose no hit', async (context) => {
  if (skipUnless(context, 'user-namespaces')) return;
  await using target = await startTarget(compileFixture({ sources: ['life-fork.c'] }), ['50']);
  await target.waitForLine('ready');
  // Three rings for four tasks: what is counted by whom is seen by what the fourth misses.
  const [children, calls, contexts] = [4, 10_000, 3];
  // Its filter reads memory, for which it needs one.
  const definition = 'life_work@life-fork back=+0(%sp):u64 if back != 0';
  await using session = await attach(
    { pids: [target.pid] },
    {
      probes: [{ definition, action: 'count' }],
      ringBytes: 256 << 10,
      ringBudget: contexts * (256 << 10),
    },
  );
  await tell(target, `spaces ${children} ${calls}`);
  const summary = await session.stop();
  assertExact(summary);
  const { hits, aggregated, missed } = eventOf(summary, 'life_work');
  assert.deepEqual(
    [hits, aggregated, missed.noContext],
    [children * calls, contexts * calls, calls],
  );
  assert.doesNotMatch(readFileSync(`/proc/${target.pid}/maps`, 'utf8'), /memfd:trapline/);
});

/** A root that holds a program, its libraries, and a version of a library at a path that is ours too. */
function makeRoot(folder: string, program: string, library: string, to: string): void {
  chmodSync(folder, 0o755);
  for (const file of [program, ...librariesOf(program)]) {
    mkdirSync(join(folder, dirname(file)), { recursive: true });
    copyFileSync(file, join(folder, file));
  }
  mkdirSync(join(folder, dirname(to)), { recursive: true });
  copyFileSync(library, join(folder, to));
}

function libraryOf(version: number): string {
  const flags = ['-O2', '-g', '-shared', '-fPIC', `-DVERSION=${version}`];
  return compileFixture({ sources: ['life-library.c'], flags, name: 'liblife.so' });
}

test('a library that is another one at the same path there: its own symbols, offsets and code', async (context) => {
  if (skipUnless(context, 'root', 'overlayfs')) return;
  await inFolder(async (folder) => {
    const program = compileFixture({ sources: ['life-user.c'] });
    const path = join(folder, 'liblife.so');
    copyFileSync(libraryOf(1), path);
    const root = join(folder, 'root');
    mkdirSync(root);
    makeRoot(root, program, libraryOf(1), path);
    // The newer version lies in the upper layer of an overlay, which the process has for its root.
    const script = [
      `mount -t tmpfs none /mnt && mkdir -p '/mnt/u${folder}' /mnt/w /mnt/m`,
      `cp '${libraryOf(2)}' '/mnt/u${path}'`,
      `mount -t overlay -o 'lowerdir=${root},upperdir=/mnt/u,workdir=/mnt/w' none /mnt/m`,
      'mkdir -p /mnt/m/old /mnt/m/proc && mount -t proc none /mnt/m/proc && cd /mnt/m && pivot_root . old',
      `exec '${program}' '${path}'`,
    ].join(' && ');
    await using inside = await startTarget(requireProgram('unshare'), ['-m', 'sh', '-c', script]);
    const [, version, offset] = (await inside.waitForLine('ready', 30_000)).split(' ');
    await using outside = await startTarget(program, [path]);
    const [, ownVersion, ownOffset] = (await outside.waitForLine('ready')).split(' ');
    assert.deepEqual([version, ownVersion], ['2', '1']);
    assert.notEqual(offset, ownOffset);
    for (const place of [`life_call@'${path}'`, 'life_call@liblife']) {
      const probes = [{ definition: place, action: 'count' } as const];
      const pids = [inside.pid, outside.pid];
      await using session = await attach({ pids }, { probes });
      const sites = session.probes.flatMap((probe) => probe.sites);
      assert.deepEqual(
        sites.map((site) => [site.pid, site.offset.toString(16), site.name, site.event]),
        [
          [Number(inside.pid), offset, 'life_call', 'probe_liblife:life_call'],
          [Number(outside.pid), ownOffset, 'life_call', 'probe_liblife:life_call'],
        ],
      );
      for (const [target, calls] of [
        [inside, 11],
        [outside, 31],
      ] as const) {
        target.send(`call ${calls}`);
        assert.match(await target.waitForLine(/^(done|bad)/), /^done/);
      }
      const summary = await session.stop();
      assertExact(summary);
      assert.equal(eventOf(summary, 'life_call').hits, 42);
    }
    for (const target of [inside, outside]) {
      assert.doesNotMatch(readFileSync(`/proc/${target.pid}/maps`, 'utf8'), /memfd:trapline/);
      target.send('quit');
      await target.waitForLine('ok');
    }
  });
});

test('a process that sees no /proc, and one whose /proc is another', async (context) => {
  if (skipUnless(context, 'user-namespaces')) return;
  const program = compileFixture({ sources: ['life-fork.c'] });
  const hidden = 'mount -t tmpfs none /proc && exec "$0" 50';
  for (const words of [
    ['-Urm', 'sh', '-c', hidden, program],
    ['-Urpfm', 'sh', '-c', hidden, program],
    ['-Urpfm', program, '50'],
  ]) {
    await using starter = await startTarget(requireProgram('unshare'), words);
    await starter.waitForLine('ready', 30_000);
    const pid = await descendant(starter.pid, 'life-fork');
    await using session = await attach(
      { pids: [pid] },
      { probes: ['life_work@life-fork', 'dup2@libc.so.6'] },
    );
    const reading = new Reading(session, (event) => assert.equal(event.pid, pid));
    const calls = await tell(starter, 'work 40');
    await until('all events', () => reading.total === calls);
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    assert.equal(eventOf(summary, 'life_work').hits, calls);
    assert.doesNotMatch(readFileSync(`/proc/${pid}/maps`, 'utf8'), /memfd:trapline/);
  }
});
