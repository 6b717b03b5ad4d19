/** What a command pays for being followed: what it forks and executes, its threads, its signals; and what following costs idle. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { command } from './built.ts';
import { processorSeconds } from './idle.ts';
import { atMost, Rows, type Row } from './rows.ts';
import { compileFollow } from './targets.ts';

/** What is done, and how often in a round. */
const WORK = { fork: 1000, exec: 200, thread: 2000, signal: 20_000 } as const;
const WAYS = {
  'without a tracer': undefined,
  'probed, `--no-follow`': '--no-follow',
  'probed, `--follow`': '--follow',
} as const;
const SETTLE_MILLISECONDS = 1500;
const WATCH_MILLISECONDS = 3000;

/** Measures commands that are followed, and not. */
export async function measureFollowing(rounds: number): Promise<Row[]> {
  const file = compileFollow();
  const rows = new Rows(
    'Following: one thing that a command does, by a program that does nothing else',
  );
  for (let round = 0; round < rounds; round++) {
    for (const [what, count] of Object.entries(WORK)) {
      for (const [way, option] of Object.entries(WAYS)) {
        rows.add(`${what}, ${way}`, 'µs', measure([file, what, String(count)], file, option));
      }
    }
  }
  const idle = new Rows('Following, idle');
  await watch(idle);
  return [...rows.finish(), ...idle.finish()];
}

function measure(program: readonly string[], file: string, option: string | undefined): number {
  const traced = [command, 'trace', '--count', option ?? '', `work@${file}`, '--', ...program];
  const [name = '', ...words] = option === undefined ? program : [process.execPath, ...traced];
  const { stdout, stderr, status } = spawnSync(name, words, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return Number(stdout);
}

/** A command that sleeps: its tracer waits. */
async function watch(rows: Rows): Promise<void> {
  const words = ['trace', 'usleep@libc.so.6', '--', 'sleep', '600'];
  const tracer = spawn(process.execPath, [command, ...words], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(tracer, 'exit');
  const { pid } = tracer;
  if (pid === undefined) throw new Error('the command did not start');
  try {
    await once(createInterface({ input: tracer.stderr }), 'line'); // "1 probe in …"
    await sleep(SETTLE_MILLISECONDS);
    const from = processorSeconds(pid);
    await sleep(WATCH_MILLISECONDS);
    const share = ((processorSeconds(pid) - from) / (WATCH_MILLISECONDS / 1000)) * 100;
    rows.add("the tracer's share of a processor", '%', share, atMost(0.5));
  } finally {
    tracer.kill('SIGTERM');
    await ended;
  }
}
