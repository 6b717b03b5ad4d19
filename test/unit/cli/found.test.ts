import assert from 'node:assert/strict';
import { test } from 'node:test';

import { FoundProcesses } from '../../../src/cli/found.ts';
import { PLAIN } from '../../../src/screen/colour.ts';

test('found processes: the first at once, then what came in a second, the rest before the sums', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const told: string[] = [];
  const take = (): string[] => told.splice(0);
  using found = new FoundProcesses({ lines: (lines) => told.push(...lines) }, PLAIN);
  const find = (...pids: readonly number[]): void => {
    for (const pid of pids) found.add({ pid, comm: 'sh', executable: '/bin/sh' });
  };
  find(1, 2, 3, 4, 5, 6);
  assert.deepEqual(take(), ['trapline: also in sh (1)']);
  context.mock.timers.tick(1000);
  assert.deepEqual(take(), ['trapline: also in sh (2), sh (3), sh (4) and 2 processes more']);
  // Still a line a second.
  find(7);
  assert.deepEqual(take(), []);
  context.mock.timers.tick(1000);
  assert.deepEqual(take(), ['trapline: also in sh (7)']);
  context.mock.timers.tick(1000);
  found.addProblem('a problem');
  assert.deepEqual(take(), ['trapline: a problem']);
  find(8);
  found.tellRest();
  assert.deepEqual(take(), ['trapline: also in sh (8)']);
  found.tellRest();
  assert.deepEqual(take(), []);
});
