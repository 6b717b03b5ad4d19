/** The whole language on real programs: pointers behind pointers, filters, places, events of several probes. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { attach, type EventValue, type ProbeRequest, type TraceEvent } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { countOf as countIn, run, Running, selfCheck } from './cli-support.ts';
import {
  assertExact,
  countOf,
  difference,
  eventOf,
  leavingClean,
  Reading,
  startSelfCheck,
  step,
} from './jump-support.ts';

async function startValues(): Promise<Target> {
  const target = await startTarget(compileFixture({ sources: ['values.c'] }));
  await target.waitForLine('ready');
  return target;
}

/** The events of some rounds of values. */
async function eventsOf(
  probes: readonly (string | ProbeRequest)[],
  rounds = 2,
): Promise<TraceEvent[]> {
  await using target = await startValues();
  return await leavingClean(target, async () => {
    await using session = await attach({ pids: [target.pid] }, { probes });
    const events: TraceEvent[] = [];
    const reading = new Reading(session, (event) => events.push(event.toEvent()));
    for (let round = 0; round < rounds; round++) {
      target.send('go');
      await target.waitForLine('round', 60_000);
    }
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    return events;
  });
}

/** An address of the fixture, as its file offset has it. */
function symbolAt(path: string, name: string): number {
  const line = execFileSync('nm', [path], { encoding: 'utf8' })
    .split('\n')
    .find((each) => each.endsWith(` ${name}`));
  return Number(`0x${line?.split(' ')[0] ?? assert.fail(name)}`);
}

test('pointers behind pointers, bits, arrays, constants', async () => {
  const expected: Readonly<Record<string, EventValue>> = {
    name: 'a name',
    letter: 'a',
    bytes: [255, 254],
    bits: 0xf,
    words: [11n, 22n],
    seven: 7,
    hint: 'some',
    chars: ['a', ' ', 'n'],
  };
  // struct structure: s8 u8 s16 s32 s64 name before after
  const events = await eventsOf([
    'taking@values name=+0(+16(%di)):string letter=+0(+16(%di)):char bytes=+0(%di):u8[2] bits=+0(%di):b4@4/8 words=+24(%di):u64[2] seven=\\7:u8 hint=\\"some" chars=+0(+16(%di)):char[3]',
  ]);
  assert.equal(events.length, 2);
  for (const { args } of events) assert.deepEqual({ ...args }, expected);
});

function filteredBy(filter: string): string {
  return `taking@values a=%r8:u64 d=%cx:s64 name=+0(+16(%di)):string if ${filter}`;
}

test('addresses are named, by the session and by the command', async () => {
  await using target = await startValues();
  await leavingClean(target, async () => {
    const words = [
      '-p',
      String(target.pid),
      '-n',
      '1',
      'taking@values here=%ip:symbol where=@0x10:symbol',
    ];
    await using running = new Running(['trace', ...words]);
    await running.until('err', /1 probe in/);
    target.send('go');
    await target.waitForLine('round', 60_000);
    const { status, out, err } = await running.result();
    assert.equal(status, 0, err);
    assert.match(out, / here=taking\+0x0\/0x[0-9a-f]+ where=\(fault\)$/m);
    await using session = await attach({ pids: [target.pid] }, { probes: ['taking@values'] });
    const at = session.probes[0]?.sites[0]?.address ?? assert.fail('no site');
    const [name, nowhere] = await session.symbolize(target.pid, [at + 2n, 1n]);
    assert.match(name ?? '', /^taking\+0x2\/0x/);
    assert.equal(nowhere, undefined);
  });
});

test('filters: what they refuse is counted, and only that', async () => {
  const passing = [
    'd == -2',
    'd < 0 && a == 0x1122334455667788',
    'name == "a name"',
    'name ~ "a*e" && !(d > 0)',
    'comm ~ "val*"',
  ];
  const refusing = ['d == 2', 'name == "another"', 'comm == "nobody"', 'a != 0x1122334455667788'];
  await using target = await startValues();
  await leavingClean(target, async () => {
    const probes = [...passing, ...refusing].map(filteredBy);
    await using session = await attach({ pids: [target.pid] }, { probes });
    const reading = new Reading(session);
    for (let round = 0; round < 5; round++) {
      target.send('go');
      await target.waitForLine('round', 60_000);
    }
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    assert.equal(summary.events.length, probes.length);
    summary.events.forEach(({ hits, recorded, filtered, definition }, at) => {
      const passes = at < passing.length;
      assert.deepEqual(
        { hits, recorded, filtered },
        passes ? { hits: 5, recorded: 5, filtered: 0 } : { hits: 5, recorded: 0, filtered: 5 },
        definition,
      );
    });
    assert.equal(reading.total, passing.length * 5);
  });
});

test('several filters of a command all hold, beside the probe’s own', async () => {
  await using target = await startValues();
  await leavingClean(target, async () => {
    const words = ['trace', '--duration', '20s', '-p', String(target.pid)];
    for (const [filters, passes] of [
      [['d == -2', 'name == "a name"'], true],
      [['d == 2', 'name == "a name"'], false],
      [['name == "a name"', 'd == 2'], false],
      [['d == 2 || d == -2', 'name == "another" || cpu >= 0'], true],
    ] as const) {
      const given = filters.flatMap((filter) => ['--filter', filter]);
      await using running = new Running([...words, ...given, filteredBy('d < 0')]);
      await running.until('err', /1 probe in/);
      target.send('go');
      await target.waitForLine('round', 60_000);
      running.child.kill('SIGINT');
      const { err } = await running.result();
      assert.equal(countIn(err, 'probe_values:taking', 'hits'), 1, err);
      assert.equal(countIn(err, 'probe_values:taking', passes ? 'recorded' : 'filtered'), 1, err);
    }
  });
});

test('an address of a process, an inode, and a path in the kernel’s words are one place', async () => {
  const path = compileFixture({ sources: ['values.c'] });
  await using target = await startValues();
  await leavingClean(target, async () => {
    const maps = readFileSync(`/proc/${target.pid}/maps`, 'utf8').split('\n');
    const line =
      maps.find((each) => each.includes(' r-xp ') && each.endsWith('/values')) ??
      maps.find((each) => each.includes('r-xp') && each.includes('values')) ??
      assert.fail('no text');
    const [range = '', , offset = '', device = '', inode = ''] = line.split(/\s+/);
    const [start = ''] = range.split('-');
    // The fixture's code is mapped at its own address: offset and address are the same distance apart.
    const inFile = symbolAt(path, 'taking');
    const at = BigInt(`0x${start}`) - BigInt(`0x${offset}`) + BigInt(inFile);
    await using session = await attach(
      { pids: [target.pid] },
      {
        probes: [
          `${target.pid}:0x${at.toString(16)} a=%cx:s64`,
          `p:seed/by_inode ${device}:${inode}:0x${inFile.toString(16)} a=%cx:s64`,
          `p:seed/by_path ${path}:0x${inFile.toString(16)} a=%cx:s64`,
        ],
      },
    );
    assert.deepEqual(
      session.probes.map(({ sites }) => sites.map(({ address }) => address)),
      [[at], [at], [at]],
    );
    const reading = new Reading(session, (event) => assert.equal(event.bigint(0), -2n));
    target.send('go');
    await target.waitForLine('round', 60_000);
    assertExact(await session.stop());
    await reading.done;
    assert.equal(reading.count('seed:by_inode'), 1);
    assert.equal(reading.count('seed:by_path'), 1);
    assert.equal(reading.total, 3);
  });
});

test('an event of several probes, whose arguments must agree', async () => {
  await using target = await startSelfCheck(1);
  await leavingClean(target, async () => {
    const probes = [
      'p:my/both leaf@self-check a=%di:u64',
      'p:my/both work_step@self-check a=%di:u64',
    ];
    await using session = await attach({ pids: [target.pid] }, { probes });
    for (const [probe, message] of [
      [
        'p:my/both leaf@self-check b=%di:u64',
        'Argument type or name is different from existing probe',
      ],
      ['p:my/both leaf@self-check a=%di', 'Argument type or name is different from existing probe'],
      ['p:my/both leaf@self-check a=%di:u64', 'There is already the exact same probe event'],
    ] as const) {
      await assert.rejects(session.add(probe), { code: 'bad-definition', message });
    }
    const reading = new Reading(session);
    const before = await step(target, 1);
    const after = await step(target, 20);
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    const calls = difference(before, after);
    const { hits } = eventOf(summary, 'my:both');
    assert.ok(hits >= countOf(calls, 'leaf') + countOf(calls, 'work_step'));
    assert.equal(reading.total, hits);
  });
});

test('--probes: a file without probes is watched, for a process and for a command', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-probes-'));
  const path = join(folder, 'some.probes');
  try {
    await using target = await startSelfCheck(1);
    await leavingClean(target, async () => {
      writeFileSync(path, '# none yet\n');
      const words = ['trace', '-p', String(target.pid), '--count', '--probes', path];
      await using running = new Running(words);
      await running.until('err', /some\.probes has no probes yet: it is watched/);
      writeFileSync(path, 'leaf@self-check\n');
      await running.until('err', /1 added, 0 removed/);
      await step(target, 10);
      running.child.kill('SIGINT');
      const { status, err } = await running.result();
      assert.equal(status, 0, err);
      assert.doesNotMatch(err, /not loaded/);
      assert.ok(countIn(err, 'probe_self_check:leaf', 'hits') > 0, err);
    });
    writeFileSync(path, '');
    const ended = await run('trace', '--probes', path, '--', '/bin/true');
    assert.equal(ended.status, 0, ended.err);
    assert.match(ended.err, /some\.probes has no probes yet/);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('--probes: a mistake that only the session finds changes nothing, and is shown with its line', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-probes-'));
  const path = join(folder, 'some.probes');
  try {
    await using target = await startSelfCheck(1);
    await leavingClean(target, async () => {
      writeFileSync(path, 'leaf@self-check\n');
      const before = await step(target, 1);
      const words = ['trace', '-p', String(target.pid), '--count', '--probes', path];
      await using running = new Running(words);
      await running.until('err', /1 probe in/);
      await step(target, 10);
      for (const [lines, message] of [
        [
          'nosuch@self-check\nwork_step@self-check',
          /:1: there is no function nosuch in .*\n {2}nosuch/,
        ],
        ['work_step@self-check\n\nr:g/e leaf@self-check', /:3: .*return probes.*\n.*\n {8}\^/],
        ['leaf@self-check %di\nleaf+0x999@self-check', /:2: leaf\+0x999 is outside/],
      ] as const) {
        running.err = '';
        writeFileSync(path, `${lines}\n`);
        await running.until('err', /some\.probes: the probes stay as they were, until it is right/);
        assert.match(running.err, message);
        await step(target, 10);
      }
      writeFileSync(path, 'leaf@self-check\nwork_step@self-check\n');
      await running.until('err', /1 added, 0 removed/);
      const after = await step(target, 10);
      running.child.kill('SIGINT');
      const { err } = await running.result();
      assert.equal(
        countIn(err, 'probe_self_check:leaf', 'hits'),
        countOf(difference(before, after), 'leaf'),
      );
      assert.ok(countIn(err, 'probe_self_check:work_step', 'hits') > 0, err);
    });
    writeFileSync(path, '\nleaf@self-check\n\nnosuch@self-check\n');
    for (const words of [[], ['--no-follow']]) {
      const { status, err } = await run(
        'trace',
        ...words,
        '--probes',
        path,
        '--',
        selfCheck(),
        '1',
      );
      assert.equal(status, 1, err);
      assert.match(
        err,
        /some\.probes:4: there is no function nosuch in .*\n {2}nosuch@self-check\n {2}\^\n/,
      );
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('--probes: a file that changes, without losing a hit on what stays', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-probes-'));
  const path = join(folder, 'some.probes');
  const stays = 'p:my/stays leaf@self-check a=%di:u64';
  try {
    await using target = await startSelfCheck(1);
    await leavingClean(target, async () => {
      writeFileSync(
        path,
        `# what is probed\n\n${stays}   # from here on\nwork_step@self-check if common_pid > 0\n`,
      );
      const before = await step(target, 1);
      await using running = new Running([
        'trace',
        '-p',
        String(target.pid),
        '--count',
        '--probes',
        path,
      ]);
      await running.until('err', /2 probes in/);
      await step(target, 10);
      writeFileSync(path, `${stays}\np:my/comes work_step@self-check\n`);
      await running.until('err', /1 added, 1 removed/);
      await step(target, 10);
      writeFileSync(path, `${stays}\np:my/comes work_step@self-check\nwork_step@\n`);
      await running.until('err', /some\.probes:3: The file is not specified/);
      await step(target, 10);
      writeFileSync(path, `${stays}\n`);
      await running.until('err', /0 added, 1 removed/);
      const after = await step(target, 10);
      running.child.kill('SIGINT');
      const { status, err } = await running.result();
      assert.equal(status, 0, err);
      const counts = (name: string): number =>
        Number(new RegExp(`^${name} +([\\d,]+)`, 'm').exec(err)?.[1]?.replaceAll(',', ''));
      assert.equal(counts('my:stays'), countOf(difference(before, after), 'leaf'), err);
      assert.ok(counts('my:comes') > 0, err);
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
