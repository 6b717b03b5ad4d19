/**
 * Kills a tracer after each of its system interface calls in turn, and looks each time whether the
 * target lives on unharmed. `src/sys/` kills its own process with SIGKILL right after its k-th call when
 * `TRAPLINE_TEST_KILL_AFTER` is k; a run that ends by itself has fewer than k calls, and ends the sweep.
 */

import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';

import { isLong } from './features.ts';
import { tracedTasks, tracerOf } from './leaks.ts';
import type { Target } from './target.ts';

/** What to sweep over. */
export interface SweepOptions {
  /** The compiled tracer script, a path; it gets the target's pid as its first argument. */
  readonly script: string;
  /** Further arguments. */
  readonly args?: readonly string[];
  /** Starts a target; it lives for `reuse` runs. */
  readonly start: () => Promise<Target>;
  /** Called before each run. */
  readonly prepare?: (target: Target) => void;
  /** Looks whether the target is right after a run; throws when not. `call` is the k. */
  readonly verify: (target: Target, call: number) => Promise<void>;
  /** Every how many calls outside of the long form, which takes each. Default 1. */
  readonly every?: number;
  /** The first k. Default 1. */
  readonly from?: number;
  /** How many runs share a target. Default 1: each has its own. */
  readonly reuse?: number;
  /** Runs at the same time. Default 2. */
  readonly parallel?: number;
  /** Of one run, in milliseconds. Default 30,000. */
  readonly timeout?: number;
}

/** What a sweep did. */
export interface SweepResult {
  /** Runs that were killed on the way. */
  readonly killed: number;
  /** The largest k at which a run was killed. */
  readonly lastCall: number;
}

/** The bound for a tracer that never ends by itself. */
const mostCalls = 100_000;

/**
 * Runs the tracer again and again, killed after its call k = from, from + every, … until a run ends by
 * itself. After each run the target must be alive and untraced, and pass `verify`.
 * @throws Error that names the k of the first failure; Error too when no run was killed at all.
 */
export async function killSweep(options: SweepOptions): Promise<SweepResult> {
  const every = isLong() ? 1 : (options.every ?? 1);
  const state: SweepState = { next: options.from ?? 1, every, killed: 0, lastCall: 0, done: false };
  const lanes = Array.from({ length: options.parallel ?? 2 }, () => lane(options, state));
  // All lanes are waited for, so that none goes on behind the back of a failed test.
  const failed = (await Promise.allSettled(lanes)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  if (state.killed === 0) {
    throw new Error('no run was killed: does src/sys read TRAPLINE_TEST_KILL_AFTER?');
  }
  return { killed: state.killed, lastCall: state.lastCall };
}

interface SweepState {
  next: number;
  readonly every: number;
  killed: number;
  lastCall: number;
  /** A run ended by itself, or failed. */
  done: boolean;
}

async function lane(options: SweepOptions, state: SweepState): Promise<void> {
  try {
    while (!state.done) {
      await using target = await options.start();
      for (let run = 0; run < (options.reuse ?? 1) && !state.done; run++) {
        const call = state.next;
        state.next += state.every;
        if (call > mostCalls) throw new Error(`the tracer goes on after ${mostCalls} calls`);
        await oneRun(options, state, target, call);
      }
    }
  } finally {
    state.done = true;
  }
}

async function oneRun(
  options: SweepOptions,
  state: SweepState,
  target: Target,
  call: number,
): Promise<void> {
  try {
    options.prepare?.(target);
    const killed = await runTracer(options, target, call);
    if (killed) {
      state.killed += 1;
      state.lastCall = Math.max(state.lastCall, call);
    } else {
      state.done = true;
    }
    alive(target);
    await options.verify(target, call);
    alive(target);
  } catch (error) {
    const seen = target.lines.slice(-3).join('\n  ');
    const why = error instanceof Error ? error.message : String(error);
    throw new Error(`killed after call ${call}: ${why}\nthe target's last lines:\n  ${seen}`, {
      cause: error,
    });
  }
}

function alive(target: Target): void {
  if (!target.running || !existsSync(`/proc/${target.pid}/task`)) {
    throw new Error('the target has ended');
  }
  const traced = tracedTasks(target.pid);
  if (traced.length === 0) return;
  const tracers = traced.map((task) => tracerOf(target.pid, task));
  throw new Error(`still traced: ${traced.join(' ')}, by ${[...new Set(tracers)].join(' ')}`);
}

/** @returns whether the run was killed; false when it ended by itself with status 0. */
function runTracer(options: SweepOptions, target: Target, call: number): Promise<boolean> {
  const args = [options.script, String(target.pid), ...(options.args ?? [])];
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, TRAPLINE_TEST_KILL_AFTER: String(call) },
  });
  const errors: string[] = [];
  child.stderr.setEncoding('utf8').on('data', (text: string) => errors.push(text));
  return new Promise((resolve, reject) => {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, options.timeout ?? 30_000);
    child.once('error', reject);
    child.once('close', (status, signal) => {
      clearTimeout(timer);
      if (late) reject(new Error('the tracer hangs'));
      else if (signal === 'SIGKILL') resolve(true);
      else if (status === 0) resolve(false);
      else reject(new Error(`the tracer failed (${signal ?? status}):\n${errors.join('')}`));
    });
  });
}
