/** Definitions as the kernel takes, lists and refuses them: the corpus is the kernel's own word. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TraplineError } from '../../../src/base/errors.ts';
import { listDefinition, parseDefinition } from '../../../src/probe/definition.ts';
import { readKernelCases, type Outcome } from './kernel-corpus.ts';

function outcomeOf(text: string): Outcome {
  try {
    return { listing: listDefinition(parseDefinition(text)) };
  } catch (error) {
    assert.ok(error instanceof TraplineError && error.position !== undefined, String(error));
    return { message: error.message, column: error.position.column };
  }
}

const cases = readKernelCases();

test('the corpus is there', () => {
  assert.ok(cases.length > 350);
});

test('same listing, same message, same column, or a reason', () => {
  for (const { text, kernel, ours } of cases) {
    const outcome = outcomeOf(text);
    if (ours !== undefined) {
      assert.deepEqual(outcome, ours.outcome, text);
      assert.notDeepEqual(ours.outcome, kernel, `no difference any more: ${text}`);
    } else if ('listing' in kernel || kernel.column !== undefined) {
      assert.deepEqual(outcome, kernel, text);
    } else {
      // The kernel says no more than that it refuses.
      assert.ok('message' in outcome, text);
    }
  }
});

test('what is listed is parsed and listed again, the same', () => {
  let count = 0;
  for (const { text } of cases) {
    const outcome = outcomeOf(text);
    // The kernel itself would refuse the name that it generates for libstdc++.
    if (!('listing' in outcome) || outcome.listing.includes('++')) continue;
    assert.deepEqual(outcomeOf(outcome.listing), outcome, text);
    count++;
  }
  assert.ok(count > 150);
});

function listed(text: string): string {
  return listDefinition(parseDefinition(text));
}

test('the forms of seed 1', () => {
  assert.equal(
    listed('p 3551:0x0000000000446420 %ip %ax'),
    'p:uprobes/p_3551_0x0000000000446420 3551:0x0000000000446420 arg1=%ip arg2=%ax',
  );
  assert.equal(
    listed('p fe:01:130904:0x46420'),
    'p:uprobes/p_130904_0x46420 130904:0x0000000000046420',
  );
});

test('functions, returns and filters in a listing', () => {
  assert.equal(
    listed(`f%return@'/opt/a b' $retval if arg1 > 1`),
    "r:probe_a_b/f f@'/opt/a b' arg1=$retval",
  );
  assert.equal(
    listed('r8:g/e  /bin/zsh:4096  x=%di if x == 1'),
    'r:g/e /bin/zsh:0x0000000000001000 x=%di',
  );
  assert.equal(
    listDefinition(parseDefinition('f@x %ax'), { group: 'probe_x', event: 'f_1' }),
    'p:probe_x/f_1 f@x arg1=%ax',
  );
});
