/** A session that follows a command and reads it to its end, to be killed on its way. Arguments: a probe, the command. */

import assert from 'node:assert/strict';

import { spawn } from '../../src/index.ts';

const [, , probe = '', ...command] = process.argv;
await using session = await spawn(command, {
  probes: [probe],
  ringBytes: 256 << 10,
  ringBudget: 64 << 20,
});
for await (const batch of session.batches()) assert.ok(batch.count > 0);
const { kept } = await session.stop();
assert.deepEqual(kept, []);
