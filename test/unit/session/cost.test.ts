import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { BilledAccount } from '../../../src/events/account.ts';
import { parseDefinition } from '../../../src/probe/definition.ts';
import type { HitCost } from '../../../src/probe/engine.ts';
import type { Program } from '../../../src/probe/program.ts';
import { FileCache } from '../../../src/session/files/files.ts';
import { hitMeter } from '../../../src/session/own-machine.ts';
import { costOfHits, costsOf, lostIn } from '../../../src/session/reading/cost.ts';

const NONE = { ringFull: 0, noContext: 0, tracerGone: 0, abandoned: 0, textsTooLong: 0 };
const QUIET: BilledAccount = {
  hits: 0,
  recorded: 0,
  aggregated: 0,
  filtered: 0,
  contextless: { filtered: 0, aggregated: 0 },
  missed: NONE,
};
const COST: HitCost = {
  passed: 1000,
  refused: 100,
  lost: { ringFull: 10, noContext: 300, tracerGone: 1 },
};

function programOf(text: string, action: Program['action']): Program {
  const { arguments: parsed, filter } = parseDefinition(`f@x ${text}`);
  return { arguments: parsed, filter, action };
}

test('each hit is billed at what it came to', () => {
  const account: BilledAccount = {
    hits: 150,
    recorded: 20,
    aggregated: 30,
    filtered: 40,
    contextless: { filtered: 7, aggregated: 8 },
    missed: { ringFull: 9, noContext: 10, tracerGone: 11, abandoned: 12, textsTooLong: 13 },
  };
  // Five have records that nobody has read yet.
  const passed = 20 + (30 - 8) + 5;
  const expected = passed * 1000 + (40 - 7) * 100 + (9 + 12 + 13) * 10 + (10 + 7 + 8) * 300 + 11;
  assert.equal(costOfHits(COST, account), expected);
  assert.deepEqual(lostIn(account), ['ringFull', 'noContext', 'tracerGone']);
});

test('what did not happen is not measured', () => {
  assert.deepEqual(lostIn(QUIET), []);
  assert.deepEqual(lostIn({ ...QUIET, missed: { ...NONE, abandoned: 1 } }), ['ringFull']);
  assert.deepEqual(lostIn({ ...QUIET, contextless: { filtered: 1, aggregated: 0 } }), [
    'noContext',
  ]);
  const asked: string[] = [];
  const program = programOf('a=%di if a < 5', 'record');
  const costs = costsOf(
    [
      { program, lost: ['ringFull'] },
      { program: { ...program }, lost: [] },
    ],
    ({ filter }, lost) => asked.push(`${filter?.kind} ${lost}`),
  );
  assert.deepEqual(asked, ['any undefined', 'all undefined', 'any ringFull']);
  assert.deepEqual(costs, [
    { passed: 1, refused: 2, lost: { ringFull: 3 } },
    { passed: 1, refused: 2, lost: {} },
  ]);
});

test('a hit that is lost costs what it did, and not what a record costs', () => {
  const measure = hitMeter(new FileCache(), 64);
  const record = programOf('i=%di:s64 s=+0(%sp):string', 'record');
  const passed = measure(record);
  assert.ok(passed > 0);
  // A text is read by a system call, which is not made where there is no room.
  assert.ok(measure(record, 'ringFull') < passed / 2);
  assert.ok(measure(record, 'tracerGone') < passed / 2);
  // Who has no context asks the kernel for its own id first.
  const count = programOf('', 'count');
  assert.ok(measure(count, 'noContext') > measure(count) * 2);
});
