/** What the tests of the kernel engine share. They probe files of their own: others use theirs meanwhile. */

import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

import { skipUnless, type Skippable } from '../harness/features.ts';
import { compileFixture, type FixtureOptions } from '../harness/fixtures.ts';
import { assertClean, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';

const TRACEFS = '/sys/kernel/tracing';

/** Both engines: what they have in common is tested by one text. */
export const ENGINES = ['jump', 'kernel'] as const;

/** One of {@link ENGINES}. */
export type Engine = (typeof ENGINES)[number];

/** Skips the test where the engine can't be there. @returns true when it was skipped */
export function skipEngine(context: Skippable, engine: Engine): boolean {
  return engine === 'kernel' && skipUnless(context, 'root', 'tracefs');
}

/** A fixture of our own inode, so that its probes and its counts are nobody else's. */
export class OwnFixture implements Disposable {
  readonly path: string;
  readonly #folder: string;

  constructor(options: FixtureOptions, folder = 'trapline-kernel-') {
    const compiled = compileFixture(options);
    this.#folder = mkdtempSync(join(tmpdir(), folder));
    this.path = join(this.#folder, basename(compiled));
    copyFileSync(compiled, this.path);
  }

  /** Starts it; it is ready. */
  async start(): Promise<Target> {
    const target = await startTarget(this.path);
    await target.waitForLine('ready');
    return target;
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }
}

/** What a process has in the kernel: lines of uprobe_events and instances that carry its number. */
export function heldBy(pid: number): string[] {
  const mark = `trapline_${pid}_`;
  const events = readFileSync(`${TRACEFS}/uprobe_events`, 'utf8').split('\n');
  return [...events, ...readdirSync(`${TRACEFS}/instances`)].filter((line) => line.includes(mark));
}

/**
 * Runs `work`, then asserts that the target, we and the kernel are as before, and that the target says `ok`.
 * The pages `[uprobes]` and `[uprobes-trampoline]` are the kernel's: they stay in a process that was hit.
 */
export async function leavingKernelClean<T>(
  target: Target,
  engine: Engine,
  work: () => Promise<T>,
): Promise<T> {
  const before = await snapshot(target.pid);
  const result = await work();
  const after = await snapshot(target.pid);
  const mappings = after.mappings.filter((line) => !/\[uprobes(?:-trampoline)?\]$/.test(line));
  assertClean(before, { ...after, mappings }, { ran: true });
  if (engine === 'kernel') assert.deepEqual(heldBy(process.pid), []);
  target.send('quit');
  assert.match(await target.waitForLine(/^(ok|bad)/, 60_000), /^ok/);
  return result;
}
