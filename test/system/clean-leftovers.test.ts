import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';

import { attach, clean, status } from '../../src/index.ts';
import { writeRows } from '../../src/engines/jump/apply.ts';
import { ControlBlock } from '../../src/engines/jump/block.ts';
import { findModified } from '../../src/process/modified.ts';
import { readMaps } from '../../src/process/maps.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { isLong } from '../harness/features.ts';
import { assertClean } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { selfCheck, startSelfCheck, step } from './cli-support.ts';
import {
  assertCleans,
  assertNothingHeld,
  assertWorks,
  startSession,
  targetOnly,
} from './kill-support.ts';
import { blobPlaces } from './process-support.ts';

const path = selfCheck();
const work = `work_step@${path} a=%di:s64`;

async function killSession(session: Target): Promise<void> {
  session.kill('SIGKILL');
  await session.waitForEnd(30_000);
}

/** How many events a session has seen, once it has seen at least so many. */
async function eventsOf(session: Target, atLeast: number): Promise<number> {
  for (let tries = 0; tries < 600; tries++) {
    session.send('count');
    const count = Number((await session.waitForLine('count', 30_000)).slice('count '.length));
    if (count >= atLeast) return count;
    await sleep(50);
  }
  throw new Error(`${atLeast} events never came`);
}

test('clean leaves a living session alone, and takes out two dead ones', async () => {
  await using target = await startSelfCheck(true, 2);
  await assertWorks(target);
  const before = targetOnly(target.pid);
  await using first = await startSession(target, work);
  await using living = await startSession(target, work, `text_length@${path}`);
  await using second = await startSession(target, `leaf@${path}`);
  await Promise.all([first, second].map((session) => killSession(session)));

  const [held] = await status([target.pid]);
  assert.ok(held !== undefined);
  assert.deepEqual(
    held.sessions.map(({ alive }) => alive).toSorted((a, b) => Number(a) - Number(b)),
    [false, false, true],
  );
  assert.deepEqual(held.sites.map(({ found, name }) => `${name}: ${found}`).toSorted(), [
    'leaf: its jump',
    'text_length: its jump',
    'work_step: its jump',
  ]);

  const [report] = await clean([target.pid]);
  const [left] = await status([target.pid]);
  assert.ok(left !== undefined);
  const bytesUnmapped = held.mappedBytes - left.mappedBytes;
  assert.deepEqual(report, {
    pid: target.pid,
    sessionsRemoved: 2,
    sitesRestored: 1,
    bytesUnmapped,
    kept: [],
  });
  assert.deepEqual(
    left.sessions.map(({ alive }) => alive),
    [true],
  );
  assert.deepEqual(left.sites.map(({ name }) => name).toSorted(), ['text_length', 'work_step']);

  const seen = await eventsOf(living, 0);
  await step(target, 10); // 8 calls of work_step and one of text_length a round, 2 threads
  assert.equal(await eventsOf(living, seen + 180), seen + 180);
  living.send('quit');
  await living.waitForEnd(30_000);
  assertClean(before, targetOnly(target.pid), { ran: true });
});

test('a living session that holds its targets keeps nobody from cleaning others', async () => {
  await using followed = await startSelfCheck(true, 1);
  await using target = await startSelfCheck(true, 1);
  const before = targetOnly(target.pid);
  await using living = await attach({ pids: [followed.pid] }, { probes: [work], follow: true });
  await using dead = await startSession(target, work);
  await killSession(dead);
  const mapped = (await status([target.pid]))[0]?.mappedBytes;
  const nothing = { sessionsRemoved: 0, sitesRestored: 0, bytesUnmapped: 0, kept: [] };
  assert.deepEqual(await clean([followed.pid, target.pid]), [
    { pid: followed.pid, ...nothing },
    { pid: target.pid, sessionsRemoved: 1, sitesRestored: 1, bytesUnmapped: mapped, kept: [] },
  ]);
  assertClean(before, targetOnly(target.pid), { ran: true });
  await step(followed, 10);
  assert.deepEqual(
    (await living.stop()).events.map(({ hits }) => hits),
    [80],
  );
});

test('what a dead session left where another one holds the process stays, and is told', async () => {
  await using followed = await startSelfCheck(true, 1);
  await using target = await startSelfCheck(true, 1);
  await assertWorks(followed);
  const before = targetOnly(followed.pid);
  for (const { pid } of [followed, target]) {
    await using dead = await startSession({ pid }, work);
    await killSession(dead);
  }
  {
    await using holding = await attach(
      { pids: [followed.pid] },
      { probes: [`leaf@${path}`], follow: true },
    );
    assert.equal(holding.isFollowing, true);
    await assert.rejects(clean([followed.pid]), { code: 'busy' });
    const [first, second] = await clean([followed.pid, target.pid]);
    assert.equal(first?.sessionsRemoved, 0);
    assert.match(first.kept.join(), /is held by process \d+, which follows it/);
    assert.deepEqual([second?.sessionsRemoved, second?.kept], [1, []]);
  }
  await assertCleans(followed, before);
});

test('clean gives back a stub whose session died while a task was in the way', async () => {
  await using target = await startSelfCheck(true, 1);
  await assertWorks(target);
  const before = targetOnly(target.pid);
  await using dead = await startSession(target, work);
  await killSession(dead);
  {
    // As after the stop that takes out all but the stub and before the one that finds it quiet.
    using stopped = StoppedProcess.stop(target.pid);
    const block = ControlBlock.read(stopped.maps(), (at, length) => stopped.read(at, length));
    assert.equal(block.sites.size, 2); // the probe's, and the one that tells of libraries
    for (const site of block.sites.values()) {
      const file = stopped.maps().find(({ inode }) => inode === site.inode)?.path ?? '';
      const bytes = readFileSync(file).subarray(site.fileOffset, site.fileOffset + site.patchBytes);
      stopped.write(site.address, bytes);
      block.putSite({ ...site, state: 'retired' });
    }
    for (const index of block.programs.keys()) block.remove('programs', index);
    for (const index of block.sessions.keys()) block.remove('sessions', index);
    writeRows(stopped, block);
  }
  await assertCleans(target, before);
});

test('a session adopts what a dead one left at the same place', async () => {
  await using target = await startSelfCheck(true, 2);
  await assertWorks(target);
  const before = targetOnly(target.pid);
  await using dead = await startSession(target, work);
  await killSession(dead);
  {
    await using session = await attach({ pids: [target.pid] }, { probes: [work] });
    await step(target, 10);
    const { events, kept } = await session.stop();
    assert.deepEqual(
      events.map(({ hits, recorded }) => [hits, recorded]),
      [[160, 160]],
    );
    assert.deepEqual(kept, []);
  }
  await assertCleans(target, before);
});

test('a site whose maker died around its patch gets its jump from the next session', async () => {
  await using target = await startSelfCheck(true, 1);
  await assertWorks(target);
  const before = targetOnly(target.pid);
  await using dead = await startSession(target, work);
  const [held] = await status([target.pid]);
  const at = held?.sites[0]?.address;
  assert.ok(at !== undefined);
  await killSession(dead);
  {
    // As if it had died just before the patch, or just after the site was restored.
    const code = readMaps(target.pid).find(({ start, end }) => at >= start && at < end);
    assert.ok(code !== undefined);
    const from = Number(at - code.start + code.offset);
    using stopped = StoppedProcess.stop(target.pid);
    stopped.write(at, readFileSync(path).subarray(from, from + 5));
  }
  const [changed] = await status([target.pid]);
  assert.match(changed?.sites[0]?.found ?? '', /^other bytes: /);
  {
    await using session = await attach({ pids: [target.pid] }, { probes: [work] });
    await step(target, 10);
    const { events } = await session.stop();
    assert.deepEqual(
      events.map(({ hits }) => hits),
      [80],
    );
  }
  await assertCleans(target, before);
});

test('children of a target, forked before and after the session died, are cleaned by themselves', async () => {
  const spoil = compileFixture({ sources: ['spoil.c'] });
  await using target = await startTarget(spoil);
  await target.waitForLine('ready');
  const fork = async (): Promise<number> => {
    target.send('fork');
    return Number((await target.waitForLine('child')).slice('child '.length));
  };
  await using session = await startSession(target, `work_step@${spoil} a=%di:s64`);
  const before = await fork();
  await eventsOf(session, 5);
  await killSession(session);
  const after = await fork();
  for (const pid of [before, target.pid, after]) {
    const bytesUnmapped = (await status([pid]))[0]?.mappedBytes;
    const [report] = await clean([pid]);
    assert.deepEqual(report, {
      pid,
      sessionsRemoved: 1,
      sitesRestored: 1,
      bytesUnmapped,
      kept: [],
    });
    assertNothingHeld(pid);
  }
  target.send('work 1000');
  await target.waitForLine('worked');
  target.send('quit');
  assert.equal((await target.waitForEnd()).status, 0);
});

test('what an injected call left in the unused end of a segment is put back', async () => {
  await using target = await startSelfCheck(true, 1);
  const before = targetOnly(target.pid);
  const [place] = blobPlaces(target.pid);
  assert.ok(place !== undefined);
  {
    using stopped = StoppedProcess.stop(target.pid);
    stopped.write(place.address, new Uint8Array(64).fill(0x90));
  }
  const maps = readMaps(target.pid);
  assert.ok(
    findModified(target.pid, maps).some(
      ({ start, end }) => place.address >= start && place.address < end,
    ),
  );
  await assertCleans(target, before);
});

/** Everything that a program may do to its control block; the block's rows begin at 256. */
const spoilings = [
  'zero',
  'word 0 1', // no magic number
  'word 40 18446744073709551615', // the most rows that the tables hold
  'word 272 4096', // the session's liveness page
  'word 296 140737488351232', // its cache
  'word 2312 65536', // the arena
  'word 6408 94000000000000', // the site's address
  'word 6432 0', // where it keeps its displaced instructions
  'word 6440 1', // its list
  'word 1579288 94000000000000', // the program's next
  ...Array.from({ length: isLong() ? 100 : 2 }, (_, seed) => `noise ${seed}`),
];

test('a control block that its process has written over: clean refuses or does right', async () => {
  const spoil = compileFixture({ sources: ['spoil.c'] });
  for (const spoiling of spoilings) {
    await using target = await startTarget(spoil);
    await target.waitForLine('ready');
    await using session = await startSession(target, `work_step@${spoil} a=%di:s64`);
    target.send('work 1000');
    await target.waitForLine('worked');
    await killSession(session);
    target.send(spoiling);
    assert.equal(await target.waitForLine(/./), 'spoiled', spoiling);
    await status([target.pid]);
    for (let round = 0; round < (isLong() ? 2 : 1); round++) {
      const [report] = await clean([target.pid]);
      assert.ok(report !== undefined);
      if (report.kept.length === 0) assertNothingHeld(target.pid);
      target.send('work 1000');
      assert.equal(await target.waitForLine(/./), 'worked', `${spoiling}: ${report.kept.join()}`);
    }
    target.send('quit');
    assert.equal((await target.waitForEnd()).status, 0, spoiling);
  }
});
