/**
 * The sizes that a running program asks its allocator for, as a histogram of powers of two.
 *
 *     npm run build && node examples/allocations.mjs PID [SECONDS]
 */

import { setTimeout as sleep } from 'node:timers/promises';

import { attach, TraplineError } from 'trapline';

const [pid, seconds = '3'] = process.argv.slice(2);
if (pid === undefined) {
  console.error('usage: node examples/allocations.mjs PID [SECONDS]');
  process.exit(2);
}

try {
  const session = await attach(
    { pids: [Number(pid)] },
    { probes: ['malloc@libc.so.6 size=%di:u64'] },
  );
  // Everything is taken out again when the time is over, and the loop below ends.
  const summary = sleep(Number(seconds) * 1000).then(() => session.stop());
  const buckets = new Map();
  for await (const batch of session.batches()) {
    batch.forEach((event) => {
      const bucket = 32 - Math.clz32(event.low(0));
      buckets.set(bucket, (buckets.get(bucket) ?? 0) + 1);
    });
  }
  for (const [bucket, count] of [...buckets].sort(([a], [b]) => a - b)) {
    console.log(`below ${2 ** bucket} bytes`.padEnd(24), count);
  }
  const [event] = (await summary).events;
  console.log(`${event?.hits ?? 0} calls, ${event?.missed.ringFull ?? 0} of them missed`);
  await session[Symbol.asyncDispose]();
} catch (error) {
  if (!(error instanceof TraplineError)) throw error;
  console.error(error.render());
  process.exitCode = 1;
}
