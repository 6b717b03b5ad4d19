import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { compileFixture, requireProgram } from '../harness/fixtures.ts';
import { skipUnless } from '../harness/features.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { countOf, run, Running, step } from './cli-support.ts';
import { until } from './jump-support.ts';
import { ENGINES, heldBy, leavingKernelClean, OwnFixture, skipEngine } from './kernel-support.ts';

const PROBE = 'work_step@self-check a=%di:s64 b=%si:s64';
const EVENT = 'probe_self_check:work_step';
const MAIN = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

async function started(path: string, parked = false): Promise<Target> {
  const target = await startTarget(path, ['1', '1000', ...(parked ? ['paused'] : [])]);
  await target.waitForLine('ready', 60_000);
  return target;
}

/** The pid of a command that runs. */
function pidOf({ child }: Running): number {
  assert.ok(child.pid !== undefined);
  return child.pid;
}

for (const engine of ENGINES) {
  test(`${engine}: -n, --duration, and Ctrl-C end a trace that says what it did`, async (t) => {
    if (skipEngine(t, engine)) return;
    using fixture = new OwnFixture({ sources: ['self-check.c'] });
    await using target = await started(fixture.path);
    const words = ['trace', '--engine', engine, '-p', String(target.pid), PROBE];
    await leavingKernelClean(target, engine, async () => {
      const five = await run(...words, '-n', '5');
      assert.equal(five.status, 0, five.err);
      const lines = five.out.trimEnd().split('\n');
      assert.equal(lines.length, 5, five.out);
      const form =
        / *self-check-\d+ +\[\d{3}\] +\d+\.\d{6}: work_step: \(0x[0-9a-f]+\) a=-?\d+ b=-?\d+$/;
      for (const line of lines) assert.match(line, form);
      assert.match(five.err, /1 probe in self-check \(\d+\)/);
      assert.match(five.err, /^bill: /m);

      const short = await run(...words, '--duration', '50ms', '--format', 'json');
      assert.equal(short.status, 0, short.err);
      assert.match(short.out, /"event":"probe_self_check:work_step","address":"0x[0-9a-f]+"/);

      await using running = new Running(words);
      await running.until('out', /work_step: .*\n/);
      running.child.kill('SIGINT');
      const { status, err, out } = await running.result();
      assert.equal(status, 0, err);
      assert.equal(out.trimEnd().split('\n').length, countOf(err, EVENT, 'recorded'));
      if (engine === 'kernel') assert.deepEqual(heldBy(pidOf(running)), []);
    });
  });

  test(`${engine}: a command is traced from its first instruction, its libraries too`, async (t) => {
    if (skipEngine(t, engine)) return;
    using library = new OwnFixture({
      sources: ['early.c'],
      flags: ['-O2', '-g', '-fPIC', '-shared', '-Wl,-soname,libearly.so'],
      name: 'libearly.so',
    });
    const main = compileFixture({
      sources: ['early-main.c'],
      libraries: [library.path, `-Wl,-rpath,${dirname(library.path)}`],
    });
    const probes = ['early_work@libearly n=%di:s32', 'early_start@libearly.so'];
    const words = ['--engine', engine, ...probes, '--', main, '3'];
    const { status, out, err } = await run('trace', ...words);
    assert.equal(status, 3, err);
    assert.match(out, / 42 42\n/);
    const seen = [...out.matchAll(/: (early_\w+): \(0x[0-9a-f]+\)(?: n=(\d+))?/g)];
    assert.deepEqual(
      seen.map(([, name, n]) => `${name} ${n ?? ''}`.trim()),
      ['early_start', 'early_work 40', 'early_work 2'],
      out,
    );
  });
}

test('--all has processes that start later, and not those that merely look alike', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  using other = new OwnFixture({ sources: ['self-check.c'] });
  const probe = `work_step@${fixture.path} a=%di:s64`;
  await using running = new Running(['trace', '--engine', 'kernel', '--all', probe]);
  await running.until('err', /1 probe in every process/);
  await using first = await started(fixture.path, true);
  await using second = await started(fixture.path, true);
  await using stranger = await started(other.path, true);
  const calls = [await step(first, 5), await step(second, 7), await step(stranger, 3)];
  for (const target of [first, second, stranger]) {
    target.send('quit');
    await target.waitForLine(/^ok/, 60_000);
    await target.waitForEnd(60_000);
  }
  running.child.kill('SIGINT');
  const { status, out, err } = await running.result();
  assert.equal(status, 0, err);
  const [one, two] = calls.map((counts) => counts['work_step'] ?? 0);
  const of = (pid: number): number =>
    out.match(new RegExp(`self-check-${pid} .*work_step`, 'g'))?.length ?? 0;
  // One task each works, and it is not the first one: its line shows its own number.
  assert.equal(out.match(/self-check-\d+ .*work_step: /g)?.length, (one ?? 0) + (two ?? 0), err);
  assert.equal(of(stranger.pid), 0);
  assert.equal(countOf(err, EVENT, 'hits'), (one ?? 0) + (two ?? 0), err);
  assert.equal(countOf(err, EVENT, 'recorded'), (one ?? 0) + (two ?? 0), err);
});

test('what a killed session leaves is shown, does no harm, and is cleaned', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path);
  await leavingKernelClean(target, 'kernel', async () => {
    const words = [
      'trace',
      '--engine',
      'kernel',
      '-p',
      String(target.pid),
      PROBE,
      'leaf@self-check',
    ];
    await using living = new Running(words);
    await using killed = new Running(words);
    await living.until('out', /work_step: .*\n/);
    await killed.until('out', /work_step: .*\n/);
    const dead = pidOf(killed);
    killed.child.kill('SIGKILL');
    await killed.result();
    assert.ok(heldBy(dead).length >= 3);
    const status = await run('status');
    assert.match(status.out, new RegExp(`kernel: 2 places, session trapline_${dead}_.*, dead`));
    assert.match(status.out, new RegExp(`trapline_${pidOf(living)}_.*, alive`));
    const { out } = await run('clean');
    assert.match(
      out,
      new RegExp(`kernel: dead session trapline_${dead}_\\d+_\\d+ removed, 2 events`),
    );
    assert.deepEqual(heldBy(dead), []);
    // The living one has noticed nothing.
    const lines = living.out.length;
    await until('another event', () => living.out.length > lines);
    living.child.kill('SIGINT');
    const { err } = await living.result();
    assert.deepEqual(heldBy(pidOf(living)), []);
    assert.match(err, /probe_self_check:leaf/);
  });
});

test('killed at any stage, a session leaves nothing that clean does not find', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path);
  const stages: readonly (readonly [string, (running: Running) => boolean])[] = [
    ['the instance is there', (running) => heldBy(pidOf(running)).length > 0],
    ['an event is defined', (running) => heldBy(pidOf(running)).length > 1],
    ['all are', (running) => heldBy(pidOf(running)).length > 3],
    ['it is measuring', (running) => heldBy(pidOf(running)).some((one) => one.endsWith('_prices'))],
    ['it is taking them out', (running) => heldBy(pidOf(running)).length < 4],
  ];
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['trace', '--engine', 'kernel', '-p', String(target.pid)];
    const text = 'recurse@self-check s=+0(%sp):string';
    const killedAt = async (stage: string, holds: (running: Running) => boolean) => {
      await using running = new Running([...words, PROBE, 'leaf@self-check', text]);
      if (stage.startsWith('it is')) {
        await running.until('out', /work_step: .*\n/);
        running.child.kill('SIGINT');
      }
      let isReached = false;
      await until(stage, () => (isReached = holds(running)) || running.child.exitCode !== null);
      running.child.kill('SIGKILL');
      await running.result();
      // Its status is not asked for: other processes of this machine may have something to say.
      const { out, err } = await run('clean');
      assert.deepEqual(heldBy(pidOf(running)), [], `${stage}: ${out}${err}`);
      return isReached;
    };
    for (const [stage, holds] of stages) {
      let tries = 0;
      // The last ones take milliseconds: it may have ended between two looks.
      while (!(await killedAt(stage, holds))) assert.ok(++tries < 20, `never seen: ${stage}`);
    }
  });
});

test('what the kernel can not have is refused in words', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path, true);
  const pid = String(target.pid);
  const arrays = Array.from({ length: 6 }, () => '+0(%di):u64[64]').join(' ');
  // The kernel takes six, and eight bytes of ours are too many: the caret is under the last.
  const tooBig =
    /Event too big .*\n {4}leaf@self-check .*\n {100}\^\n {4}8 bytes .* Trapline's own/;
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['-p', pid, 'work_stap@self-check'], 1, /work_step/],
    [['-p', pid, 'work_step+1@self-check'], 1, /not the start of an instruction|outside/],
    [['-p', pid, 'red_zone_middle@self-check'], 1, /below the stack pointer/],
    [['-p', pid, 'work_step@self-check a=%zz'], 2, /Invalid register name\n.*\n *\^/],
    [['-p', pid, '--perf-map', PROBE], 2, /perf-map/],
    [['-p', pid, `${PROBE} ${'%di '.repeat(125)}`], 1, /Trapline needs 2 of them for itself/],
    [['-p', pid, `leaf@self-check ${arrays}`], 1, tooBig],
    [['--all', 'f@/no/such/file'], 1, /Failed to find the given file\n.*\n {4}\^/],
  ];
  await leavingKernelClean(target, 'kernel', async () => {
    for (const [words, expected, text] of cases) {
      const { status, out, err } = await run('trace', '--engine', 'kernel', ...words);
      assert.equal(status, expected, `${words.join(' ')}\n${err}`);
      assert.match(err, text);
      assert.match(err, /^trapline: /);
      assert.doesNotMatch(err, /defect/);
      assert.equal(out, '');
    }
  });
});

test('where a session has jumps no uprobe is set: they would break each other', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path);
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['-p', String(target.pid), 'leaf@self-check'];
    {
      await using jumping = new Running(['trace', ...words]);
      await jumping.until('out', /leaf: .*\n/);
      const { status, err } = await run('trace', '--engine', 'kernel', ...words);
      assert.equal(status, 1);
      assert.match(err, /has a jump of Trapline there/);
      jumping.child.kill('SIGINT');
      await jumping.result();
    }
    {
      await using probing = new Running(['trace', '--engine', 'kernel', ...words]);
      await probing.until('out', /leaf: .*\n/);
      const { status, err } = await run('trace', ...words);
      assert.equal(status, 1, err);
      assert.doesNotMatch(err, /defect/);
      probing.child.kill('SIGINT');
      await probing.result();
    }
  });
});

test('a glob is one event of the kernel; places that it can not probe spoil no other', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path);
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['trace', '--engine', 'kernel', '-p', String(target.pid)];
    await using running = new Running([...words, '*@self-check']);
    await running.until('out', /work_step: .*\n/);
    await running.until('out', /leaf: .*\n/);
    const held = heldBy(pidOf(running)).filter((line) => line.startsWith('p:'));
    assert.ok(held.length > 10, held.join('\n'));
    assert.equal(new Set(held.map((line) => line.split(' ')[0])).size, 1);
    running.child.kill('SIGINT');
    const { status, out, err } = await running.result();
    assert.equal(status, 0, err);
    for (const name of ['work_step', 'leaf', 'recurse']) {
      const lines = out.match(new RegExp(`: ${name}: `, 'g'))?.length ?? 0;
      assert.equal(countOf(err, `probe_self_check:${name}`, 'recorded'), lines, name);
    }
  });
});

test('the hits of others are counted, and filtered', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path, true);
  await using other = await started(fixture.path, true);
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['trace', '--engine', 'kernel', '-p', String(target.pid), PROBE];
    const earlier = [await step(target, 1), await step(other, 1)].map(
      (one) => one['work_step'] ?? 0,
    );
    await using running = new Running(words);
    await running.until('err', /1 probe in /);
    const later = [await step(target, 20), await step(other, 30)].map(
      (one) => one['work_step'] ?? 0,
    );
    running.child.kill('SIGINT');
    const { err } = await running.result();
    const [own = 0, others = 0] = later.map((count, at) => count - (earlier[at] ?? 0));
    assert.equal(countOf(err, EVENT, 'hits'), own + others, err);
    assert.equal(countOf(err, EVENT, 'recorded'), own, err);
    assert.equal(countOf(err, EVENT, 'filtered'), others, err);
  });
});

test('a file of probes is followed as it changes', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path);
  const list = join(dirname(fixture.path), 'probes');
  writeFileSync(list, 'leaf@self-check a=%di:s64 if a != 1\n');
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['trace', '--engine', 'kernel', '-p', String(target.pid), '--probes', list];
    await using running = new Running(words);
    await running.until('out', /leaf: .*\n/);
    writeFileSync(list, 'recurse@self-check\n');
    await running.until('out', /recurse: .*\n/);
    running.child.kill('SIGINT');
    const { status, err } = await running.result();
    assert.equal(status, 0, err);
    assert.deepEqual(heldBy(pidOf(running)), []);
    assert.ok(countOf(err, 'probe_self_check:leaf', 'recorded') > 0, err);
    assert.ok(countOf(err, 'probe_self_check:recurse', 'recorded') > 0, err);
  });
});

test('whoever is not root is told what is needed', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  const nobody = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
  const words = [...nobody, process.execPath, MAIN, 'trace', '--engine', 'kernel', '--all', PROBE];
  const { status, stderr } = spawnSync('setpriv', words, { encoding: 'utf8', timeout: 60_000 });
  assert.equal(status, 1, stderr);
  assert.match(stderr, /may not write .*uprobe_events: tracefs is there, and not for this user/);
  assert.match(stderr, /sudo/);
  assert.doesNotMatch(stderr, /mount/i);
  const doctor = spawnSync('setpriv', [...nobody, process.execPath, MAIN, 'doctor'], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  assert.match(doctor.stdout, /kernel engine .*: tracefs is there, and not for this user to write/);
});

test('a session that can not begin leaves nothing', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path);
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['trace', '--engine', 'kernel', '-p', String(target.pid), PROBE];
    await using failing = new Running([...words, 'no_such_function@self-check']);
    const failed = await failing.result();
    assert.equal(failed.status, 1);
    assert.deepEqual(heldBy(pidOf(failing)), []);
    // A command whose probes can't be: it does not run.
    const program = [fixture.path, '1', '1000'];
    await using never = new Running([
      'trace',
      '--engine',
      'kernel',
      'no_such@self-check',
      '--',
      ...program,
    ]);
    const result = await never.result();
    assert.equal(result.status, 1, result.err);
    assert.doesNotMatch(result.out, /ready/);
    assert.deepEqual(heldBy(pidOf(never)), []);
  });
});

test('a signal while it attaches leaves nothing', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  await using target = await started(fixture.path);
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['trace', '--engine', 'kernel', '-p', String(target.pid), PROBE];
    await using running = new Running(words);
    while (heldBy(pidOf(running)).length === 0) {
      assert.equal(running.err, '');
      await new Promise((resolve) => setImmediate(resolve));
    }
    running.child.kill('SIGTERM');
    const { status, err } = await running.result();
    assert.equal(status, 0, err);
    assert.deepEqual(heldBy(pidOf(running)), []);
  });
});

test('a target in another mount namespace, on an overlay', async (t) => {
  if (skipUnless(t, 'root', 'tracefs', 'overlayfs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  const script =
    'mount -t tmpfs none /mnt && cd /mnt && mkdir l u w m && cp "$0" l/self-check && ' +
    'mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m && exec m/self-check 1 1000';
  const words = ['-m', 'sh', '-c', script, fixture.path];
  await using target = await startTarget(requireProgram('unshare'), words);
  await target.waitForLine('ready', 60_000);
  await leavingKernelClean(target, 'kernel', async () => {
    const trace = ['trace', '--engine', 'kernel', '-p', String(target.pid), '-n', '3'];
    const { status, out, err } = await run(...trace, PROBE);
    assert.equal(status, 0, err);
    assert.equal(out.match(/work_step: /g)?.length, 3);
  });
});

test('a path with white space, and a file that was deleted', async (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['self-check.c'] });
  const folder = join(dirname(fixture.path), 'a # folder');
  mkdirSync(folder);
  const path = join(folder, 'self-check');
  renameSync(fixture.path, path);
  await using target = await started(path);
  spawnSync('rm', [path]);
  await leavingKernelClean(target, 'kernel', async () => {
    const words = ['-p', String(target.pid), '-n', '3', PROBE];
    const { status, out, err } = await run('trace', '--engine', 'kernel', ...words);
    assert.equal(status, 0, err);
    assert.equal(out.trimEnd().split('\n').length, 3);
  });
  assert.doesNotMatch(readFileSync('/sys/kernel/tracing/uprobe_events', 'utf8'), /a # folder/);
});
