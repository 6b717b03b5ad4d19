/**
 * A tracer that the kill sweep ends at every call: stops its target, has it make a mapping and
 * take it away again, three times, and lets it go.
 */

import { pid as brandPid } from '../../src/base/brand.ts';
import { findBlobPlace } from '../../src/process/blob-place.ts';
import { RemoteBatch } from '../../src/process/remote.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { enableKillSwitch } from '../../src/sys/call.ts';
import { blobPlaces } from './process-support.ts';

const target = brandPid(Number(process.argv[2]));
const rounds = Number(process.argv[3] ?? 3);
const kind = process.argv[4];
const places = blobPlaces(target);
enableKillSwitch();
for (let round = 0; round < rounds; round++) {
  using stopped = StoppedProcess.stop(target);
  const place = findBlobPlace(stopped, places, 1024);
  // Each round by another task, so that each way to wait has its turn.
  const own = stopped.tasks.filter((task) => task.pid === target);
  const which = kind === undefined ? round : Number(kind);
  using batch = RemoteBatch.begin(stopped, place, own[which % own.length]);
  const results = batch.run([
    { number: 9, arguments: [0n, 4096n, 3n, 0x22n, -1n, 0n] },
    { number: 11, arguments: [{ result: 0 }, 4096n] },
    { number: 39, arguments: [] },
  ]);
  if (results[1] !== 0n || results[2] !== BigInt(target)) {
    throw new Error(`wrong answers: ${results.join(' ')}`);
  }
}
