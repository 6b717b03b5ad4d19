/** Events on a machine whose time stamp counter is of no use: by a system call in every stub. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { eventClock } from '../../src/sys/clock.ts';
import { checkTimes } from './time-support.ts';

// Before anything asks for the clock, here or in the tracer's thread.
process.env['TRAPLINE_TEST_CLOCK'] = 'system';

test('stamped by clock_gettime, events come in the order of time too', async (context) => {
  assert.equal(eventClock(), 'system');
  await checkTimes(context);
});
