/** What the tests of killed sessions share. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

import { clean } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { killSweep, type SweepOptions } from '../harness/kill-sweep.ts';
import { assertClean, lookAt, type Snapshot, tracedTasks } from '../harness/leaks.ts';
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
  return { ...lookAt(pid), ownDescriptors: [], ownMappings: [], tracees: [] };
}

/** Another process with a session on a target, that stays until it is killed or told `quit`. */
export async function startSession(
  target: Pick<Target, 'pid'>,
  ...probes: string[]
): Promise<Target> {
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
  assert.deepEqual(lookAt(pid).changedCode, []);
  assert.deepEqual(tracedTasks(pid), []);
}

/** A sweep of the tests here. */
export interface Sweep extends Pick<SweepOptions, 'script' | 'verify'> {
  /** Of the calls of one session, so many are skipped between two kills outside of the long form. */
  readonly stride: number;
  /** A session that makes fewer calls is not the one that was meant. */
  readonly least: number;
}

/** Kills sessions on targets that are parked before, and run meanwhile: nobody is harmed, clean gives all back. */
export async function sweepParked(
  context: TestContext,
  start: () => Promise<Target>,
  sweep: Omit<Sweep, 'verify'>,
): Promise<void> {
  const before = new WeakMap<Target, Snapshot>();
  await runSweep(context, sweep, {
    start: async () => {
      const target = await start();
      before.set(target, targetOnly(target.pid));
      return target;
    },
    verify: async (target) => {
      const parked = before.get(target);
      assert.ok(parked !== undefined);
      await assertCleans(target, parked);
    },
  });
}

/** Kills sessions on one target, one at a time, beside others that live on; the target stays when the sweep ends. */
export async function sweepBeside(
  context: TestContext,
  target: Target,
  sweep: Sweep,
): Promise<void> {
  const { verify } = sweep;
  const start = (): Promise<Target> => Promise.resolve(borrowed(target));
  await runSweep(context, sweep, { start, verify, parallel: 1 });
}

async function runSweep(
  context: TestContext,
  { script, stride, least }: Omit<Sweep, 'verify'>,
  options: Pick<SweepOptions, 'start' | 'verify' | 'parallel'>,
): Promise<void> {
  const from = firstCall(stride);
  const { killed, lastCall } = await killSweep({
    ...options,
    script,
    prepare: (target) => {
      target.send('run');
    },
    from,
    every: stride,
    reuse: 1000,
  });
  context.diagnostic(
    `every ${isLong() ? 1 : stride}th call from ${from}: killed ${killed}, last after ${lastCall}`,
  );
  assert.ok(lastCall >= least, `the last after call ${lastCall}`);
}

/** The same target, which the sweep does not end. */
function borrowed(target: Target): Target {
  return new Proxy(target, {
    get: (of, name) => {
      if (name === Symbol.asyncDispose) return () => Promise.resolve();
      const value: unknown = Reflect.get(of, name, of);
      return typeof value === 'function' ? (value.bind(of) as unknown) : value;
    },
  });
}
