/** Where a process may be: gone from its path, in a container, in another root, another user's. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { skipUnless } from '../harness/features.ts';
import { requireProgram } from '../harness/fixtures.ts';
import { assertClean, lookAt, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { Running, run, selfCheck } from './cli-support.ts';
import { inFolder, librariesOf, parseEvents, type TracedEvent } from './real-support.ts';

const PACED = ['2', '1000'];

/** The events of the first hits of a process, which is left clean. */
async function firstEvents(
  pid: number,
  definition: string,
  count = 20,
): Promise<readonly TracedEvent[]> {
  const before = await snapshot(pid);
  const words = ['-p', String(pid), '--format', 'json', '-n', String(count), definition];
  const { status, out, err } = await run('trace', ...words);
  assert.equal(status, 0, err);
  assert.doesNotMatch(err, /^kept:/m);
  assertClean(before, await snapshot(pid), { ran: true });
  const events = parseEvents(out);
  assert.equal(events.length, count, err);
  return events;
}

/** As {@link firstEvents} where the leak check can't read the file: only our own memory is looked for. */
async function firstEventsOf(pid: number, definition: string): Promise<readonly TracedEvent[]> {
  const words = ['-p', String(pid), '--format', 'json', '-n', '20', definition];
  const { status, out, err } = await run('trace', ...words);
  assert.equal(status, 0, err);
  assert.doesNotMatch(err, /^kept:/m);
  assert.doesNotMatch(readFileSync(`/proc/${pid}/maps`, 'utf8'), /memfd:trapline/);
  return parseEvents(out);
}

/** The program that a starter (unshare) runs: its only child, once it says that it is ready. */
async function childOf(starter: Target): Promise<number> {
  await starter.waitForLine('ready', 30_000);
  const text = readFileSync(`/proc/${starter.pid}/task/${starter.pid}/children`, 'utf8');
  const [child = 0] = text.trim().split(' ').map(Number);
  assert.ok(child > 0, 'a child runs');
  return child;
}

/** Two tasks make rounds; the first one reads commands. */
function assertOwnIds(events: readonly TracedEvent[], pid: number): void {
  for (const event of events) {
    assert.equal(event.pid, pid);
    assert.ok(existsSync(`/proc/${pid}/task/${event.tid}`), `task ${event.tid} of ${pid}`);
    assert.equal(event.comm, readFileSync(`/proc/${event.tid}/comm`, 'utf8').trim());
  }
}

test('a program that was deleted, and one that was replaced by another', async () => {
  await inFolder(async (folder) => {
    const program = join(folder, 'program');
    copyFileSync(selfCheck(), program);
    await using target = await startTarget(program, PACED);
    await target.waitForLine('ready');
    const gone = (): void => rmSync(program);
    const replaced = (): void => copyFileSync(requireProgram('sh'), program);
    for (const change of [gone, replaced]) {
      change();
      for (const file of ['program', program]) {
        assertOwnIds(await firstEventsOf(target.pid, `work_step@'${file}'`), target.pid);
      }
    }
    target.send('quit');
    assert.match(await target.waitForLine(/^(ok|bad)/, 30_000), /^ok/);
  });
});

test('a process in pid, mount and user namespaces of its own: by our ids', async (context) => {
  if (skipUnless(context, 'user-namespaces')) return;
  const words = ['-Urpfm', '--mount-proc', selfCheck(), ...PACED];
  await using starter = await startTarget(requireProgram('unshare'), words);
  const pid = await childOf(starter);
  assert.match(starter.lines.join('\n'), /^ready 1$/m, 'it calls itself 1');
  assertOwnIds(await firstEvents(pid, 'work_step@self-check'), pid);
  const [tid] = (await firstEvents(pid, 'work_step@self-check')).map((event) => event.tid);
  const only = ['--tid', String(tid), '--format', 'json', '-n', '10', 'work_step@self-check'];
  const { out, err, status } = await run('trace', ...only);
  assert.equal(status, 0, err);
  assert.deepEqual([...new Set(parseEvents(out).map((event) => event.tid))], [tid]);
});

test('a process in another root: files as it sees them, by its paths and by ours', async (context) => {
  if (skipUnless(context, 'root')) return;
  await inFolder(async (folder) => {
    const program = selfCheck();
    chmodSync(folder, 0o755);
    for (const file of [program, ...librariesOf(program)]) {
      mkdirSync(join(folder, dirname(file)), { recursive: true });
      copyFileSync(file, join(folder, file));
    }
    for (const starter of [[], ['unshare', '-pfm']]) {
      const words = [...starter, requireProgram('chroot'), folder, program, ...PACED];
      const [first = '', ...args] = words;
      await using target = await startTarget(
        first.startsWith('/') ? first : requireProgram(first),
        args,
      );
      let { pid }: { pid: number } = target;
      if (starter.length > 0) pid = await childOf(target);
      else await target.waitForLine('ready');
      for (const file of ['self-check', program, join(folder, program)]) {
        assertOwnIds(await firstEventsOf(pid, `work_step@'${file}'`), pid);
      }
      assert.equal((await firstEventsOf(pid, 'strlen@libc.so.6')).length, 20);
    }
  });
});

test('a program on overlayfs, where stat and maps name other devices', async (context) => {
  if (skipUnless(context, 'root', 'overlayfs')) return;
  const script = [
    'mount -t tmpfs none /mnt && cd /mnt && mkdir l u w m && cp "$0" l/program',
    'mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m',
    'exec /mnt/m/program 2 1000',
  ].join(' && ');
  const words = ['-m', 'sh', '-c', script, selfCheck()];
  await using target = await startTarget(requireProgram('unshare'), words);
  await target.waitForLine('ready');
  for (const file of ['program', '/mnt/m/program']) {
    assertOwnIds(await firstEvents(target.pid, `work_step@${file}`), target.pid);
  }
});

test('a process of another user is refused, with what would allow it', async (context) => {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0 || statSync('/proc/1').uid === uid) {
    context.diagnostic('there is no process that is not ours to probe');
    return;
  }
  const { status, out, err } = await run('trace', '-p', '1', 'malloc@libc.so.6');
  assert.notEqual(status, 0);
  assert.equal(out, '');
  assert.match(err, /not allowed to attach to process 1 \(/);
  assert.match(err, /run as that user or as root/);
});

test('--all finds every process that maps the file, and never ourselves', async () => {
  await inFolder(async (folder) => {
    const program = join(folder, 'program');
    copyFileSync(selfCheck(), program);
    await using one = await startTarget(program, PACED);
    await using two = await startTarget(program, PACED);
    await using three = await startTarget(program, PACED);
    const targets = [one, two, three];
    for (const target of targets) await target.waitForLine('ready');
    const before = targets.map(({ pid }) => lookAt(pid));
    await using running = new Running([
      'trace',
      '--all',
      '--format',
      'json',
      `work_step@'${program}'`,
    ]);
    const seen = (): Set<number> =>
      new Set(
        parseEvents(running.out.slice(0, running.out.lastIndexOf('\n') + 1)).map(({ pid }) => pid),
      );
    for (const deadline = Date.now() + 30_000; seen().size < 3 && Date.now() < deadline;) {
      await sleep(20);
    }
    running.child.kill('SIGINT');
    const { status, err } = await running.result();
    assert.equal(status, 0, err);
    assert.match(err, /in 3 processes|3 probes in/);
    assert.deepEqual(seen(), new Set(targets.map(({ pid }) => Number(pid))));
    targets.forEach(({ pid }, at) => {
      const old = before[at];
      assert.ok(old !== undefined);
      assertClean(old, lookAt(pid), { ran: true });
    });
  });
});

test('--all of a file that nobody maps', async () => {
  const { status, err } = await run('trace', '--all', 'main@/no/such/file');
  assert.notEqual(status, 0);
  assert.match(err, /Failed to find the given file\n  main@\/no\/such\/file\n {7}\^\n/);
});

test('--perf-map names the stubs while they are there', async () => {
  await using target = await startTarget(selfCheck(), PACED);
  await target.waitForLine('ready');
  const map = `/tmp/perf-${target.pid}.map`;
  await using running = new Running([
    'trace',
    '-p',
    String(target.pid),
    '--perf-map',
    'work_step@self-check',
  ]);
  await running.until('out', /work_step/);
  const [line = ''] = readFileSync(map, 'utf8').split('\n');
  const [start = '', bytes = '', name] = line.split(' ');
  assert.equal(name, 'trapline:work_step');
  const at = BigInt(`0x${start}`);
  const maps = readFileSync(`/proc/${target.pid}/maps`, 'utf8').split('\n');
  const around = maps.find((one) => {
    const [from = 0n, to = 0n] = (/^(\w+)-(\w+) /.exec(one) ?? [])
      .slice(1)
      .map((x) => BigInt(`0x${x}`));
    return at >= from && at + BigInt(`0x${bytes}`) <= to;
  });
  assert.match(around ?? '', /r-xp .*trapline-control/);
  running.child.kill('SIGINT');
  assert.equal((await running.result()).status, 0);
  assert.equal(existsSync(map), false);
});

test('--perf-map follows no link and waits for no pipe that somebody left in /tmp', async () => {
  await inFolder(async (folder) => {
    await using target = await startTarget(selfCheck(), ['1', '1000', 'paused']);
    await target.waitForLine('ready');
    const before = await snapshot(target.pid);
    const map = `/tmp/perf-${target.pid}.map`;
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'precious');
    for (const trap of [
      (): void => symlinkSync(victim, map),
      (): void => symlinkSync(join(folder, 'new'), map),
      (): void => {
        execFileSync('mkfifo', [map]);
      },
    ]) {
      trap();
      try {
        const words = ['-p', String(target.pid), '--perf-map', '-n', '1', 'work_step@self-check'];
        const { status, err } = await run('trace', ...words);
        assert.notEqual(status, 0, err);
        assert.match(err, new RegExp(`${map} (can't be written|is no file)`));
      } finally {
        rmSync(map);
      }
      assert.equal(readFileSync(victim, 'utf8'), 'precious');
      assert.equal(existsSync(join(folder, 'new')), false);
      assertClean(before, await snapshot(target.pid));
    }
  });
});
