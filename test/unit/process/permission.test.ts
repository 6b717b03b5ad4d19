import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

import { pid, tid } from '../../../src/base/brand.ts';
import { AnotherTurn, explainRefusal } from '../../../src/process/permission.ts';
import { feature } from '../../harness/features.ts';

const cause = new Error('EPERM');

test('a refusal where all lets us attach is a tracer that has gone, or is not seen: it is its turn', async () => {
  const child = spawn('sleep', ['1000']);
  await once(child, 'spawn');
  assert.ok(child.pid !== undefined);
  try {
    const error = explainRefusal(pid(child.pid), tid(child.pid), cause);
    assert.ok(error instanceof AnotherTurn, String(error));
    assert.equal(error.code, 'busy');
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  assert.equal(explainRefusal(pid(child.pid), tid(child.pid), cause), undefined);
});

test('a process can not trace itself', () => {
  const error = explainRefusal(pid(process.pid), tid(process.pid), cause);
  assert.equal(error?.code, 'not-permitted');
  assert.match(error.hint ?? '', /itself/);
});

// Root may attach to every process.
if (!feature('root').present) {
  test("a refusal of somebody else's process has its reason", () => {
    const error = explainRefusal(pid(1), tid(1), cause);
    assert.equal(error?.code, 'not-permitted');
    assert.match(error.hint ?? '', /uid 0/);
  });
}
