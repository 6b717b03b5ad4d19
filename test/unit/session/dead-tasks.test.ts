import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DeadTasks } from '../../../src/session/reading/dead-tasks.ts';

test('it searches while nobody reads, and often where contexts are scarce', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let searches = 0;
  let isScarce = false;
  let isRead = false;
  const search = (): boolean => {
    searches++;
    return isScarce;
  };
  const looks = new DeadTasks({ search, wasPolled: () => isRead });
  const searchesIn = (milliseconds: number): number => {
    const before = searches;
    // One by one: each look sets the next.
    for (let at = 0; at < milliseconds; at++) t.mock.timers.tick(1);
    return searches - before;
  };
  searchesIn(1000);
  const quiet = searchesIn(1000);
  assert.ok(quiet >= 10 && quiet <= 11, String(quiet));
  isScarce = true;
  searchesIn(95);
  assert.equal(searchesIn(100), 100);
  isRead = true;
  searchesIn(1);
  assert.equal(searchesIn(3000), 0, 'who reads looks as well');
  isRead = false;
  searchesIn(1000);
  assert.equal(searchesIn(100), 100);
  looks.end();
  assert.equal(searchesIn(100), 0);
});
