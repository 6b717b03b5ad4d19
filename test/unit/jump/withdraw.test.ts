import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { ControlBlock } from '../../../src/engines/jump/block.ts';
import type { RestoreTarget } from '../../../src/engines/jump/restore.ts';
import { releaseQuiet } from '../../../src/engines/jump/withdraw.ts';

/** A process in which no task stands anywhere. Nothing else is asked of it where no site is given back. */
const target = {
  stopped: { tasks: [] },
  maps: [],
  original: () => undefined,
} as unknown as RestoreTarget; // of a stopped process only its tasks are looked at

const program = (session: number, code: bigint) => ({
  session,
  site: 0,
  code: address(code),
  codeBytes: 64,
  next: address(code + 56n),
  consumer: 0,
  probe: 1,
});

test('a row whose index was given to another session between two stops is not taken for the old one', () => {
  const block = ControlBlock.empty();
  const old = block.addProgram(program(0, 0x1000n));
  assert.equal(releaseQuiet(target, block, [old]).isQuiet, true);
  assert.equal(block.programs.size, 0);
  // The other session's, where the old one was, and elsewhere.
  for (const code of [0x1000n, 0x2000n]) {
    const now = block.addProgram(program(1, code));
    assert.equal(now.index, old.index);
    assert.equal(releaseQuiet(target, block, [old]).isQuiet, true);
    assert.deepEqual([...block.programs.values()], [now]);
    block.remove('programs', now.index);
  }
});
