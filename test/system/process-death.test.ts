import { test } from 'node:test';
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';

import { killSweep } from '../harness/kill-sweep.ts';
import { assertAlive, startBlocked } from './process-support.ts';

const script = fileURLToPath(new URL('process-tracer.js', import.meta.url));

test('the tracer may be killed after each of its calls, and no thread notices', async () => {
  const result = await killSweep({
    script,
    args: ['3'],
    start: () => startBlocked('interrupted'),
    verify: (target) => assertAlive(target),
    reuse: 1000,
    every: 7,
  });
  assert.ok(result.killed > 10, `${result.killed} killed`);
});
