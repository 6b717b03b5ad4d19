import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach } from '../../../src/index.ts';
import { requestOf } from '../../../src/session/probes/requested.ts';
import type { ProbeRequest } from '../../../src/session/types.ts';

test('what is no request is a mistake of usage that shows it', async () => {
  for (const [wrong, shown] of [
    [{ probe: 'x' }, "{ probe: 'x' } is no request of a probe"],
    [undefined, 'undefined is no'],
    [null, 'null is no'],
    [7, '7 is no'],
    [['f@x'], "[ 'f@x' ] is no"],
    [{ definition: 7 }, '{ definition: 7 } is no'],
    [{ definition: 'f@x', exclude: 'g' }, "exclude: 'g' } is no"],
    [{ definition: 'f@x', filter: [7] }, 'filter: [ 7 ] } is no'],
  ] as const) {
    // What JavaScript lets through.
    const asked = wrong as unknown as ProbeRequest;
    const isSo = (error: { code: string; message: string }): boolean => {
      assert.equal(error.code, 'usage');
      assert.ok(error.message.includes(shown), error.message);
      return true;
    };
    assert.throws(() => requestOf(asked), isSo);
    await assert.rejects(attach({ pids: [1] }, { probes: [asked] }), isSo);
  }
});

test('a text is its definition, and a request stays what it is', () => {
  assert.deepEqual(requestOf('f@x'), { definition: 'f@x' });
  const whole = { definition: '*@x', exclude: ['g'], filter: 'a > 1', action: 'count' as const };
  assert.equal(requestOf(whole), whole);
  const listed = { definition: 'f@x', filter: ['a > 1'], exclude: undefined };
  assert.equal(requestOf(listed as unknown as ProbeRequest), listed);
});
