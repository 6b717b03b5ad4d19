import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TraplineError } from '../../src/base/errors.ts';
import { assembleBlob } from '../../src/process/blob.ts';
import { cleanBlobPlace, findBlobPlace, type BlobPlace } from '../../src/process/blob-place.ts';
import { readMaps } from '../../src/process/maps.ts';
import { leaveTemporaryMask } from '../../src/process/remote.ts';
import { StoppedProcess } from '../../src/process/stop.ts';

import { assertAlive, assertEndsWell, blobPlaces, startBlocked } from './process-support.ts';

/**
 * What the kernel does when the tracer dies right after the SETREGS, without a new process each
 * time: the task is pointed at the blob and let go. @returns whether the place was free.
 */
function leaveAlone(stopped: StoppedProcess, places: readonly BlobPlace[], round: number): boolean {
  try {
    const place = findBlobPlace(stopped, places, 1024);
    const task = stopped.tasks[round % stopped.tasks.length];
    assert.ok(task);
    const { registers } = task;
    const state = { registers, signalMask: leaveTemporaryMask(task.tid) };
    const calls = [
      { number: 9, arguments: [0n, 4096n, 3n, 0x22n, -1n, 0n] },
      { number: 11, arguments: [{ result: 0 }, 4096n] },
      // Every register that can keep a result does.
      { number: 39, arguments: [] },
      { number: 39, arguments: [{ result: 1 }, { result: 2 }] },
      { number: 39, arguments: [{ result: 3 }] },
      { number: 39, arguments: [{ result: 4 }] },
      { number: 39, arguments: [{ result: 5 }] },
    ];
    stopped.write(place.address, assembleBlob(place.address, calls, state));
    task.setRegisters(registers.set('rip', place.address).set('origRax', -1n));
    return true;
  } catch (error) {
    if (error instanceof TraplineError && error.code === 'busy') return false;
    throw error;
  }
}

test('a blob that is left alone ends by itself, and no thread notices', async () => {
  await using target = await startBlocked();
  const maps = readMaps(target.pid).length;
  const places = blobPlaces(target.pid);
  let done = 0;
  for (let round = 0; done < 400 && round < 4000; round++) {
    using stopped = StoppedProcess.stop(target.pid);
    if (leaveAlone(stopped, places, round)) done++;
    if (round % 50 === 49) {
      stopped[Symbol.dispose]();
      await assertAlive(target);
    }
  }
  assert.equal(done, 400);
  await assertAlive(target);
  assert.equal(readMaps(target.pid).length, maps);
  {
    using stopped = StoppedProcess.stop(target.pid);
    for (const place of places) assert.ok(cleanBlobPlace(stopped, place));
  }
  await assertAlive(target);
  await assertEndsWell(target);
});
