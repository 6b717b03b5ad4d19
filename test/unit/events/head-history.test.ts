import assert from 'node:assert/strict';
import { test } from 'node:test';

import { HeadHistory } from '../../../src/events/head-history.ts';

test('a position is as old as the first head that was seen behind it', () => {
  const history = new HeadHistory();
  history.note(100, 1000);
  history.note(200, 1050);
  history.note(300, 1100);
  assert.equal(history.since(50, 2000), 1000);
  assert.equal(history.since(100, 2000), 1050);
  assert.equal(history.since(299, 2000), 1100);
  assert.equal(history.since(300, 2000), 2000, 'not seen yet: no older than now');
});

test('a head that moved back says nothing of what it gave back', () => {
  const history = new HeadHistory();
  history.note(500, 1000);
  history.note(100, 1100);
  history.note(500, 1200);
  assert.equal(history.since(200, 2000), 1200);
});

test('what was read is forgotten, and the history of a waiting reader stays short', () => {
  const history = new HeadHistory();
  for (let at = 0; at < 1000; at++) history.note(at + 1, at);
  assert.equal(history.since(0, 5000), 0);
  history.forget(500);
  assert.ok(history.since(100, 5000) >= 500);
  history.forget(Number.POSITIVE_INFINITY);
  assert.equal(history.since(0, 5000), 5000);
});
