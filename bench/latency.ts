/** How long it takes to come and go, and how long the target stands still. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { startTarget, type Target } from '../test/harness/target.ts';
import { command, library } from './built.ts';
import { compileLarge, compileTarget, LARGE_FUNCTIONS, MeasuredTarget } from './targets.ts';
import { atMost, Rows, type Goal, type Row } from './rows.ts';

/** What takes seconds is measured less often. */
const MOST_LONG_ROUNDS = 3;
const PATIENCE_MILLISECONDS = 30_000;

/** Measures first events, stops, attaching and leaving. */
export async function measureLatency(rounds: number): Promise<Row[]> {
  const small = compileTarget();
  const large = compileLarge();
  const first = new Rows('From the command to the first event');
  const stops = new Rows('Attaching and leaving, 2 MB of text');
  const script = 'setInterval(() => {}, 1)';
  await using node = await startTarget(process.execPath, ['-e', script]);
  for (let round = 0; round < rounds; round++) {
    first.add('`node -e 0`, start to end, for comparison', 'ms', await timeNode());
    const goal = atMost(250);
    await firstEvent(first, 'a small program that runs', small, 'work', goal);
    await firstEvent(first, 'a program of 2 MB of text that runs', large, 'f0000', goal);
    const list = await timeFirstEvent(['malloc@libc.so.6 size=%di:u64', '--', '/bin/ls', '/']);
    first.add('`malloc` in `ls`, started by us (1.4 MB of libc)', 'ms', list, goal);
    for (const count of [1, 100]) await comeAndGo(stops, large, count, true);
    await comeAndGo(stops, large, 1, false);
    if (round >= MOST_LONG_ROUNDS) continue;
    await nodeEvent(first, node);
    await comeAndGo(stops, large, LARGE_FUNCTIONS, true);
  }
  return [...first.finish(), ...stops.finish()];
}

/** The target calls the function every 50 us, all the time. */
async function firstEvent(
  rows: Rows,
  name: string,
  file: string,
  func: string,
  goal: Goal,
): Promise<void> {
  await using program = await MeasuredTarget.start(file);
  program.target.send(`tick ${PATIENCE_MILLISECONDS}`);
  const probe = `${func}@${file} a=%di:u64`;
  rows.add(name, 'ms', await timeFirstEvent(['-p', String(program.pid), probe]), goal);
}

async function nodeEvent(rows: Rows, node: Target): Promise<void> {
  const probe = `uv__io_poll@${process.execPath}`;
  const time = await timeFirstEvent(['-p', String(node.pid), probe]);
  rows.add('node, a program of 28 MB of text, that runs', 'ms', time);
}

/** Milliseconds from starting the command to its first line. @throws Error when none comes. */
async function timeFirstEvent(parameters: readonly string[]): Promise<number> {
  const began = performance.now();
  const child = spawn(
    process.execPath,
    [command, 'trace', '-q', '--format', 'json', '-n', '1', ...parameters],
    { stdio: ['ignore', 'pipe', 'pipe'], timeout: PATIENCE_MILLISECONDS },
  );
  let time: number | undefined;
  let errors = '';
  child.stdout.once('data', () => (time = performance.now() - began));
  child.stderr.on('data', (bytes: Buffer) => (errors += bytes.toString()));
  await once(child, 'close');
  if (time === undefined) throw new Error(`no event came of ${parameters.join(' ')}: ${errors}`);
  return time;
}

async function timeNode(): Promise<number> {
  const began = performance.now();
  await once(spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }), 'exit');
  return performance.now() - began;
}

/** Probes so many functions of a fresh process, and takes them out again: in a new thread, or that of the last time. */
async function comeAndGo(rows: Rows, file: string, count: number, isNew: boolean): Promise<void> {
  await using program = await MeasuredTarget.start(file);
  const glob = count === 1 ? 'f0000' : count === 100 ? 'f00??' : 'f????';
  const { attach, endIdle } = await library();
  if (isNew) await endIdle();
  const began = performance.now();
  await using session = await attach({ pids: [program.pid] }, { probes: [`${glob}@${file}`] });
  const attached = performance.now();
  const sites = session.probes[0]?.sites.length;
  if (sites !== count) throw new Error(`${sites} places were probed, not ${count}`);
  const before = (await session.summary()).bill;
  const leaving = performance.now();
  const after = await session.stop();
  const left = performance.now();
  if (after.kept.length > 0) throw new Error(`something stayed: ${after.kept.join(', ')}`);
  const sitesName = count === 1 ? 'one site' : `${count.toLocaleString('en')} sites`;
  const name = isNew ? sitesName : `${sitesName}, in the thread of the last session`;
  const goal = count === 1 ? atMost(5) : undefined;
  rows.add(`${name}: attach`, 'ms', attached - began);
  rows.add(`${name}: target stopped meanwhile`, 'ms', before.stoppedNanoseconds / 1e6, goal);
  rows.add(`${name}: leave, with the summary`, 'ms', left - leaving);
  const stopped = (after.bill.stoppedNanoseconds - before.stoppedNanoseconds) / 1e6;
  rows.add(`${name}: target stopped meanwhile, leaving`, 'ms', stopped, goal);
}
