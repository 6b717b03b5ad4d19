import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TraplineError, type ErrorCode } from '../../../src/base/errors.ts';
import { AnotherTurn, HeldByAnother } from '../../../src/process/permission.ts';
import { Turns } from '../../../src/process/turns.ts';

const details = { code: 'busy', message: 'refused' } as const;

function refusal(code: ErrorCode): TraplineError {
  return new TraplineError({ ...details, code });
}

test('who is busy is waited for, and nobody else', () => {
  const turns = new Turns();
  for (let time = 0; time < 20; time++) assert.equal(turns.mayComeAgain(refusal('busy')), true);
  assert.equal(turns.mayComeAgain(refusal('no-process')), false);
  assert.equal(turns.mayComeAgain(refusal('not-permitted')), false);
  assert.equal(turns.mayComeAgain(new HeldByAnother(details)), false);
});

test('another session is waited for longer than anybody else', (context) => {
  let now = 0;
  context.mock.method(performance, 'now', () => now);
  const turns = new Turns();
  const mayAfter = (milliseconds: number, error: TraplineError): boolean => {
    now = milliseconds;
    return turns.mayComeAgain(error);
  };
  assert.equal(mayAfter(1000, refusal('busy')), true);
  assert.equal(mayAfter(1001, refusal('busy')), false);
  assert.equal(mayAfter(10_000, new AnotherTurn(details)), true);
  assert.equal(mayAfter(10_001, new AnotherTurn(details)), false);
});
