/** What the tests of killed sessions share. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import { clean } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { assertClean, snapshot, tracedTasks, type Snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';

/** The compiled session that is killed. */
export const tracerScript: string = fileURLToPath(new URL('kill-tracer.js', import.meta.url));

/**
 * The first k of a sweep that takes every `stride`-th call: another one each day, so that days cover all;
 * the same in all runs of one day. `TRAPLINE_TEST_OFFSET`, from 0, sets it.
 */
export function firstCall(stride: number): number {
  const chosen = process.env['TRAPLINE_TEST_OFFSET'];
  if (chosen !== undefined) return 1 + Number(chosen);
  return isLong() ? 1 : 1 + (Math.floor(Date.now() / 86_400_000) % stride);
}

/** A snapshot without our own side: other runs of a sweep start programs meanwhile. */
export function targetOnly(pid: number): Snapshot {
  return { ...snapshot(pid), ownDescriptors: [], ownMappings: [], tracees: [] };
}

/** Another process with a session on a target, that stays until it is killed or told `quit`. */
export async function startSession(target: Target, ...probes: string[]): Promise<Target> {
  const script = fileURLToPath(new URL('clean-tracer.js', import.meta.url));
  const session = await startTarget(process.execPath, [script, String(target.pid), ...probes]);
  await session.waitForLine('ready', 60_000);
  return session;
}

/** Every thread of the self-checking program gets ahead, and has found nothing wrong. */
export async function assertWorks(target: Target): Promise<void> {
  target.send('step 3');
  const line = await target.waitForLine(/^(stepped|bad)/, 60_000);
  assert.match(line, /^stepped/);
}

/** Cleans, and looks whether everything is as it was before; the program stays parked. */
export async function assertCleans(target: Target, before: Snapshot): Promise<void> {
  await assertWorks(target);
  assert.deepEqual(tracedTasks(target.pid), []);
  const reports = await clean([target.pid]);
  assert.deepEqual(
    reports.map(({ kept }) => kept),
    [[]],
  );
  assertClean(before, targetOnly(target.pid), { ran: true });
  await assertWorks(target);
}

/** Nothing of ours is mapped or open in a process, and its code is its files'. */
export function assertNothingHeld(pid: number): void {
  const maps = readFileSync(`/proc/${pid}/maps`, 'utf8');
  assert.doesNotMatch(maps, /memfd:trapline-/);
  for (const name of readdirSync(`/proc/${pid}/fd`)) {
    assert.doesNotMatch(readlinkSync(`/proc/${pid}/fd/${name}`), /memfd:trapline-/);
  }
  assert.deepEqual(snapshot(pid).changedCode, []);
  assert.deepEqual(tracedTasks(pid), []);
}
