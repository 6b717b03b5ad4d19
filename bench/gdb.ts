/** gdb's fast tracepoints, for comparison: a jump to a pad that gdbserver's agent writes into the program. */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { findProgram } from '../test/harness/features.ts';
import { startTarget, type Target } from '../test/harness/target.ts';
import { bare, bursts, BURSTS, RECORDED_CALLS, WARM_BURSTS } from './bursts.ts';
import { compileForGdb, MeasuredTarget } from './targets.ts';

/** Where Debian's gdbserver has the agent that makes fast tracepoints. */
const AGENTS = ['/usr/lib/libinproctrace.so', '/usr/lib/x86_64-linux-gnu/libinproctrace.so'];
const PATIENCE_MILLISECONDS = 60_000;

/** A program under gdbserver, with one fast tracepoint that collects both arguments, and its trace running. */
export class GdbTarget implements AsyncDisposable {
  readonly #program: MeasuredTarget;
  readonly #debugger: Debugger;
  #calls = 0;

  private constructor(program: MeasuredTarget, gdb: Debugger) {
    this.#program = program;
    this.#debugger = gdb;
  }

  /**
   * @param condition an expression of gdb
   * @returns undefined where gdb, gdbserver or its agent is not.
   */
  static async start(condition: string | undefined): Promise<GdbTarget | undefined> {
    const server = findProgram('gdbserver');
    const gdb = findProgram('gdb');
    const agent = AGENTS.find((path) => existsSync(path));
    if (server === undefined || gdb === undefined || agent === undefined) return undefined;
    const file = compileForGdb();
    const wrapper = ['--wrapper', 'env', `LD_PRELOAD=${agent}`, '--'];
    const target = await startTarget(server, ['--once', ...wrapper, 'localhost:0', file]);
    try {
      const client = new Debugger(gdb, file, await portOf(target), condition);
      return new GdbTarget(await MeasuredTarget.of(target), client);
    } catch (error) {
      await target[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the tracepoint adds to a call, in nanoseconds. */
  async cost(): Promise<number> {
    const program = this.#program;
    const without = await bare(program, 1);
    this.#calls += (WARM_BURSTS + BURSTS) * RECORDED_CALLS;
    return (await bursts(() => program.run('traced', 1, RECORDED_CALLS))) - without;
  }

  /** Ends the trace. @throws Error unless each call has made a frame, or none where the condition is false. */
  async verify(isTraced: boolean): Promise<void> {
    const frames = await this.#debugger.finish();
    const due = isTraced ? this.#calls : 0;
    if (frames !== due) throw new Error(`gdb has made ${frames} frames of ${due}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#debugger[Symbol.asyncDispose]();
    await this.#program[Symbol.asyncDispose]();
  }
}

async function portOf(target: Target): Promise<string> {
  const deadline = performance.now() + PATIENCE_MILLISECONDS;
  for (;;) {
    const [, port] = /Listening on port (\d+)/.exec(target.errors.join('\n')) ?? [];
    if (port !== undefined) return port;
    if (performance.now() > deadline || !target.running) {
      throw new Error(`gdbserver does not listen: ${target.errors.join('\n')}`);
    }
    await sleep(10);
  }
}

/** The gdb that is connected: tracing ends with it. */
class Debugger implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #folder = mkdtempSync(join(tmpdir(), 'trapline-bench-'));
  #said = '';

  constructor(gdb: string, file: string, port: string, condition: string | undefined) {
    const script = join(this.#folder, 'script');
    writeFileSync(script, scriptOf(port, condition));
    const args = ['-nx', '-q', '-batch', '-x', script, file];
    const child = spawn(gdb, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const note = (text: Buffer): void => {
      this.#said += text.toString();
    };
    child.stdout.on('data', note);
    child.stderr.on('data', note);
    this.#child = child;
  }

  /** Interrupts the program: gdb goes on in its script. @returns the trace's frames */
  async finish(): Promise<number> {
    const ended = once(this.#child, 'close');
    this.#child.kill('SIGINT');
    await ended;
    const match = /\(of (\d+) created total\)|Collected (\d+) trace frame/.exec(this.#said);
    if (match === null) throw new Error(`gdb says nothing of a trace:\n${this.#said}`);
    return Number(match[1] ?? match[2]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    }
    rmSync(this.#folder, { recursive: true });
  }
}

/** The agent is loaded when main() begins; a buffer that is not circular ends the trace when it is full. */
function scriptOf(port: string, condition: string | undefined): string {
  return `set pagination off
set confirm off
target remote localhost:${port}
break main
continue
set circular-trace-buffer on
ftrace *work_traced${condition === undefined ? '' : ` if ${condition}`}
actions
collect $rdi, $rsi
end
tstart
continue
tstatus
`;
}
