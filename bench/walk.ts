/** What a walk over the processes of the machine costs, and how long it takes until a new process is probed. */

import { spawn, type ChildProcess } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { sparedProcesses } from '../src/session/targets/selection.ts';
import { ProcessWalk } from '../src/session/walks/walk.ts';
import { library } from './built.ts';
import { compileTarget, MeasuredTarget } from './targets.ts';
import { Rows, type Row } from './rows.ts';

/** Processes beside those that are there anyway. */
const COUNTS = [1, 100, 1000];

/** Measures walks. */
export async function measureWalks(rounds: number): Promise<Row[]> {
  const rows = new Rows('Walks: every process, whatever it maps');
  for (const count of COUNTS) {
    using crowd = await Crowd.start(count);
    for (let round = 0; round < rounds; round++) crowd.measure(rows);
  }
  const delays = new Rows('`--all`: from starting a process to its first probe');
  for (let round = 0; round < rounds; round++) await measureDelay(delays);
  return [...rows.finish(), ...delays.finish()];
}

/** Processes that sleep. */
class Crowd implements Disposable {
  readonly #children: readonly ChildProcess[];

  private constructor(children: readonly ChildProcess[]) {
    this.#children = children;
  }

  static async start(count: number): Promise<Crowd> {
    const children = Array.from({ length: count }, () => spawn('sleep', ['1000']));
    const crowd = new Crowd(children);
    await Promise.all(children.map((child) => once(child, 'spawn')));
    return crowd;
  }

  measure(rows: Rows): void {
    const walk = new ProcessWalk(sparedProcesses());
    const name = `${this.#children.length} processes beside the system's`;
    const time = (): number => {
      const began = performance.now();
      walk.look();
      return performance.now() - began;
    };
    rows.add(`${name}: the first walk, which reads all mappings`, 'ms', time());
    rows.add(`${name}: another, nothing has changed`, 'ms', time());
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill('SIGKILL');
  }
}

async function measureDelay(rows: Rows): Promise<void> {
  const { attach } = await library();
  const folder = mkdtempSync(join(tmpdir(), 'trapline-bench-'));
  try {
    const file = join(folder, 'program');
    copyFileSync(compileTarget(), file);
    const seen = new EventEmitter();
    const onTarget = (): boolean => seen.emit('target', performance.now());
    await using session = await attach({ all: true }, { probes: [`work@${file}`], onTarget });
    const found = once(seen, 'target');
    const began = performance.now();
    await using program = await MeasuredTarget.start(file);
    const [at] = (await found) as [number]; // what onTarget emits
    rows.add('a program that starts, its start included', 'ms', at - began);
    await session.stop();
    void program; // ended by its scope
  } finally {
    rmSync(folder, { recursive: true });
  }
}
