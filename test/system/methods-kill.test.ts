import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { address } from '../../src/base/brand.ts';
import { attach, clean, status } from '../../src/index.ts';
import { CONTROL_BYTES, CONTROL_NAME } from '../../src/process/control.ts';
import { readMaps } from '../../src/process/maps.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { assertClean } from '../harness/leaks.ts';
import type { Target } from '../harness/target.ts';
import { assertExact, difference } from './jump-support.ts';
import {
  assertNothingHeld,
  startSession,
  sweepBeside,
  sweepParked,
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

async function startParked(): Promise<Target> {
  const target = await startMethods(2);
  await stepMethods(target, 5);
  return target;
}

test('killed after any call of a session with sites over each other, the tracer harms nobody', async (context) => {
  await sweepParked(context, startParked, { script, stride: 83, least: 300 });
});

test('killed beside a session whose jumps lie under, over and in front of its own', async (context) => {
  await using target = await startParked();
  const before = targetOnly(target.pid);
  // None of its places is the other's, and all touch some of them.
  const places = [
    placeOf('m_bytes', 1),
    placeOf('m_several', 2),
    placeOf('m_skip', 3),
    placeOf('m_short', 1),
  ];
  await using living = await attach({ pids: [target.pid] }, { probes: [] });
  for (const place of places) await addCount(living, place);
  await sweepBeside(context, target, {
    script,
    stride: 107,
    least: 300,
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
  });
  assertExact(await living.stop());
  assertClean(before, targetOnly(target.pid), { ran: true });
});

test('a wiped control block: jumps over each other, in padding and puns are all found and taken out', async () => {
  await using target = await startParked();
  const before = targetOnly(target.pid);
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
  assertClean(before, targetOnly(target.pid), { ran: true });
});

/** As if the program had filled its control block with zeros. */
function wipe(target: Target): void {
  const path = `/memfd:${CONTROL_NAME}`;
  const block = readMaps(target.pid).find((one) => one.path === path && !one.executable);
  assert.ok(block !== undefined);
  using stopped = StoppedProcess.stop(target.pid);
  stopped.write(address(block.start), new Uint8Array(CONTROL_BYTES));
}
