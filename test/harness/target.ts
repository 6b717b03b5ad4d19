/**
 * Programs that tests start and attach to from this same process. libuv waits for its own children
 * and takes their ptrace stops away, so a target is never a child of Node: a shell stands between,
 * waits for it, and reports its number and its end on a pipe of its own.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants as modes, readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import { pid as toPid, type Pid } from '../../src/base/brand.ts';

/** How to start a target. */
export interface TargetOptions {
  /** Replaces the environment; default: ours. */
  readonly env?: Readonly<Record<string, string>>;
  /** Where the program runs; default: our folder. */
  readonly cwd?: string;
}

/** How a target ended: one of the two is set. */
export interface TargetEnd {
  readonly status: number | undefined;
  readonly signal: string | undefined;
}

/** A line that never came, with what came instead. */
export class LineTimeout extends Error {
  override readonly name = 'LineTimeout';
}

const marker = 'trapline-target';
/** Of each stream: where Node ends by an error, the message is above the stack, the error's fields and a cause. */
const LAST_LINES = 40;

/**
 * The inner shell becomes the program; the outer one waits for it. `--pdeathsig` ends both when the
 * test runner is killed, so nothing is left behind.
 */
const outer = `exec 4>&2 2>/dev/null; ${inner()}; echo "end $?" >&3`;

function inner(): string {
  const script = `: ${marker}; echo "pid $$" >&3; exec 2>&4; exec "$0" "$@" 3>&- 4>&-`;
  return `setpriv --pdeathsig KILL sh -c '${script}' "$0" "$@"`;
}

/** A running program that belongs to the test. `await using` ends it. */
export class Target implements AsyncDisposable {
  readonly pid: Pid;
  /** Fulfilled at the end of the program; never rejected. */
  readonly exited: Promise<TargetEnd>;
  /** Every line on standard output so far. */
  readonly lines: readonly string[];
  /** What the program wrote on standard error so far. */
  readonly errors: readonly string[];
  readonly #guard: ChildProcess;
  readonly #waiters: Set<() => void>;
  #ended = false;
  #read = 0;

  /** Use {@link startTarget}. */
  constructor(guard: ChildProcess, number: Pid, report: Interface) {
    this.pid = number;
    this.#guard = guard;
    const lines: string[] = [];
    const errors: string[] = [];
    const waiters = new Set<() => void>();
    this.lines = lines;
    this.errors = errors;
    this.#waiters = waiters;
    const output = createInterface({ input: readable(guard, 1) }).on('line', (line) => {
      lines.push(line);
      for (const wake of waiters) wake();
    });
    const complaints = createInterface({ input: readable(guard, 2) });
    complaints.on('line', (line) => errors.push(line));
    const read = Promise.all([output, complaints].map((one) => once(one, 'close')));
    this.exited = new Promise((resolve) => {
      const ended = (end: TargetEnd): void => {
        this.#ended = true;
        for (const wake of waiters) wake();
        resolve(end);
      };
      report.on('line', (line) => {
        // Its last words may still be in the pipes; a child of its own may hold them open.
        void Promise.race([read, sleep(100)]).then(() => ended(endOf(line)));
      });
      report.on('close', () => {
        void Promise.race([read, sleep(200)]).then(() =>
          ended({ status: undefined, signal: 'SIGKILL' }),
        );
      });
    });
  }

  /** Whether the program has not ended. */
  get running(): boolean {
    return !this.#ended;
  }

  /** Writes one line to the program's standard input. */
  send(line: string): void {
    writable(this.#guard).write(`${line}\n`);
  }

  /**
   * The next line that matches, after the one returned last; earlier lines that don't match are
   * passed over.
   * @param timeout milliseconds
   * @throws LineTimeout when time or the program ends first, with the program's last words.
   */
  async waitForLine(pattern: RegExp | string, timeout = 10_000): Promise<string> {
    const deadline = Date.now() + timeout;
    for (;;) {
      while (this.#read < this.lines.length) {
        const line = this.lines[this.#read++] ?? '';
        if (typeof pattern === 'string' ? line.startsWith(pattern) : pattern.test(line))
          return line;
      }
      const left = deadline - Date.now();
      if (left <= 0 || this.#ended) throw new LineTimeout(this.#lastWords(pattern, timeout));
      await this.#change(left);
    }
  }

  /**
   * How the program ended.
   * @param timeout milliseconds
   * @throws LineTimeout when it has not ended by then.
   */
  async waitForEnd(timeout = 10_000): Promise<TargetEnd> {
    const deadline = Date.now() + timeout;
    while (!this.#ended) {
      const left = deadline - Date.now();
      if (left <= 0) throw new LineTimeout(this.#lastWords('the end', timeout));
      await this.#change(left);
    }
    return this.exited;
  }

  /** Sends a signal to the program, unless it has ended. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    if (!this.#ended) process.kill(this.pid, signal);
  }

  /** Ends the program and all that it started. */
  async [Symbol.asyncDispose](): Promise<void> {
    const guard = this.#guard;
    if (guard.exitCode === null && guard.signalCode === null) {
      const closed = once(guard, 'exit');
      killGroup(guard);
      await closed;
    }
    await this.exited;
    for (let tries = 0; tries < 100 && groupLives(guard); tries++) await sleep(2);
    for (const stream of guard.stdio) stream?.destroy();
  }

  #change(timeout: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#waiters.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeout);
      this.#waiters.add(done);
    });
  }

  #lastWords(pattern: RegExp | string, timeout: number): string {
    const end = this.#ended ? 'the program ended' : `${timeout} ms passed`;
    const words = [
      'on standard output:',
      ...this.lines.slice(-LAST_LINES),
      'on standard error:',
      ...this.errors.slice(-LAST_LINES),
    ];
    return `no line matched ${pattern} before ${end}; last lines\n  ${words.join('\n  ')}`;
  }
}

/**
 * Starts a program and waits until it has been executed (its own first line is not waited for).
 * @param path a path, not a name: see `requireProgram` in fixtures.ts
 * @throws Error when the program can't be executed.
 */
export async function startTarget(
  path: string,
  args: readonly string[] = [],
  options: TargetOptions = {},
): Promise<Target> {
  accessSync(path, modes.X_OK);
  const guard = spawn('setpriv', ['--pdeathsig', 'KILL', 'sh', '-c', outer, path, ...args], {
    stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    detached: true, // a process group of its own, which ends as one
    ...(options.env === undefined ? {} : { env: { PATH: process.env['PATH'], ...options.env } }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const report = createInterface({ input: readable(guard, 3) });
  const first = await firstLine(guard, report, path);
  const target = new Target(guard, toPid(Number(/^pid (\d+)$/.exec(first)?.[1])), report);
  try {
    await executed(target, path);
  } catch (error) {
    await target[Symbol.asyncDispose]();
    throw error;
  }
  return target;
}

function firstLine(guard: ChildProcess, report: Interface, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    guard.once('error', reject);
    report.once('close', () => reject(new Error(`${path}: the shell that starts it ended`)));
    report.once('line', resolve);
  });
}

/** The shell's command line is replaced in the instant of exec. */
async function executed(target: Target, path: string): Promise<void> {
  for (;;) {
    if (!target.running) {
      // What a shell answers for a program that it can't execute; any other has run, and ended already.
      const { status } = await target.exited;
      if (status !== 126 && status !== 127) return;
      throw new Error(`${path} did not start: ${target.errors.join('\n')}`);
    }
    const line = commandLine(target.pid);
    if (line !== undefined && !line.includes(marker)) return;
    await Promise.race([target.exited, sleep(1)]);
  }
}

/** Undefined once the process is gone; a zombie's is empty, which counts as executed. */
function commandLine(number: Pid): string | undefined {
  try {
    return readFileSync(`/proc/${number}/cmdline`, 'utf8');
  } catch {
    return undefined; // ended: the report pipe says how
  }
}

/** A shell reports 128 plus the number for a program that a signal ended. */
function endOf(line: string): TargetEnd {
  const status = Number(/^end (\d+)$/.exec(line)?.[1]);
  const name = Object.entries(constants.signals).find(([, number]) => number === status - 128)?.[0];
  return name === undefined ? { status, signal: undefined } : { status: undefined, signal: name };
}

function killGroup(guard: ChildProcess): void {
  signalGroup(guard, 'SIGKILL');
}

function groupLives(guard: ChildProcess): boolean {
  return signalGroup(guard, 0);
}

/** @returns whether there was a process to send it to. */
function signalGroup(guard: ChildProcess, signal: NodeJS.Signals | 0): boolean {
  if (guard.pid === undefined) return false;
  try {
    return process.kill(-guard.pid, signal);
  } catch (error) {
    const gone = error instanceof Error && 'code' in error && error.code === 'ESRCH';
    if (!gone) throw error;
    return false;
  }
}

function readable(guard: ChildProcess, index: number): Readable {
  return guard.stdio[index] as Readable; // a pipe, by startTarget's stdio
}

function writable(guard: ChildProcess): Writable {
  return guard.stdin as Writable; // a pipe, by startTarget's stdio
}
