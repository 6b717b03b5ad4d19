import assert from 'node:assert/strict';
import { copyFileSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { attach, type Session, type TaskFilter } from '../../src/index.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { assertClean, lookAt, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { selfCheck } from './cli-support.ts';
import { assertExact, countOf, difference, eventOf, step, until } from './jump-support.ts';
import { targetOnly } from './kill-support.ts';
import { inFolder } from './real-support.ts';

const LOOP = 'for _ in range(1000): z.zlibVersion()';
/** What a round of one thread calls. */
const CALLS = 8;

/** A program that nobody else runs, under a name. */
function programIn(folder: string, name = 'program'): string {
  const path = join(folder, name);
  copyFileSync(selfCheck(), path);
  return path;
}

async function parked(program: string): Promise<Target> {
  const target = await startTarget(program, ['1', '0', 'paused']);
  await target.waitForLine('ready');
  return target;
}

/** A session on all processes that run a program, counting. */
function countAll(
  program: string,
  tasks?: TaskFilter,
  onProblem?: (problem: string) => void,
): Promise<Session> {
  const probe = { definition: `work_step@${program}`, action: 'count' as const };
  const probes = [{ ...probe, ...(tasks && { tasks }) }];
  return attach({ all: true }, { probes, ...(onProblem && { onProblem }) });
}

function holds(session: Session, ...targets: Target[]): Promise<void> {
  return until('probes in all', () => {
    const pids = new Set(session.probes.flatMap(({ sites }) => sites.map(({ pid }) => pid)));
    return targets.every(({ pid }) => pids.has(pid));
  });
}

async function hitsOf(session: Session): Promise<number> {
  return eventOf(await session.summary(), 'work_step').hits;
}

/** The calls of some rounds. */
async function calls(target: Target, rounds: number): Promise<number> {
  const before = await step(target, 1);
  return countOf(difference(before, await step(target, rounds)), 'work_step') + CALLS;
}

test('processes that start later are found, each hit counted; they are given back, too', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    await using session = await countAll(program);
    assert.deepEqual(session.targets, []);
    await using one = await parked(program);
    const before = targetOnly(one.pid);
    await holds(session, one);
    await using two = await parked(program);
    await holds(session, one, two);
    const expected = (await calls(one, 20)) + (await calls(two, 30));
    assert.equal(await hitsOf(session), expected);
    assert.deepEqual(
      session.targets.map(({ pid }) => pid),
      [one.pid, two.pid],
    );
    const summary = await session.stop();
    assertExact(summary);
    assert.deepEqual(summary.kept, []);
    assert.deepEqual(targetOnly(one.pid).changedCode, before.changedCode);
  });
});

test('task filters: who does not pass is not touched', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    await using one = await parked(program);
    await using two = await parked(program);
    const filters: readonly TaskFilter[] = [
      { pids: [one.pid] },
      { trees: [one.pid], uids: [process.getuid?.() ?? 0] },
      { executable: program, comm: 'prog*', accepts: ({ pid }) => pid === one.pid },
    ];
    for (const filter of filters) {
      const before = await snapshot(two.pid);
      await using session = await countAll(program, filter);
      await using three = await parked(program);
      const other = await session.add({ definition: `leaf@${program}`, action: 'count' });
      await holds(session, three);
      const pids = session.probes.map(({ sites }) => sites.map(({ pid }) => pid));
      assert.deepEqual(pids, [[one.pid], [one.pid, two.pid, three.pid]]);
      await session.remove(other);
      await session.stop();
      assert.deepEqual(lookAt(two.pid).changedCode, before.changedCode);
    }
    const before = targetOnly(two.pid);
    await using session = await countAll(program, { pids: [one.pid] });
    assertClean(before, targetOnly(two.pid));
    await session.stop();
  });
});

test('two sessions find the same processes at the same time, and either may end first', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    await using first = await countAll(program);
    await using second = await countAll(program);
    const targets = await Promise.all(Array.from({ length: 6 }, () => parked(program)));
    await Promise.all([holds(first, ...targets), holds(second, ...targets)]);
    let expected = 0;
    for (const target of targets) expected += await calls(target, 5);
    assert.equal(await hitsOf(first), expected);
    assertExact(await first.stop());
    for (const target of targets) expected += await calls(target, 5);
    assert.equal(await hitsOf(second), expected);
    assertExact(await second.stop());
    for (const target of targets) {
      assert.deepEqual(targetOnly(target.pid).changedCode, []);
      await target[Symbol.asyncDispose]();
    }
  });
});

test('a process that comes to run the program by exec is found, and one that leaves it is let go', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    const other = programIn(folder, 'other');
    await using session = await countAll(program);
    const script = `read go; exec '${program}' 1 0 paused`;
    await using target = await startTarget('/bin/sh', ['-c', script]);
    target.send('go');
    await target.waitForLine('ready');
    await holds(session, target);
    const expected = await calls(target, 10);
    assert.equal(await hitsOf(session), expected);
    assert.ok(expected > 0);
    // The same again in a process that runs two of them, one after the other, and a third that is not meant.
    const twice = `'${program}' 1 0 paused & exec '${other}' 1 0 paused`;
    await using another = await startTarget('/bin/sh', ['-c', twice]);
    await another.waitForLine('ready');
    await until('the second target', () => session.targets.length === 2);
    assert.notEqual(session.targets[1]?.pid, another.pid);
    const child = session.targets[1]?.pid ?? 0;
    process.kill(child, 'SIGTERM');
    await session.stop();
  });
});

test('of processes that have ended nothing stays with us but their counts', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    await using session = await countAll(program);
    const before = lookAt(process.pid).ownMappings;
    let expected = 0;
    for (let round = 0; round < 5; round++) {
      const targets = await Promise.all(Array.from({ length: 4 }, () => parked(program)));
      await holds(session, ...targets);
      for (const target of targets) expected += await calls(target, 5);
      await Promise.all(targets.map((target) => target[Symbol.asyncDispose]()));
    }
    await until('all memory given back', () => {
      return lookAt(process.pid).ownMappings.length === before.length;
    });
    assert.equal(await hitsOf(session), expected);
    const summary = await session.stop();
    assert.equal(eventOf(summary, 'work_step').hits, expected);
    assertExact(summary);
  });
});

test('events of processes that end before they are read are delivered', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    const probes = [`work_step@${program} a=%di:s64`];
    await using session = await attach({ all: true }, { probes });
    const seen = new Map<number, number>();
    const reading = (async () => {
      for await (const { pid } of session) seen.set(pid, (seen.get(pid) ?? 0) + 1);
    })();
    const expected = new Map<number, number>();
    for (let round = 0; round < 6; round++) {
      await using target = await parked(program);
      await holds(session, target);
      expected.set(target.pid, await calls(target, 50));
    }
    await until(
      'all memory given back',
      () => !lookAt(process.pid).ownMappings.some((line) => line.includes('session')),
    );
    assert.deepEqual(seen, expected);
    await session.stop();
    await reading;
    assert.deepEqual(seen, expected);
  });
});

test('what a task filter throws is told, and at the end again where it was asked later', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    let asked = 0;
    const accepts = (): boolean => {
      asked++;
      throw new Error('no opinion');
    };
    const told: string[] = [];
    await using session = await countAll(program, { accepts }, (problem) => told.push(problem));
    await using one = await parked(program);
    await assert.rejects(countAll(program, { accepts }), /no opinion/);
    await until('the filter is asked by a walk', () => asked >= 2);
    await until('it is told', () => told.length > 0);
    const { kept } = await session.stop();
    assert.deepEqual(kept, told);
    assert.equal(kept.length, 1);
    assert.match(kept[0] ?? '', /not all found: no opinion/);
    assert.deepEqual(targetOnly(one.pid).changedCode, []);
  });
});

test('a process in which nothing can be done is told of, and the others are probed', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    await using one = await parked(program);
    await using two = await parked(program);
    let session: Session;
    {
      using held = StoppedProcess.stop(two.pid);
      session = await countAll(program);
      assert.ok(held.tasks.length > 0);
    }
    await using ended = session;
    const [probe] = ended.probes;
    assert.deepEqual(
      probe?.sites.map(({ pid }) => pid),
      [one.pid],
    );
    assert.deepEqual(
      probe.refused.map(({ pid }) => pid),
      [two.pid],
    );
    assert.match(probe.refused[0]?.reason ?? '', /traced/);
    assert.equal(await hitsOf(ended), 0);
  });
});

test('a process that is found later and can not be probed is told of at once', async () => {
  await inFolder(async (folder) => {
    const program = programIn(folder);
    const told: string[] = [];
    await using session = await countAll(program, undefined, (problem) => told.push(problem));
    const counted = await session.add({ definition: `leaf@${program}`, action: 'count' });
    // Another program by the same name, as an upgrade puts it there: it lacks one of the two functions.
    rmSync(program);
    const flags = ['-O2', '-pthread', '-Dwork_step=other_step'];
    copyFileSync(compileFixture({ sources: ['self-check.c'], flags }), program);
    await using one = await parked(program);
    await until('it is told', () => told.length > 0);
    assert.match(told.join('\n'), new RegExp(`not in process ${one.pid}: .*no function work_step`));
    await until('the other probe is in', () =>
      session.probes.some(({ id, sites }) => id === counted.id && sites.length > 0),
    );
    const { kept } = await session.stop();
    assert.deepEqual(kept, []);
  });
});

/** A process that loads a library of ours when it is told, and then runs what follows. */
async function loader(library: string, then: string): Promise<Target> {
  const script = `
import ctypes, os
print('ready', flush=True)
input()
z = ctypes.CDLL('${library}')
print('loaded', flush=True)
input()
${then}
print('called', flush=True)
input()
`;
  const target = await startTarget('/usr/bin/python3', ['-c', script]);
  await target.waitForLine('ready');
  return target;
}

/** A session on a library of ours, and a process that has loaded it since. */
async function withLoaded(
  then: string,
  work: (session: Session, target: Target, library: string) => Promise<void>,
): Promise<void> {
  await inFolder(async (folder) => {
    const library = join(folder, 'libz-of-ours.so');
    copyFileSync(realpathSync('/lib/x86_64-linux-gnu/libz.so.1'), library);
    await using target = await loader(library, then);
    const probe = { definition: `zlibVersion@${library}`, action: 'count' as const };
    await using session = await attach({ all: true }, { probes: [probe] });
    await load(session, target);
    await work(session, target, library);
    assertExact(await session.stop());
  });
}

/** Lets it load the library; the probe is in. */
async function load(session: Session, target: Target): Promise<void> {
  target.send('load');
  await target.waitForLine('loaded');
  await holds(session, target);
}

test('a library that a process loads later is probed there', async () => {
  await withLoaded(LOOP, async (session, target) => {
    target.send('call');
    await target.waitForLine('called');
    assert.equal(eventOf(await session.summary(), 'zlibVersion').hits, 1000);
  });
});

const FORK = `
child = os.fork()
if child == 0:
    print('forked', flush=True)
    input()
    ${LOOP}
    os._exit(0)
os.waitpid(child, 0)
${LOOP}`;

test('a child that was forked has the probes of its parent, and gets them no second time', async () => {
  await withLoaded(FORK, async (session, target, library) => {
    target.send('call');
    await target.waitForLine('forked');
    // It is found after the child is there: the walk that found it has seen the child, too.
    await using later = await loader(library, LOOP);
    await load(session, later);
    target.send('go');
    await target.waitForLine('called', 60_000);
    assert.equal(eventOf(await session.summary(), 'zlibVersion').hits, 2000);
    assert.deepEqual(
      session.targets.map(({ pid }) => pid),
      [target.pid, later.pid],
    );
  });
});
