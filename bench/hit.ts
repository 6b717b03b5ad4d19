/** What a hit costs: the call with the probe less the call without, on the target's own clock. */

import { listFunctions } from '../src/index.ts';
import {
  bare,
  bursts,
  countCost,
  COUNTED_CALLS,
  EMULATED_CALLS,
  RECORDED_CALLS,
  sessionCost,
} from './bursts.ts';
import { KernelProbes } from './kernel.ts';
import { compileTarget, MeasuredTarget } from './targets.ts';
import { atLeast, atMost, Rows, type Row } from './rows.ts';

const STEPPED_CALLS = 300;
/** A perf record takes half a second to come and go. */
const MOST_PERF_ROUNDS = 3;
/** The second instruction of work(), behind the one byte of `push %rbp`: `mov %rsp,%rbp`. */
const STEPPED_OFFSET = 1n;

interface Subject {
  readonly program: MeasuredTarget;
  readonly file: string;
  readonly kernel: KernelProbes | undefined;
}

type Figures = Partial<Record<'hand' | 'record' | 'handCount' | 'count' | 'push' | 'step', number>>;

/** Measures hits in 1, 2 and 4 threads. */
export async function measureHits(rounds: number): Promise<Row[]> {
  const file = compileTarget();
  await using program = await MeasuredTarget.start(file);
  const [work] = (await listFunctions(file, { glob: 'work' })).functions;
  if (work === undefined) throw new Error(`${file} has no function work`);
  const offset = BigInt(work.offset);
  using kernel = KernelProbes.define([
    { event: 'push', file, offset, arguments: 'a=%di b=%si' },
    { event: 'step', file, offset: offset + STEPPED_OFFSET, arguments: 'a=%di b=%si' },
  ]);
  const rows: Row[] = [];
  const threads = [1, 2, 4].map((count) => ({
    count,
    rows: new Rows(`Hit, ${count === 1 ? 'one thread' : `${count} threads`}`),
  }));
  for (let round = 0; round < rounds; round++) {
    for (const { count, rows: figures } of threads) {
      await measureRound({ program, file, kernel }, count, figures, round < MOST_PERF_ROUNDS);
    }
  }
  for (const each of threads) rows.push(...each.rows.finish());
  return rows;
}

async function measureRound(
  subject: Subject,
  threads: number,
  rows: Rows,
  withPerf: boolean,
): Promise<void> {
  const { program } = subject;
  rows.add('a call without a probe', 'ns', await bare(program, threads));
  const figures: Figures = {
    hand: await byHand(program, 'recorded', threads),
    record: await ourRecord(subject, threads),
    handCount: await byHand(program, 'counted', threads),
    count: await ourCount(subject, threads),
    ...(await kernelProbe(subject, 'push', threads, EMULATED_CALLS)),
    ...(await kernelProbe(subject, 'step', threads, STEPPED_CALLS)),
  };
  addFigures(figures, rows);
  if (withPerf) await measurePerf(subject, threads, rows);
}

function addFigures({ hand, record, handCount, count, push, step }: Figures, rows: Rows): void {
  const add = (name: string, value: number | undefined): void => {
    if (value !== undefined) rows.add(name, 'ns', value);
  };
  add('record of two arguments, by hand in C', hand);
  add('record of two arguments, Trapline', record);
  if (record !== undefined && hand !== undefined) {
    rows.add('… Trapline / by hand', '×', record / hand, atMost(1.2));
  }
  add('count, by hand in C', handCount);
  if (count !== undefined) rows.add('count, Trapline', 'ns', count, atMost(2));
  add('kernel uprobe, `push %rbp` emulated', push);
  if (push !== undefined && record !== undefined) {
    rows.add('… kernel emulated / Trapline record', '×', push / record, atLeast(60));
  }
  add('kernel uprobe, `mov %rsp,%rbp` single-stepped', step);
  if (step !== undefined && record !== undefined) {
    rows.add('… kernel single-stepped / Trapline record', '×', step / record);
  }
}

async function byHand(
  program: MeasuredTarget,
  what: 'recorded' | 'counted',
  threads: number,
): Promise<number> {
  const calls = what === 'recorded' ? RECORDED_CALLS : COUNTED_CALLS;
  const without = await bare(program, threads, calls);
  return (await bursts(() => program.run(what, threads, calls))) - without;
}

function ourRecord({ program, file }: Subject, threads: number): Promise<number> {
  return sessionCost({
    program,
    what: 'work',
    threads,
    calls: RECORDED_CALLS,
    probe: `work@${file} a=%di:u64 b=%si:u64`,
    isRecorded: true,
  });
}

function ourCount({ program, file }: Subject, threads: number): Promise<number> {
  return countCost({ program, what: 'work', threads, definition: `work@${file}` });
}

async function kernelProbe(
  { program, kernel }: Subject,
  event: 'push' | 'step',
  threads: number,
  calls: number,
): Promise<Figures> {
  if (kernel === undefined) return {};
  const without = await bare(program, threads);
  kernel.enable(event);
  try {
    return { [event]: (await bursts(() => program.run('work', threads, calls))) - without };
  } finally {
    kernel.disable(event);
  }
}

async function measurePerf(
  { program, kernel }: Subject,
  threads: number,
  rows: Rows,
): Promise<void> {
  const without = await bare(program, threads);
  await using perf = await kernel?.perf('push', program.pid);
  if (perf === undefined) return;
  const cost = await bursts(() => program.run('work', threads, EMULATED_CALLS));
  rows.add('perf record, `push %rbp` emulated', 'ns', cost - without);
}
