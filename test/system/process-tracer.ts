/**
 * A tracer that the kill sweep ends at every call: stops its target, has it make a mapping and
 * take it away again, and lets it go. Arguments: the target, the number of the task that serves, and
 * `stop` or `batch`: from where on calls are counted.
 */

import { pid as brandPid } from '../../src/base/brand.ts';
import { findBlobPlace } from '../../src/process/blob-place.ts';
import { RemoteBatch } from '../../src/process/remote.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { enableKillSwitch } from '../../src/sys/call.ts';
import { blobPlaces } from './process-support.ts';

const [, , target = '', number = '', from] = process.argv;
const pid = brandPid(Number(target));
const places = blobPlaces(pid);
if (from === 'stop') enableKillSwitch();
{
  using stopped = StoppedProcess.stop(pid);
  const place = findBlobPlace(stopped, places, 1024);
  if (from === 'batch') enableKillSwitch();
  using batch = RemoteBatch.begin(stopped, place, stopped.tasks[Number(number)]);
  const results = batch.run([
    { number: 9, arguments: [0n, 4096n, 3n, 0x22n, -1n, 0n] },
    { number: 11, arguments: [{ result: 0 }, 4096n] },
    { number: 39, arguments: [] },
  ]);
  if (results[1] !== 0n || results[2] !== BigInt(pid)) {
    throw new Error(`wrong answers: ${results.join(' ')}`);
  }
}
