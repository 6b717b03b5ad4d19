/** Code that comes, moves and goes without the dynamic linker: found by looks, and never written to by mistake. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, clean, explain, status, type Session } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { lookAt, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, eventOf, until } from './jump-support.ts';
import { startSession } from './kill-support.ts';

function library(): string {
  const flags = ['-O2', '-g', '-fPIC', '-shared', '-DLIBRARY'];
  return compileFixture({ sources: ['plugins.c'], flags, name: 'libplugin.so' });
}

const PROBE = `plugin_step@${library()}`;

/** A program that maps the library itself. */
async function startMappings(): Promise<Target> {
  const [place] = await explain(PROBE);
  assert.ok(place !== undefined);
  const program = compileFixture({ sources: ['mappings.c'] });
  const target = await startTarget(program, [library(), String(place.offset), program]);
  await target.waitForLine('ready');
  return target;
}

async function say(target: Target, words: string): Promise<bigint> {
  target.send(words);
  const [verb = ''] = words.split(' ');
  const line = await target.waitForLine(new RegExp(`^${verb} |^bad`), 30_000);
  assert.doesNotMatch(line, /^bad/);
  const at = line.split(' ')[1] ?? '';
  return at === '(nil)' ? 0n : BigInt(at);
}

/** Waits for a look that finds the place. */
function isProbedAt(session: Session, at: bigint): Promise<void> {
  return until(`a probe at 0x${at.toString(16)}`, () =>
    session.probes.some(({ sites }) => sites.some(({ address }) => address === at)),
  );
}

async function counting(target: Target): Promise<Session> {
  return attach({ pids: [target.pid] }, { probes: [{ definition: PROBE, action: 'count' }] });
}

async function hits(session: Session): Promise<number> {
  return (await session.summary()).events[0]?.hits ?? 0;
}

async function stopsClean(session: Session, target: Target, expected: number): Promise<void> {
  const summary = await session.stop();
  assertExact(summary);
  assert.equal(eventOf(summary, 'plugin_step').hits, expected);
  assert.deepEqual(lookAt(target.pid).changedCode, []);
  target.send('quit');
  await target.waitForLine('ok');
}

test('mapped by hand it is found by a look; two mappings are two places', async () => {
  await using target = await startMappings();
  await using session = await counting(target);
  await isProbedAt(session, await say(target, 'map'));
  await say(target, 'call 10');
  await isProbedAt(session, await say(target, 'map'));
  await say(target, 'call 200');
  await say(target, 'unmap');
  await say(target, 'call 3000');
  await stopsClean(session, target, 3210);
});

test('its protection may change and change back: hits go on, and nothing is added twice', async () => {
  await using target = await startMappings();
  await using session = await counting(target);
  const at = await say(target, 'map');
  await isProbedAt(session, at);
  await say(target, 'call 10');
  for (const words of ['idle', 'writable', 'asleep', 'awake', 'idle']) {
    await say(target, words);
    // What is mapped beside it has every look take notice, too.
    const other = await say(target, 'map');
    await isProbedAt(session, other);
    await say(target, 'unmap');
  }
  await say(target, 'call 100');
  assert.equal(await hits(session), 110);
  await stopsClean(session, target, 110);
});

test('another file over it: nobody writes there, whatever is added, removed or left', async () => {
  await using target = await startMappings();
  await using session = await counting(target);
  await isProbedAt(session, await say(target, 'map'));
  await say(target, 'call 10');
  await say(target, 'cover');
  const before = await snapshot(target.pid);
  const [held] = await status([target.pid]);
  assert.deepEqual(
    held?.sites.map(({ found }) => found),
    ['its file is not mapped there any more'],
  );
  const main = `main@${compileFixture({ sources: ['mappings.c'] })}`;
  const other = await session.add({ definition: main, action: 'count' });
  assert.equal((await status([target.pid]))[0]?.sites.length, 2); // both mappings of the program
  await session.remove(other);
  const stub = await session.add({ definition: PROBE, action: 'count' });
  await session.remove(stub);
  await isProbedAt(session, await say(target, 'map'));
  await say(target, 'call 5');
  assert.equal(await hits(session), 15);
  assert.deepEqual(
    lookAt(target.pid).changedCode.filter((line) => !line.includes('libplugin')),
    before.changedCode,
  );
  await stopsClean(session, target, 15);
});

test('what a dead session left where another file lies now is cleaned without a write', async () => {
  await using target = await startMappings();
  await say(target, 'map');
  await using session = await startSession(target, PROBE);
  session.kill('SIGKILL');
  await session.waitForEnd();
  await say(target, 'cover');
  const [report] = await clean([target.pid]);
  assert.deepEqual(report?.kept, []);
  assert.deepEqual(lookAt(target.pid).changedCode, []);
  target.send('quit');
  await target.waitForLine('ok');
});

test('moved elsewhere it has its own bytes again, and its probe', async () => {
  await using target = await startMappings();
  await using session = await counting(target);
  await isProbedAt(session, await say(target, 'map'));
  await say(target, 'call 10');
  await isProbedAt(session, await say(target, 'move'));
  await say(target, 'call 20');
  await stopsClean(session, target, 30);
});

test('a shared mapping is refused: a jump would be in the file', async () => {
  await using target = await startMappings();
  await say(target, 'shared');
  await assert.rejects(counting(target), (error: unknown) => {
    assert.match(String((error as { hint?: string }).hint), /mapped shared/);
    return true;
  });
  await say(target, 'call 10');
  assert.deepEqual(lookAt(target.pid).changedCode, []);
  target.send('quit');
  await target.waitForLine('ok');
});
