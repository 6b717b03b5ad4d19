import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { readMaps } from '../../src/process/maps.ts';
import { MemoryFile } from '../../src/sys/memory.ts';
import { killSweep, type SweepResult } from '../harness/kill-sweep.ts';
import type { Target } from '../harness/target.ts';
import { assertAlive, blobPlaces, startBlocked } from './process-support.ts';

const script = fileURLToPath(new URL('process-tracer.js', import.meta.url));

/** Each thread gets ahead, and the program's text is its file's, up to the unused tail. */
async function verify(target: Target): Promise<void> {
  await assertAlive(target);
  const path = readlinkSync(`/proc/${target.pid}/exe`);
  const text = readMaps(target.pid).find((line) => line.executable && line.path === path);
  const [place] = blobPlaces(target.pid);
  assert.ok(text !== undefined && place !== undefined);
  const bytes = new Uint8Array(Number(place.address - text.start) & ~15);
  using memory = new MemoryFile(target.pid);
  assert.equal(memory.read(text.start, bytes), bytes.byteLength);
  const file = readFileSync(path).subarray(Number(text.offset)).subarray(0, bytes.byteLength);
  assert.equal(Buffer.compare(bytes, file), 0);
}

function sweep(task: number, from: 'stop' | 'batch', every: number): Promise<SweepResult> {
  return killSweep({
    script,
    args: [String(task), from],
    start: () => startBlocked('interrupted'),
    verify,
    reuse: 1000,
    every,
    from: 1 + (task % every),
  });
}

test('killed after any call of a stop, a batch and a release, the tracer harms nobody', async () => {
  const { killed, lastCall } = await sweep(0, 'stop', 5);
  assert.ok(killed >= 20 && lastCall >= 60, `killed ${killed}, the last after call ${lastCall}`);
});

// One for each way to wait: the blob has to end alone, and the call to go on.
for (let task = 1; task <= 10; task++) {
  test(`killed while thread ${task} makes calls, the tracer harms nobody`, async () => {
    const { lastCall } = await sweep(task, 'batch', 17);
    assert.ok(lastCall >= 30, `the last after call ${lastCall}`);
  });
}
