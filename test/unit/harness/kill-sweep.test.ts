import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { killSweep } from '../../harness/kill-sweep.ts';
import { startTarget, type Target } from '../../harness/target.ts';

const folder = mkdtempSync(join(tmpdir(), 'trapline-sweep-'));
after(() => rmSync(folder, { recursive: true }));

/** A tracer of `calls` calls that does nothing to its target. */
function script(name: string, text: string): string {
  const path = join(folder, `${name}.mjs`);
  writeFileSync(path, text);
  return path;
}

const sixCalls = script(
  'six',
  "if (process.env.TRAPLINE_TEST_KILL_AFTER <= 6) process.kill(process.pid, 'SIGKILL'); setInterval(() => process.exit(0), 10);",
);
const start = (): Promise<Target> => startTarget('/bin/sleep', ['60']);

const endsAtThree = async (target: Target, call: number): Promise<void> => {
  if (call < 3) return;
  target.kill('SIGKILL');
  await target.exited;
};

test('each call is killed after, once, until the tracer ends by itself', async () => {
  const seen: number[] = [];
  const verify = async (_: Target, call: number): Promise<void> => void seen.push(call);
  const result = await killSweep({ script: sixCalls, start, verify });
  assert.deepEqual(result, { killed: 6, lastCall: 6 });
  const killed = seen.filter((call) => call <= 6).toSorted((a, b) => a - b);
  assert.deepEqual(killed, [1, 2, 3, 4, 5, 6]);
});

test('a stride leaves calls out, and a target may serve several runs', async () => {
  let targets = 0;
  const counted = (): Promise<Target> => {
    targets += 1;
    return start();
  };
  const options = { script: sixCalls, start: counted, every: 3, parallel: 1, reuse: 10 };
  const result = await killSweep({ ...options, verify: async () => undefined });
  assert.deepEqual(result, { killed: 2, lastCall: 4 });
  assert.equal(targets, 1);
});

test('a target that dies is an error that names the call', async () => {
  await assert.rejects(
    killSweep({ script: sixCalls, start, verify: endsAtThree, parallel: 1 }),
    (error: unknown) => {
      assert.ok(error instanceof Error);
      assert.match(error.message, /after call 3/);
      assert.match(String(error.cause), /the target has ended/);
      return true;
    },
  );
});

test('a sweep in which nothing was killed proves nothing, and fails', async () => {
  const idle = script('idle', '');
  await assert.rejects(killSweep({ script: idle, start, verify: async () => undefined }), /no run/);
});

test('a tracer that fails is an error with its words', async () => {
  const failing = script('failing', "console.error('broken'); process.exitCode = 3;");
  await assert.rejects(
    killSweep({ script: failing, start, verify: async () => undefined }),
    (error: unknown) => error instanceof Error && /\(3\):\s*broken/.test(String(error.cause)),
  );
});
