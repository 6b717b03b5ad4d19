/** LTTng-UST, for comparison: a tracepoint that is compiled into the program. All is taken out again. */

import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { findProgram } from '../test/harness/features.ts';
import { bare, bursts, RECORDED_CALLS } from './bursts.ts';
import { compileForLttng, MeasuredTarget } from './targets.ts';

const EVENT = 'trapline_bench:work';
const PATIENCE_MILLISECONDS = 10_000;

/** A program with a tracepoint, and the daemon that it registers with. */
export class LttngProgram implements AsyncDisposable {
  readonly #file: string;
  readonly #daemon: SessionDaemon;

  private constructor(file: string, daemon: SessionDaemon) {
    this.#file = file;
    this.#daemon = daemon;
  }

  /** @returns undefined where LTTng's tools or headers are not. */
  static async prepare(): Promise<LttngProgram | undefined> {
    const file = findProgram('lttng') === undefined ? undefined : compileForLttng();
    return file === undefined ? undefined : new LttngProgram(file, await SessionDaemon.start());
  }

  /**
   * What the tracepoint adds to a call while a session takes it, in nanoseconds, in a new process each time. The
   * session keeps its events in memory (`--snapshot`), so none is dropped.
   * @param filter as `lttng enable-event` has it
   */
  async cost(filter?: string): Promise<number> {
    const daemon = this.#daemon;
    // The library registers the program before main().
    await using program = await MeasuredTarget.start(this.#file, { LTTNG_HOME: daemon.home });
    const known = daemon.command(['list', '--userspace']);
    if (!known.includes(EVENT)) throw new Error(`LTTng does not know the program: ${known}`);
    const without = await bare(program, 1);
    const session = `trapline-bench-${process.pid}`;
    daemon.command(['create', session, '--snapshot', '--output', daemon.home]);
    try {
      const how = filter === undefined ? [] : ['--filter', filter];
      daemon.command(['enable-event', '--userspace', '--session', session, EVENT, ...how]);
      daemon.command(['start', session]);
      return (await bursts(() => program.run('traced', 1, RECORDED_CALLS))) - without;
    } finally {
      daemon.command(['destroy', session]);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#daemon[Symbol.asyncDispose]();
  }
}

/** `lttng-sessiond`: the one that runs, or one of ours for as long as we need it. */
class SessionDaemon implements AsyncDisposable {
  /** Where LTTng keeps what is a user's own. */
  readonly home: string = mkdtempSync(join(tmpdir(), 'trapline-bench-'));
  #child: ChildProcess | undefined;

  static async start(): Promise<SessionDaemon> {
    const daemon = new SessionDaemon();
    if (daemon.#answers()) return daemon;
    const args = ['--pdeathsig', 'TERM', 'lttng-sessiond', '--no-kernel'];
    daemon.#child = spawn('setpriv', args, { stdio: 'ignore', env: daemon.#environment() });
    const deadline = performance.now() + PATIENCE_MILLISECONDS;
    while (!daemon.#answers()) {
      if (performance.now() > deadline) {
        await daemon[Symbol.asyncDispose]();
        throw new Error('lttng-sessiond does not answer');
      }
      await sleep(50);
    }
    return daemon;
  }

  /** @returns what `lttng` says. @throws Error when it refuses. */
  command(args: readonly string[]): string {
    const { status, stdout, stderr } = this.#run(args);
    if (status === 0) return stdout;
    throw new Error(`lttng ${args.join(' ')}: ${stderr}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    }
    rmSync(this.home, { recursive: true });
  }

  #answers(): boolean {
    return this.#run(['list']).status === 0;
  }

  #run(args: readonly string[]): { status: number | null; stdout: string; stderr: string } {
    return spawnSync('lttng', ['--no-sessiond', ...args], {
      encoding: 'utf8',
      env: this.#environment(),
    });
  }

  #environment(): NodeJS.ProcessEnv {
    return { ...process.env, LTTNG_HOME: this.home };
  }
}
