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
    const pidOf = (tid: number, now: number): number =>
      tasks.identify(tid, name, 0, name.length - 1, now).pid;
    // Threads of long ago had the ids that processes have now.
    write(`${ENDED} 77`, `${ENDED + 1} 78`);
    assert.equal(pidOf(ENDED, 1), 77);
    write(`${ENDED} 77`, `${ENDED + 1} ${ENDED + 1}`);
    assert.equal(pidOf(ENDED + 1, 2), ENDED + 1);
    assert.equal(pidOf(ENDED + 2, 3), ENDED + 2);
    assert.equal(pidOf(process.pid, 4), process.pid);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
