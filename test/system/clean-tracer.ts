/**
 * A session that stays until it is killed: `clean-tracer PID PROBE…`. Writes `ready` when its probes are in,
 * and then, for each line on its standard input, the number of events so far; the end of the input ends it.
 */

import { createInterface } from 'node:readline';

import { attach } from '../../src/index.ts';

const [, , target = '', ...probes] = process.argv;
await using session = await attach({ pids: [Number(target)] }, { probes });
let count = 0;
const reading = (async (): Promise<void> => {
  for await (const batch of session.batches()) count += batch.count;
})();
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'quit') break;
  process.stdout.write(`count ${count}\n`);
}
// A pipe that is still read keeps the process.
process.stdin.destroy();
await session.stop();
await reading;
process.stdout.write(`end ${count}\n`);
