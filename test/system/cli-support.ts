/** Running the built command as a person does: words in, text and an exit status out. */

import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import { compileFixture } from '../harness/fixtures.ts';
import { assertClean, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';

/** The built command. */
export const main: string = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** How a run ended, and what it wrote. */
export interface Result {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
}

/** How long a command is waited for that should say something: milliseconds. */
const MOST_WAITED = 60_000;

/** A command that runs. `await using` ends it. */
export class Running implements AsyncDisposable {
  readonly child: ChildProcess;
  out = '';
  err = '';
  readonly #closed: Promise<unknown>;

  /** @param words everything behind `trapline`. */
  constructor(words: readonly string[]) {
    this.child = spawn(process.execPath, [main, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout?.on('data', (bytes: Buffer) => {
      this.out += bytes.toString();
    });
    this.child.stderr?.on('data', (bytes: Buffer) => {
      this.err += bytes.toString();
    });
    this.#closed = once(this.child, 'close');
  }

  /**
   * Waits until what was written on one of the two matches.
   * @throws AssertionError with all that was written when the command ends first, or a minute has passed.
   */
  async until(stream: 'out' | 'err', pattern: RegExp): Promise<void> {
    const source = stream === 'out' ? this.child.stdout : this.child.stderr;
    const late = new Promise<'late'>((resolve) => {
      setTimeout(resolve, MOST_WAITED, 'late').unref();
    });
    while (!pattern.test(this[stream])) {
      const ended = this.#closed.then(() => 'ended');
      const more = source === null ? ended : once(source, 'data');
      const what = await Promise.race([more, ended, late]);
      if ((what === 'ended' || what === 'late') && !pattern.test(this[stream])) {
        assert.fail(`${String(pattern)} never came:\n${this.out}\n${this.err}`);
      }
    }
  }

  /** Waits for its end. */
  async result(): Promise<Result> {
    await this.#closed;
    const { exitCode: status, signalCode: signal } = this.child;
    return { status, signal, out: this.out, err: this.err };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill('SIGKILL');
    this.child.stdout?.resume();
    await this.#closed;
  }
}

/** Runs a command line to its end. */
export async function run(...words: readonly string[]): Promise<Result> {
  await using running = new Running(words);
  return await running.result();
}

/** The path of the program that checks itself. */
export function selfCheck(): string {
  return compileFixture({ sources: ['self-check.c'] });
}

/** Starts it, its threads running slowly, or parked. */
export async function startSelfCheck(parked = false, threads = 1): Promise<Target> {
  const pace = ['1000', ...(parked ? ['paused'] : [])];
  const target = await startTarget(selfCheck(), [String(threads), ...pace]);
  await target.waitForLine('ready');
  return target;
}

/** Lets parked threads make rounds. @returns the counts of all calls since the start, by function. */
export async function step(target: Target, rounds: number): Promise<Record<string, number>> {
  target.send(`step ${rounds}`);
  const line = await target.waitForLine('stepped', 30_000);
  // The program's own words: test/fixtures/self-check.c says what they are.
  return JSON.parse(line.slice('stepped '.length)) as Record<string, number>;
}

/**
 * Runs `work` and asserts that the target is as it was before and found nothing wrong.
 * @returns what `work` returned.
 */
export async function leavingClean<T>(target: Target, work: () => Promise<T>): Promise<T> {
  const before = await snapshot(target.pid);
  const result = await work();
  assertClean(before, await snapshot(target.pid), { ran: true });
  target.send('quit');
  const end = await target.waitForLine(/^(ok|bad)/, 30_000);
  assert.match(end, /^ok/);
  return result;
}

/** The cells of the summary's line for an event, by heading. */
export function summaryOf(err: string, event: string): ReadonlyMap<string, string> {
  const lines = err.split('\n');
  const headings = lines.find((line) => /^event +hits/.test(line))?.split(/ {2,}/) ?? [];
  const cells = lines.find((line) => line.startsWith(`${event} `))?.split(/ {2,}/);
  assert.ok(cells !== undefined, `no summary of ${event}:\n${err}`);
  return new Map(headings.map((heading, at) => [heading.trim(), cells[at] ?? '']));
}

/** A number of the summary. */
export function countOf(err: string, event: string, heading: string): number {
  const text = summaryOf(err, event).get(heading);
  return text === undefined ? 0 : Number(text.replaceAll(',', ''));
}
