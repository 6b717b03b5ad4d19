/** The fixture `inside`: a task that waits in the middle of what is probed, or is put there. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { ControlBlock } from '../../src/engines/jump/block.ts';
import type { SiteRow } from '../../src/process/control-rows.ts';
import { StoppedProcess } from '../../src/process/stop.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { until } from './jump-support.ts';

/** Starts the fixture; its header says what it does in each mode. */
export async function startInside(mode: 'stand' | 'hold' | 'pun'): Promise<Target> {
  const target = await startTarget(compileFixture({ sources: ['inside.c'] }), [mode]);
  await answered(target, 'ready');
  return target;
}

/** Waits for an answer, and until the task sleeps in the read of its standard input again. */
async function answered(target: Target, word: string): Promise<void> {
  const line = await target.waitForLine(new RegExp(`^(${word}|bad)`));
  assert.ok(line.startsWith(word), line);
  const sleeps = (): boolean =>
    readFileSync(`/proc/${target.pid}/syscall`, 'latin1').startsWith('0 0x0 ');
  await until('a read', sleeps);
}

/** Has the task come out of its call, and into the next one, so many times. */
export async function call(target: Target, times: number): Promise<void> {
  for (let done = 0; done < times; done++) {
    target.send('call');
    await answered(target, 'called');
  }
}

/** From now on it waits elsewhere. */
export async function leave(target: Target): Promise<void> {
  target.send('out');
  await answered(target, 'called');
}

/** Has a handler run while the task sleeps; its call is made again. */
export async function signalAndRestart(target: Target): Promise<void> {
  target.kill('SIGUSR1');
  await answered(target, 'handled');
}

/** The same for a handler without SA_RESTART: the call answers EINTR, and the task goes on. */
export async function signalAndInterrupt(target: Target): Promise<void> {
  target.kill('SIGUSR2');
  await answered(target, 'interrupted');
}

/** What is written of sites in the target's own program, and where its task stands. */
export interface Standing {
  readonly rows: readonly SiteRow[];
  readonly rip: bigint;
}

/** Looks at the rows of a target of one task. */
export function lookInside(target: Target): Standing {
  using stopped = StoppedProcess.stop(target.pid);
  const maps = stopped.maps();
  const block = ControlBlock.read(maps, (at, length) => stopped.read(at, length));
  // Not the session's own site, in the dynamic linker.
  const linker = maps.find(({ path }) => /\/ld-[^/]*$/.test(path));
  const rows = [...block.sites.values()].filter(({ inode }) => inode !== linker?.inode);
  const rip = stopped.tasks[0]?.registers.get('rip') ?? assert.fail('it has a task');
  return { rows, rip };
}

/** The row of the stub in which the task of a target is. */
export function stubAround(target: Target): SiteRow | undefined {
  const { rows, rip } = lookInside(target);
  return rows.find(({ stub, stubBytes }) => rip >= stub && rip < stub + BigInt(stubBytes));
}

/** The same; it must be in one, of a site in the given state. */
export function assertInStub(target: Target, state: SiteRow['state']): SiteRow {
  const row = stubAround(target) ?? assert.fail('it stands in no stub');
  assert.equal(row.state, state);
  return row;
}

/** Interrupts the task by a handler that waits for a line. */
export async function hold(target: Target): Promise<void> {
  target.kill('SIGHUP');
  await answered(target, 'holding');
}

/**
 * Puts the task, which sleeps in the call before `far_pun`, to an address, and has it interrupted there by a
 * handler that waits for `go`.
 */
export async function holdAt(target: Target, where: bigint): Promise<void> {
  {
    using stopped = StoppedProcess.stop(target.pid);
    const task = stopped.tasks[0] ?? assert.fail('it has a task');
    // As if the call had answered, and nothing were to be made again.
    const { registers } = task;
    task.setRegisters(
      registers
        .set('rax', 1n)
        .set('origRax', 2n ** 64n - 1n)
        .set('rip', where),
    );
    target.kill('SIGHUP');
  }
  await answered(target, 'holding');
}

/** Lets the handler of {@link holdAt} return. */
export async function letGo(target: Target): Promise<void> {
  target.send('go');
  await answered(target, 'called');
}
