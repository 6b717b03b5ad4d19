/** What it costs that a probe is there and nothing happens. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { pid as brandPid } from '../src/base/brand.ts';
import { processorNanoseconds } from '../src/sys/clock.ts';
import { command } from './built.ts';
import { compileLarge, LARGE_FUNCTIONS, MeasuredTarget } from './targets.ts';
import { atMost, Rows, type Row } from './rows.ts';

/** After the beginning, until the compilers of Node are done. */
const SETTLE_MILLISECONDS = 1500;
const WATCH_MILLISECONDS = 3000;
const MOST_ROUNDS = 3;

/** Measures a tracer and a target that wait. */
export async function measureIdle(rounds: number): Promise<Row[]> {
  const file = compileLarge();
  const rows = new Rows('Idle, 2 MB of text');
  for (let round = 0; round < Math.min(rounds, MOST_ROUNDS); round++) {
    await watch(rows, file, 1);
    await watch(rows, file, LARGE_FUNCTIONS);
  }
  return rows.finish();
}

async function watch(rows: Rows, file: string, sites: number): Promise<void> {
  await using program = await MeasuredTarget.start(file);
  const before = residentBytes(program.pid);
  const probe = `${sites === 1 ? 'f0000' : 'f????'}@${file}`;
  const tracer = spawn(process.execPath, [command, 'trace', '-p', String(program.pid), probe], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(tracer, 'exit');
  const { pid } = tracer;
  if (pid === undefined) throw new Error('the command did not start');
  try {
    const lines = createInterface({ input: tracer.stderr });
    await once(lines, 'line'); // "1 probe in …"
    const after = residentBytes(program.pid);
    await sleep(SETTLE_MILLISECONDS);
    const from = processorSeconds(pid);
    await sleep(WATCH_MILLISECONDS);
    const share = ((processorSeconds(pid) - from) / (WATCH_MILLISECONDS / 1000)) * 100;
    const name = sites === 1 ? 'one site' : `${sites.toLocaleString('en')} sites`;
    const mega = 1 << 20;
    rows.add(`${name}: the tracer's share of a processor`, '%', share, atMost(0.5));
    const goal = atMost(150);
    rows.add(`${name}: the tracer's memory`, 'MB', residentBytes(pid) / mega, goal);
    const grown = (after - before) / mega;
    rows.add(`${name}: what the target grew by`, 'MB', grown, sites === 1 ? atMost(2) : undefined);
  } finally {
    tracer.kill('SIGINT');
    await ended;
  }
}

/** VmRSS of a process, in bytes. */
export function residentBytes(pid: number): number {
  const match = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Number(match?.[1]) * 1024;
}

/** What all threads of a process have used. */
export function processorSeconds(pid: number): number {
  const nanoseconds = processorNanoseconds(brandPid(pid));
  if (nanoseconds === undefined) throw new Error('the command ended');
  return Number(nanoseconds) / 1e9;
}
