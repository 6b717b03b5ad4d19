import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  Running,
  countOf,
  leavingClean,
  run,
  selfCheck,
  startSelfCheck,
  step,
} from './cli-support.ts';

const PROBE = 'work_step@self-check a=%di:s64 b=%si:s64';
const EVENT = 'probe_self_check:work_step';
const IN = /trapline: 1 probe in /;

test('-n: so many lines of the kernel’s form, a summary, and the target as it was', async () => {
  await using target = await startSelfCheck();
  const { status, out, err } = await leavingClean(target, () =>
    run('trace', '-p', String(target.pid), '-n', '5', PROBE),
  );
  assert.equal(status, 0, err);
  const lines = out.trimEnd().split('\n');
  assert.equal(lines.length, 5, out);
  const form =
    / *self-check-\d+ +\[\d{3}\] +\d+\.\d{6}: work_step: \(0x[0-9a-f]+\) a=-?\d+ b=-?\d+$/;
  for (const line of lines) assert.match(line, form);
  assert.match(err, /1 probe in self-check \(\d+\), stopped for/);
  assert.ok(countOf(err, EVENT, 'hits') >= 5);
  assert.match(err, /^bill: /m);
});

test('every hit is an event, and the summary counts them: Ctrl-C', async () => {
  await using target = await startSelfCheck(true, 2);
  const before = await step(target, 1);
  await leavingClean(target, async () => {
    const words = ['-p', String(target.pid), '--format', 'json', PROBE];
    await using running = new Running(['trace', ...words]);
    await running.until('err', IN);
    const after = await step(target, 50);
    const calls = (after['work_step'] ?? 0) - (before['work_step'] ?? 0);
    assert.ok(calls > 0);
    running.child.kill('SIGINT');
    const { status, out, err } = await running.result();
    assert.equal(status, 0, err);
    assert.equal(countOf(err, EVENT, 'hits'), calls, err);
    assert.equal(countOf(err, EVENT, 'recorded'), calls, err);
    const events = out
      .trimEnd()
      .split('\n')
      .map((line): unknown => JSON.parse(line));
    assert.equal(events.length, calls);
    let last = 0n;
    for (const event of events) {
      assert.ok(typeof event === 'object' && event !== null);
      assert.equal(Reflect.get(event, 'event'), EVENT);
      assert.equal(Reflect.get(event, 'pid'), Number(target.pid));
      const time = BigInt(String(Reflect.get(event, 'ts')));
      assert.ok(time >= last, 'not in order of time');
      last = time;
    }
  });
});

test('--count makes no events and counts all', async () => {
  await using target = await startSelfCheck(true);
  const before = await step(target, 1);
  await leavingClean(target, async () => {
    await using running = new Running(['trace', '-p', String(target.pid), '--count', PROBE]);
    await running.until('err', IN);
    const after = await step(target, 30);
    running.child.kill('SIGTERM');
    const { status, out, err } = await running.result();
    assert.equal(status, 0, err);
    assert.equal(out, '');
    const calls = (after['work_step'] ?? 0) - (before['work_step'] ?? 0);
    assert.equal(countOf(err, EVENT, 'hits'), calls, err);
  });
});

test('--duration and -o: events in the file, nothing on standard output', async () => {
  await using target = await startSelfCheck();
  const folder = mkdtempSync(join(tmpdir(), 'trapline-cli-'));
  try {
    const path = join(folder, 'events');
    const words = ['-p', String(target.pid), '--duration', '300ms', '-o', path, '-q', PROBE];
    const { status, out, err } = await leavingClean(target, () => run('trace', ...words));
    assert.equal(status, 0, err);
    assert.equal(out + err, '');
    assert.match(readFileSync(path, 'utf8'), /^ *self-check-/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('--tid: one task’s hits are events, the others are filtered', async () => {
  await using target = await startSelfCheck(true, 2);
  await leavingClean(target, async () => {
    const tasks = readdirSync(`/proc/${target.pid}/task`).map(Number);
    const tid = Math.max(...tasks); // a worker: the first task only reads commands
    await using running = new Running(['trace', '--tid', String(tid), '--format', 'json', PROBE]);
    await running.until('err', IN);
    await step(target, 20);
    running.child.kill('SIGINT');
    const { status, out, err } = await running.result();
    assert.equal(status, 0, err);
    const filtered = countOf(err, EVENT, 'filtered');
    assert.ok(filtered > 0, err);
    assert.equal(countOf(err, EVENT, 'hits'), countOf(err, EVENT, 'recorded') + filtered);
    for (const line of out.trimEnd().split('\n')) {
      assert.equal(Reflect.get(Object(JSON.parse(line)), 'tid'), tid);
    }
  });
});

test('a reader that goes away ends it: trapline … | head', async () => {
  await using target = await startSelfCheck();
  const { status, err } = await leavingClean(target, async () => {
    await using running = new Running(['trace', '-p', String(target.pid), PROBE]);
    await running.until('out', /work_step/);
    running.child.stdout?.destroy();
    return await running.result();
  });
  assert.equal(status, 0, err);
  assert.match(err, /^bill: /m);
});

test('a reader that sleeps costs no memory, and no hit goes uncounted', async () => {
  await using target = await startSelfCheck(true);
  await leavingClean(target, async () => {
    const words = ['-p', String(target.pid), '--ring-size', '256K', 'leaf@self-check a=%di'];
    await using running = new Running(['trace', ...words]);
    running.child.stdout?.pause();
    await running.until('err', IN);
    for (let round = 0; round < 10; round++) await step(target, 400);
    const status = readFileSync(`/proc/${running.child.pid}/status`, 'utf8');
    const resident = Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]);
    assert.ok(resident < 200_000, `${resident} kB`);
    running.child.stdout?.resume();
    running.child.kill('SIGINT');
    const { status: exit, out, err } = await running.result();
    assert.equal(exit, 0, err);
    const event = 'probe_self_check:leaf';
    const recorded = countOf(err, event, 'recorded');
    assert.equal(out.trimEnd().split('\n').length, recorded);
    assert.equal(countOf(err, event, 'hits'), recorded + countOf(err, event, 'missed'));
  });
});

test('the target’s end ends it', async () => {
  await using target = await startSelfCheck();
  await using running = new Running(['trace', '-p', String(target.pid), PROBE]);
  await running.until('out', /work_step/);
  target.send('quit');
  assert.match(await target.waitForLine(/^(ok|bad)/), /^ok/);
  const { status, err } = await running.result();
  assert.equal(status, 0, err);
  assert.match(err, /^bill: /m);
});

test('a glob says what it took and what it left', async () => {
  await using target = await startSelfCheck();
  const words = ['-p', String(target.pid), '-n', '1', '-v', '--exclude', 'leaf', '*e*@self-check'];
  const { status, err } = await leavingClean(target, () => run('trace', ...words));
  assert.equal(status, 0, err);
  assert.match(err, /\*e\*@self-check: \d+ functions probed/);
  assert.match(err, /^ +\d+ +probe_self_check:work_step +work_step +0x/m);
  assert.doesNotMatch(err, /probe_self_check:leaf /);
});

test('--exclude: what a glob loses by it, what is left of it, and where it is of no use', async () => {
  await using target = await startSelfCheck(true);
  const trace = ['trace', '-p', String(target.pid), '--duration', '10ms', '--count'];
  await leavingClean(target, async () => {
    const one = await run(...trace, '--exclude', 'le*', 'lea*@self-check', PROBE);
    assert.equal(one.status, 1, one.err);
    assert.match(one.err, /: all \d+ functions of .*self-check\S* that match lea\* are excluded\n/);
    const named = await run(...trace, '--exclude', 'leaf', 'leaf@self-check');
    assert.equal(named.status, 0, named.err);
    assert.match(named.err, /--exclude leaf leaves nothing out/);
    const some = await run(...trace, '--exclude', 'leaf', '*ea*@self-check', PROBE);
    assert.doesNotMatch(some.err, /nothing out/);
    assert.match(some.err, /\*ea\*@self-check: .* probed.*, 1 excluded/);
  });
});

test('a process that is not chosen is told why, and what would choose it', async () => {
  await using target = await startSelfCheck(true);
  const trace = ['trace', '-p', String(target.pid), '--duration', '10ms', '--count'];
  await leavingClean(target, async () => {
    for (const probe of [PROBE, 'BZ2_bzCompress@libbz2.so.1.0']) {
      const { status, err } = await run(...trace, '--comm', 'nomatch', probe);
      assert.equal(status, 0, err);
      assert.match(
        err,
        /self-check \(\d+\) is not chosen by --comm, and has no probe: --comm self-check would choose it/,
      );
      assert.doesNotMatch(err, /not loaded/);
    }
    const waits = await run(...trace, '--comm', 'self*', 'BZ2_bzCompress@libbz2.so.1.0');
    assert.match(waits.err, /has not loaded it yet/);
    assert.doesNotMatch(waits.err, /not chosen/);
  });
});

test('what a process maps of ours is none of its files', async () => {
  await using target = await startSelfCheck(true);
  await leavingClean(target, async () => {
    await using running = new Running(['trace', '-p', String(target.pid), '--count', PROBE]);
    await running.until('err', IN);
    const { err } = await run('trace', '-p', String(target.pid), 'leaf@lop');
    assert.match(err, /It maps .*self-check/);
    assert.doesNotMatch(err, /memfd/);
    running.child.kill('SIGINT');
    await running.result();
  });
});

test('a command: its own status, or 128 and the signal', async () => {
  const cases: readonly (readonly [string, number])[] = [
    ['exit 0', 0],
    ['exit 7', 7],
    ['kill -TERM $$', 143],
    ['kill -KILL $$', 137],
  ];
  for (const [script, expected] of cases) {
    const { status, err } = await run('trace', 'malloc@libc.so.6', '--', 'sh', '-c', script);
    assert.equal(status, expected, `${script}\n${err}`);
  }
});

test('a command keeps its output, and is traced from its start', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-cli-'));
  try {
    const path = join(folder, 'events');
    const words = ['-o', path, 'malloc@libc.so.6 size=%di:u64', '--', 'ls', '/'];
    const { status, out, err } = await run('trace', ...words);
    assert.equal(status, 0, err);
    assert.match(out, /^bin$/m);
    const events = readFileSync(path, 'utf8').trimEnd().split('\n');
    assert.equal(events.length, countOf(err, 'probe_libc:malloc', 'recorded'));
    assert.ok(events.length > 5, `${events.length} events`);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('a signal to us alone is passed on to the command, whose status we end with', async () => {
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
    const program = [selfCheck(), '1', '1000'];
    await using running = new Running(['trace', '-q', PROBE, '--', ...program]);
    await running.until('out', /work_step: .*\n/);
    running.child.kill(signal);
    const { status, out, err } = await running.result();
    // SIGTERM means quit to it; the others have their usual effect.
    const expected = { SIGTERM: 0, SIGHUP: 129, SIGINT: 130 }[signal];
    assert.equal(status, expected, `${signal}: ${err}`);
    if (signal === 'SIGTERM') assert.match(out, /^ok/m);
  }
});

test('-n with a command: it goes on without probes', async () => {
  // Longer than it takes to come out again.
  const script = 'sleep 1; echo whole; exit 3';
  const words = ['-n', '1', 'malloc@libc.so.6', '--', 'sh', '-c', script];
  const { status, out, err } = await run('trace', ...words);
  assert.equal(status, 3, err);
  assert.match(out, /^whole$/m);
});

test('errors have their words, their place and their status', async () => {
  await using target = await startSelfCheck();
  const pid = String(target.pid);
  const cases: readonly (readonly [readonly string[], number, RegExp])[] = [
    [['-p', pid, 'work_stap@self-check'], 1, /work_step/],
    [['-p', pid, 'f@no-such-file'], 1, /no-such-file/],
    [['-p', pid, 'work_step@self-check a=%zz'], 2, /\n {2}work_step@self-check a=%zz\n {25}\^/],
    [['-p', '4194304', PROBE], 1, /4194304/],
    [[PROBE, '--', '/no/such/command'], 1, /no\/such\/command/],
    [['-p', pid], 2, /probe/],
    [['-p', pid, '-o', '/no/such/folder/x', PROBE], 1, /no\/such\/folder/],
  ];
  await leavingClean(target, async () => {
    for (const [words, expected, text] of cases) {
      const { status, out, err } = await run('trace', ...words);
      assert.equal(status, expected, `${words.join(' ')}\n${err}`);
      assert.match(err, text);
      assert.match(err, /^trapline: /);
      assert.doesNotMatch(err, /defect/);
      assert.equal(out, '');
    }
  });
});

test('a signal while it attaches leaves nothing', async () => {
  await using target = await startSelfCheck();
  await leavingClean(target, async () => {
    await using running = new Running(['trace', '-p', String(target.pid), PROBE]);
    // Our memory is in it, and the first word has not been said: it is in the middle.
    const maps = `/proc/${target.pid}/maps`;
    while (!readFileSync(maps, 'utf8').includes('memfd:trapline-') && running.err === '') {
      await new Promise((resolve) => setImmediate(resolve));
    }
    running.child.kill('SIGTERM');
    const { status, err } = await running.result();
    assert.equal(status, 0, err);
  });
});
