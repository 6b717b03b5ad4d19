import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TraplineError, type ErrorCode } from '../../../src/base/errors.ts';
import { Turns } from '../../../src/process/turns.ts';

function refusal(code: ErrorCode): TraplineError {
  return new TraplineError({ code, message: 'refused' });
}

test('who is busy is waited for; a refusal without a reason is believed when it comes again and again', () => {
  const turns = new Turns();
  for (let time = 0; time < 20; time++) assert.equal(turns.mayComeAgain(refusal('busy')), true);
  assert.equal(turns.mayComeAgain(refusal('no-process')), false);
  const again = Array.from({ length: 7 }, () => turns.mayComeAgain(refusal('not-permitted')));
  assert.deepEqual(again, [true, true, true, true, true, false, false]);
  assert.equal(turns.mayComeAgain(refusal('busy')), true);
});
