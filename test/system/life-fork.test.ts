/** Children of every kind, of a process that is probed by its id: what they hit is counted exactly. */

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { pid as brandPid } from '../../src/base/brand.ts';
import { attach, clean, status, type Session } from '../../src/index.ts';
import { readTaskState } from '../../src/process/tasks.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, eventOf, leavingClean, Reading, until } from './jump-support.ts';
import { assertNothingHeld, startSession } from './kill-support.ts';
import { inFolder } from './real-support.ts';

const CALLS = 50;
const PROBE = 'life_work@life-fork n=%di:u64 pid=%si:u32 tid=%dx:u32';
const COUNT = { definition: 'life_work@life-fork', action: 'count' } as const;

/** By whose ids a child's hits are shown: one that runs on its maker's thread pointer passes for its maker. */
const WAYS = {
  fork: 'own',
  vfork: 'maker',
  vm: 'maker',
  files: 'maker',
  tls: 'own',
  zeros: 'own',
  thread: 'maker',
  'thread-tls': 'own',
} as const;

/** @returns the fixture; `worker` is the process that does what it is told. */
async function startFork(...words: string[]): Promise<Target & { readonly worker: number }> {
  const path = compileFixture({ sources: ['life-fork.c'] });
  const target = await startTarget(path, [String(CALLS), ...words]);
  const ready = await target.waitForLine('ready');
  return Object.assign(target, { worker: Number(ready.split(' ')[1]) });
}

async function quit(target: Target): Promise<void> {
  await tell(target, 'work 10');
  target.send('quit');
  await target.waitForLine('ok');
}

interface Child {
  readonly pid: number;
  readonly tid: number;
}

/** Gives a command. @returns the children that it made, and all calls since the start. */
async function tell(
  target: Target,
  command: string,
): Promise<{ children: readonly Child[]; calls: number }> {
  const before = target.lines.length;
  target.send(command);
  const line = await target.waitForLine(/^(done|bad)/, 60_000);
  assert.match(line, /^done/);
  const children = target.lines.slice(before).flatMap((text) => {
    const [word, , pid, tid] = text.split(' ');
    return word === 'child' ? [{ pid: Number(pid), tid: Number(tid) }] : [];
  });
  return { children, calls: Number(line.split(' ')[2]) };
}

/** Whose hits there were: by who made them, in their own words, and as whose they were shown. */
class Owners {
  readonly #counts = new Map<string, number>();
  readonly reading: Reading;

  constructor(session: Session) {
    this.reading = new Reading(session, (event) => {
      const key = `${event.number(1)}/${event.number(2)} as ${event.pid}/${event.tid}`;
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
    });
  }

  assertShown(made: Child, as: Child): void {
    const key = `${made.pid}/${made.tid} as ${as.pid}/${as.tid}`;
    assert.equal(this.#counts.get(key), CALLS, `${key} among ${[...this.#counts.keys()].join()}`);
  }

  get size(): number {
    return this.#counts.size;
  }
}

test('fork, vfork and every kind of clone: each hit once, by the child’s own ids where they can be told', async () => {
  await using target = await startFork();
  const { worker: pid } = target;
  await leavingClean(target, async () => {
    await using session = await attach({ pids: [pid] }, { probes: [PROBE, COUNT] });
    const owners = new Owners(session);
    await tell(target, `work ${CALLS}`);
    const made: { child: Child; way: keyof typeof WAYS }[] = [];
    let calls = 0;
    // Twice in turns: what a child leaves behind must not be taken for the next one's.
    for (const way of [...Object.keys(WAYS), ...Object.keys(WAYS)] as (keyof typeof WAYS)[]) {
      const reply = await tell(target, `${way} 2`);
      assert.equal(reply.children.length, 2);
      for (const child of reply.children) made.push({ child, way });
      ({ calls } = reply);
    }
    const summary = await session.stop();
    await owners.reading.done;
    assertExact(summary);
    for (const event of summary.events) assert.equal(event.hits, calls, event.event);
    assert.equal(owners.reading.total, calls);
    const maker = { pid, tid: pid };
    owners.assertShown(maker, maker);
    for (const { child, way } of made)
      owners.assertShown(child, WAYS[way] === 'own' ? child : maker);
    assert.equal(owners.size, made.length + 1);
  });
});

test('posix_spawn: what its child calls before it executes is counted', async () => {
  await using target = await startFork();
  const { worker: pid } = target;
  await leavingClean(target, async () => {
    const probes = ['dup2@libc.so.6 from=%di:s32 to=%si:s32'];
    await using session = await attach({ pids: [pid] }, { probes });
    const seen = new Map<number, number>();
    const reading = new Reading(session, (event) => {
      seen.set(event.pid, (seen.get(event.pid) ?? 0) + 1);
    });
    await tell(target, 'spawn 20');
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    assert.equal(eventOf(summary, 'dup2').hits, 61);
    // As of vfork: shown as their maker's, which has hit before.
    assert.deepEqual([...seen], [[pid, 61]]);
  });
});

test('a process that shares memory and thread pointer with one that is probed afterwards', async () => {
  await using target = await startFork();
  const { worker: pid } = target;
  await leavingClean(target, async () => {
    const { children } = await tell(target, 'beside');
    await using session = await attach({ pids: [pid] }, { probes: [PROBE, COUNT] });
    const both = 20_000;
    const counts = new Map<number, number>();
    const reading = new Reading(session, (event) => {
      assert.equal(event.tid, event.number(2));
      assert.equal(event.pid, event.number(1));
      counts.set(event.pid, (counts.get(event.pid) ?? 0) + 1);
    });
    const { calls } = await tell(target, `both ${both}`);
    assert.equal(calls, 2 * both);
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    for (const event of summary.events) assert.equal(event.hits, calls, event.event);
    assert.equal(reading.total, eventOf(summary, 'life_work').recorded);
    assert.deepEqual(new Set(counts.keys()), new Set([pid, children[0]?.pid]));
  });
});

test('processes that share memory are one address space, whichever of them are named', async () => {
  await inFolder(async (folder) => {
    const program = join(folder, 'life-fork');
    copyFileSync(compileFixture({ sources: ['life-fork.c'] }), program);
    await using target = await startTarget(program, [String(CALLS)]);
    await target.waitForLine('ready');
    await leavingClean(target, async () => {
      const { children } = await tell(target, 'beside');
      const pids = [target.pid, children[0]?.pid ?? 0];
      let expected = 0;
      for (const selection of [{ pids }, { pids: pids.toReversed() }, { all: true }]) {
        const probe = { definition: `life_work@${program}`, action: 'count' } as const;
        await using session = await attach(selection, { probes: [probe] });
        const { calls } = await tell(target, 'both 1000');
        const summary = await session.stop();
        assertExact(summary);
        assert.equal(eventOf(summary, 'life_work').hits, calls - expected);
        expected = calls;
        for (const pid of pids) assertNothingHeld(pid);
      }
    });
  });
});

test('a child that outlives its parent: its hits arrive while the session lives, then its text is given back', async () => {
  await using target = await startFork('under');
  const { worker: pid } = target;
  // The process that waits for them is a target, too: a session ends with the last.
  await using session = await attach({ pids: [pid, target.pid] }, { probes: [PROBE, COUNT] });
  const owners = new Owners(session);
  await tell(target, `work ${CALLS}`);
  const [orphan] = (await tell(target, 'leave')).children;
  assert.ok(orphan !== undefined);
  const { calls } = await tell(target, `work ${CALLS}`);
  assert.equal(calls, 2 * CALLS);
  await until('all events', () => owners.reading.total === calls);
  owners.assertShown({ pid, tid: pid }, { pid, tid: pid });
  owners.assertShown(orphan, orphan);
  const summary = await session.stop();
  await owners.reading.done;
  assertExact(summary);
  for (const event of summary.events) assert.equal(event.hits, calls, event.event);
  assertNothingHeld(orphan.pid);
  await quit(target);
});

test('a session whose target has ended counts what the child goes on with, until it is stopped', async () => {
  await using target = await startFork('under');
  await using session = await attach({ pids: [target.worker] }, { probes: [COUNT] });
  await tell(target, 'work 10');
  const [orphan] = (await tell(target, 'leave')).children;
  assert.ok(orphan !== undefined);
  await session.ended;
  const { calls } = await tell(target, 'work 20');
  const summary = await session.stop();
  assertExact(summary);
  assert.equal(eventOf(summary, 'life_work').hits, calls);
  assertNothingHeld(orphan.pid);
  await quit(target);
});

for (const way of ['by its number', 'as one of all'] as const) {
  test(`a probe that is added when its target, named ${way}, has ended is in the child that it left`, async () => {
    await inFolder(async (folder) => {
      const program = join(folder, 'orphans');
      copyFileSync(compileFixture({ sources: ['life-fork.c'] }), program);
      await using target = await startTarget(program, [String(CALLS), 'under']);
      const pid = Number((await target.waitForLine('ready')).split(' ')[1]);
      const probe = { definition: `life_work@${program}`, action: 'count' } as const;
      await using session = await attach(
        way === 'by its number' ? { pids: [pid] } : { all: true },
        { probes: [way === 'by its number' ? probe : { ...probe, tasks: { pids: [pid] } }] },
      );
      await tell(target, 'work 10');
      const [orphan] = (await tell(target, 'leave')).children;
      assert.ok(orphan !== undefined);
      const later = await session.add({ ...probe, definition: `${probe.definition} n=%di:u64` });
      const added = later.sites.filter((site) => site.pid === orphan.pid);
      assert.equal(added.length, 1);
      await tell(target, 'work 30');
      const { events, kept } = await session.stop();
      const hits = events.map((event) => event.hits).sort((one, other) => one - other);
      assert.deepEqual([hits, kept], [[30, 40], []]);
      assertNothingHeld(orphan.pid);
      await quit(target);
    });
  });
}

test('a child that outlives its parent and the session that was killed: clean gives it back', async () => {
  await using target = await startFork('under');
  await using session = await startSession(
    { pid: brandPid(target.worker) },
    PROBE,
    'dup2@libc.so.6',
  );
  await tell(target, 'work 10');
  // A session whose only target has ended would end, too.
  session.kill('SIGSTOP');
  await until('the session stands still', () => readTaskState(session.pid) === 'T');
  const [orphan] = (await tell(target, 'leave')).children;
  assert.ok(orphan !== undefined);
  await tell(target, 'work 10');
  session.kill('SIGKILL');
  await session.waitForEnd();
  await tell(target, 'work 10');
  assert.match(readFileSync(`/proc/${orphan.pid}/maps`, 'utf8'), /memfd:trapline-/);
  const mapped = (await status([orphan.pid]))[0]?.mappedBytes;
  assert.deepEqual(await clean([orphan.pid]), [
    { pid: orphan.pid, sessionsRemoved: 1, sitesRestored: 2, bytesUnmapped: mapped, kept: [] },
  ]);
  assertNothingHeld(orphan.pid);
  await quit(target);
});

test('a task filter is asked of the process that is chosen, and of no child that it forks', async () => {
  await inFolder(async (folder) => {
    const program = join(folder, 'life-fork');
    copyFileSync(compileFixture({ sources: ['life-fork.c'] }), program);
    await using target = await startTarget(program, [String(CALLS)]);
    await target.waitForLine('ready');
    const asked: number[] = [];
    const tasks = {
      accepts: ({ pid }: { readonly pid: number }) => asked.push(pid) > 0 && pid === target.pid,
    };
    const probe = { definition: `life_work@${program} pid=%si:u32`, tasks };
    for (const selection of [{ pids: [target.pid] }, { all: true }]) {
      await using session = await attach(selection, { probes: [probe] });
      const seen = new Set<number>();
      const reading = new Reading(session, ({ pid }) => seen.add(pid));
      const before = reading.total;
      const { children } = await tell(target, 'fork 3');
      // What they execute is another program, which has no probes without --follow, and is none that is looked for.
      await tell(target, 'spawn 2');
      const summary = await session.stop();
      await reading.done;
      assertExact(summary);
      assert.equal(eventOf(summary, 'life_work').hits, 3 * CALLS);
      assert.equal(reading.total - before, 3 * CALLS);
      assert.deepEqual(seen, new Set(children.map(({ pid }) => pid)));
    }
    assert.deepEqual(new Set(asked), new Set([Number(target.pid)]));
  });
});

test('a storm of 1,000 short children: every hit, each by its own id, and nothing is left', async () => {
  await using target = await startFork();
  const { worker: pid } = target;
  await leavingClean(target, async () => {
    const children = 1000;
    // A context for each: none is missed, however late the reader finds that one has ended.
    const rings = { ringBytes: 256 << 10, ringBudget: (children + 24) * (256 << 10) };
    await using session = await attach({ pids: [pid] }, { probes: [PROBE, COUNT], ...rings });
    const seen = new Map<number, number>();
    const reading = new Reading(session, (event) => {
      assert.equal(event.pid, event.number(1));
      assert.equal(event.tid, event.pid);
      seen.set(event.pid, (seen.get(event.pid) ?? 0) + 1);
    });
    const { calls } = await tell(target, `storm ${children} 20`);
    assert.equal(calls, children * CALLS);
    await until('all events', () => reading.total === calls);
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    for (const { event, hits, recorded, aggregated } of summary.events) {
      assert.equal(hits, calls, event);
      assert.equal(recorded + aggregated, calls, event);
    }
    assert.deepEqual(
      [...seen.values()].filter((count) => count !== CALLS),
      [],
    );
    assert.equal(seen.size, children);
  });
});

test('a storm of children for which there are too few rings: what is missed is counted', async () => {
  await using target = await startFork();
  const { worker: pid } = target;
  await leavingClean(target, async () => {
    const rings = { ringBytes: 256 << 10, ringBudget: 1 << 20 };
    await using session = await attach({ pids: [pid] }, { probes: [PROBE, COUNT], ...rings });
    const reading = new Reading(session);
    const { calls } = await tell(target, 'storm 1000 20');
    const summary = await session.stop();
    await reading.done;
    assertExact(summary);
    for (const { event, hits } of summary.events) assert.equal(hits, calls, event);
    const { recorded, missed } = eventOf(summary, 'life_work');
    assert.ok(missed.noContext > 0 && recorded > 0);
    assert.equal(reading.total, recorded);
  });
});
