/** A file that a process maps twice: a probe of it is at both places. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { lookAt, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, eventOf, leavingClean } from './jump-support.ts';

function library(...flags: readonly string[]): string {
  const all = ['-O2', '-g', '-fPIC', '-shared', '-DLIBRARY', ...flags];
  return compileFixture({ sources: ['copies.c'], flags: all, name: 'libcopies.so' });
}

function startCopies(...words: readonly string[]): Promise<Target> {
  return startTarget(compileFixture({ sources: ['copies.c'] }), words);
}

async function call(target: Target, copy: 0 | 1, calls: number): Promise<void> {
  target.send(`${copy} ${calls}`);
  await target.waitForLine(/^calls/);
}

test('a library that is there twice is probed in both copies, by one probe', async () => {
  const path = library();
  await using target = await startCopies(path);
  const ready = await target.waitForLine(/^ready/);
  await leavingClean(target, async () => {
    await using session = await attach(
      { pids: [target.pid] },
      { probes: [{ definition: `part_step@${path}`, action: 'count' }] },
    );
    const [probe] = session.probes;
    const sites = probe?.sites ?? [];
    const addresses = sites.map(({ address }) => `0x${address.toString(16)}`);
    assert.deepEqual(addresses.sort(), ready.split(' ').slice(1).sort());
    assert.equal(new Set(sites.map(({ offset, event }) => `${offset} ${event}`)).size, 1);
    await call(target, 0, 300);
    assert.equal(eventOf(await session.summary(), 'part_step').hits, 300);
    await call(target, 1, 4000);
    const later = await session.add({ definition: `part_step@${path}`, action: 'count' });
    assert.equal(later.sites.length, 2);
    await call(target, 0, 10);
    await call(target, 1, 10);
    await session.remove(later);
    await call(target, 0, 5);
    const summary = await session.stop();
    assertExact(summary);
    assert.deepEqual(
      summary.events.map(({ hits }) => hits).sort((a, b) => a - b),
      [20, 4325],
    );
    assert.deepEqual(summary.kept, []);
  });
});

test('an address names one of the two', async () => {
  const path = library();
  await using target = await startCopies(path);
  const ready = await target.waitForLine(/^ready/);
  for (const [copy, address] of ready.split(' ').slice(1).entries()) {
    const definition = `${target.pid}:${address}`;
    await using session = await attach({}, { probes: [{ definition, action: 'count' }] });
    assert.deepEqual(
      session.probes[0]?.sites.map((site) => site.address),
      [BigInt(address)],
    );
    await call(target, 0, 30);
    await call(target, 1, 40);
    const { events } = await session.stop();
    assert.equal(events[0]?.hits, copy === 0 ? 30 : 40);
  }
});

test('a probe that one of two targets can not have is in neither', async () => {
  await using one = await startCopies(library());
  await using two = await startCopies(library('-Dpart_step=other_step'), 'other_step');
  for (const target of [one, two]) await target.waitForLine(/^ready/);
  const before = await snapshot(one.pid);
  await using session = await attach({ pids: [one.pid, two.pid] });
  await assert.rejects(session.add('part_step@libcopies.so'), { code: 'no-symbol' });
  assert.deepEqual(lookAt(one.pid).changedCode, before.changedCode);
  assert.deepEqual(session.probes, []);
});
