import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';

import { parseDescription } from '../../../src/session/reports/described.ts';
import {
  DESCRIPTION_VERSION,
  type SessionDescription,
} from '../../../src/session/reports/description.ts';

const whole: SessionDescription = {
  generation: 3,
  version: DESCRIPTION_VERSION,
  tracer: 12,
  probes: [
    {
      id: 1,
      definition: 'f@x a=%di',
      listing: 'p:probe_x/f f@x a=%di',
      action: 'record',
      filter: 'a > 1',
      costNanoseconds: 8,
      refused: [{ pid: 4, name: 'g', file: '/x', reason: 'it is too short' }],
    },
    { id: 2, definition: 'g@x', listing: 'p:probe_x/g g@x', action: 'count', refused: [] },
  ],
  end: 3,
};

test('what a session tells is read back', () => {
  assert.deepEqual(parseDescription(JSON.stringify(whole)), whole);
});

test('what is being written is not taken for whole', () => {
  const text = JSON.stringify(whole);
  for (let length = 0; length < text.length; length++) {
    assert.equal(parseDescription(text.slice(0, length)), undefined);
  }
  const later = JSON.stringify({ ...whole, generation: 4, end: 4 });
  assert.equal(parseDescription(later.slice(0, 40) + text.slice(40)), undefined);
  assert.equal(parseDescription(JSON.stringify({ ...whole, version: 0 })), undefined);
});

test('nothing that a stranger writes there is believed to have a form', () => {
  fc.assert(
    fc.property(fc.json(), fc.json(), (probe, refused) => {
      const probes = [JSON.parse(probe), { ...whole.probes[0], refused: JSON.parse(refused) }];
      const read = parseDescription(JSON.stringify({ ...whole, probes }));
      for (const one of read?.probes ?? assert.fail()) {
        assert.equal(typeof one.definition, 'string');
        assert.equal(typeof one.listing, 'string');
        for (const { reason } of one.refused) assert.equal(typeof reason, 'string');
      }
      parseDescription(probe);
    }),
  );
});
