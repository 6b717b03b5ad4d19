import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { address } from '../../src/base/brand.ts';
import { attach, clean, status } from '../../src/index.ts';
import { CONTROL_BYTES, CONTROL_NAME } from '../../src/process/control.ts';
import { readMaps } from '../../src/process/maps.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { killSweep } from '../harness/kill-sweep.ts';
import { assertClean, type Snapshot } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import { assertExact, difference } from './jump-support.ts';
import {
  assertCleans,
  assertNothingHeld,
  firstCall,
  startSession,
  targetOnly,
} from './kill-support.ts';
import {
  addCount,
  hitsAt,
  placeOf,
  runsOf,
  startMethods,
  stepMethods,
  surePlaces,
} from './methods-support.ts';

const script = fileURLToPath(new URL('methods-tracer.js', import.meta.url));
/** Of the calls of one session, so many are skipped between two kills outside of the long form. */
const STRIDE = 41;
const BESIDE_STRIDE = 53;

async function startParked(before: WeakMap<Target, Snapshot>): Promise<Target> {
  const target = await startMethods(2);
  await stepMethods(target, 5);
  before.set(target, targetOnly(target.pid));
  return target;
}

test('killed after any call of a session with sites over each other, the tracer harms nobody', async (context) => {
  const before = new WeakMap<Target, Snapshot>();
  const from = firstCall(STRIDE);
  const { killed, lastCall } = await killSweep({
    script,
    start: () => startParked(before),
    prepare: (target) => {
      target.send('run');
    },
    verify: async (target) => {
      const snapshot = before.get(target);
      assert.ok(snapshot !== undefined);
      await assertCleans(target, snapshot);
    },
    from,
    every: STRIDE,
    reuse: 1000,
  });
  context.diagnostic(
    `every ${STRIDE}th call from ${from}: killed ${killed}, last after ${lastCall}`,
  );
  assert.ok(lastCall >= 300, `the last after call ${lastCall}`);
});

test('killed beside a session whose jumps lie under, over and in front of its own', async (context) => {
  const snapshots = new WeakMap<Target, Snapshot>();
  await using target = await startParked(snapshots);
  const before = snapshots.get(target);
  assert.ok(before !== undefined);
  // None of its places is the other's, and all touch some of them.
  const places = [
    placeOf('m_bytes', 1),
    placeOf('m_several', 2),
    placeOf('m_skip', 3),
    placeOf('m_short', 1),
  ];
  await using living = await attach({ pids: [target.pid] }, { probes: [] });
  for (const place of places) await addCount(living, place);
  const { killed } = await killSweep({
    script,
    start: () => Promise.resolve(borrowed(target)),
    prepare: () => {
      target.send('run');
    },
    verify: async (_, call) => {
      assert.deepEqual((await clean([target.pid]))[0]?.kept, [], `after call ${call}`);
      target.send('pause');
      assert.match(await target.waitForLine(/^(paused|bad)/, 60_000), /^paused/);
      const start = await stepMethods(target, 1);
      const hits = await hitsAt(living, places);
      const calls = difference(start, await stepMethods(target, 10));
      const after = await hitsAt(living, places);
      places.forEach((place, at) => {
        const made = (after[at] ?? 0) - (hits[at] ?? 0);
        assert.equal(made, runsOf(place, calls), `after call ${call}: ${place.definition}`);
      });
    },
    from: firstCall(BESIDE_STRIDE),
    every: BESIDE_STRIDE,
    reuse: 1000,
    parallel: 1,
  });
  context.diagnostic(`killed ${killed}`);
  assertExact(await living.stop());
  assertClean(before, targetOnly(target.pid), { ran: true });
});

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

test('a wiped control block: jumps over each other, in padding and puns are all found and taken out', async () => {
  const before = new WeakMap<Target, Snapshot>();
  await using target = await startParked(before);
  await using session = await startSession(
    target,
    ...surePlaces().map(({ definition }) => definition),
  );
  session.kill('SIGKILL');
  await session.waitForEnd(30_000);
  wipe(target);
  assert.deepEqual((await status([target.pid]))[0]?.sites ?? [], []);
  const [report] = await clean([target.pid]);
  assert.deepEqual(report?.kept, []);
  await stepMethods(target, 100);
  assertNothingHeld(target.pid);
  const snapshot = before.get(target);
  assert.ok(snapshot !== undefined);
  assertClean(snapshot, targetOnly(target.pid), { ran: true });
});

/** As if the program had filled its control block with zeros. */
function wipe(target: Target): void {
  const path = `/memfd:${CONTROL_NAME}`;
  const block = readMaps(target.pid).find((one) => one.path === path && !one.executable);
  assert.ok(block !== undefined);
  using stopped = StoppedProcess.stop(target.pid);
  stopped.write(address(block.start), new Uint8Array(CONTROL_BYTES));
}
