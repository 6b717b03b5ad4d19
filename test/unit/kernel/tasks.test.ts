import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { KernelTasks } from '../../../src/engines/kernel/tasks.ts';

/** Beyond what the kernel gives to a task (PID_MAX_LIMIT). */
const ENDED = 5_000_000;
const name = Buffer.from('name\0');

test('a task that ended is in the process that the kernel’s table says now, not the one before it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-tasks-'));
  try {
    const write = (...lines: readonly string[]): void =>
      writeFileSync(join(folder, 'saved_tgids'), `${lines.join('\n')}\n`);
    const tasks = new KernelTasks(folder);
    const pidsOf = (now: number, ...tids: readonly number[]): number[] => {
      for (const tid of tids) tasks.meet(tid, now);
      tasks.settle(now);
      return tids.map((tid) => tasks.identify(tid, name, 0, name.length - 1).pid);
    };
    // Threads of long ago had the ids that processes have now.
    write(`${ENDED} 77`, `${ENDED + 1} 78`);
    assert.deepEqual(pidsOf(1, ENDED), [77]);
    write(`${ENDED} 77`, `${ENDED + 1} ${ENDED + 1}`);
    // Of the same poll: the table is read again.
    const all = [ENDED + 1, process.pid, ENDED + 2, ENDED, ENDED + 1];
    const expected = [ENDED + 1, process.pid, ENDED + 2, 77, ENDED + 1];
    assert.deepEqual(pidsOf(1, ...all), expected);
    write(`${ENDED} 79`);
    assert.deepEqual(pidsOf(99, ...all), expected);
    // An answer is believed for a while only; where there is none any more the last one counts.
    assert.deepEqual(pidsOf(102, ENDED, ENDED + 1), [79, ENDED + 1]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
