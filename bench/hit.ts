/** What a hit costs: the call with the probe less the call without, on the target's own clock. */

import { setTimeout as sleep } from 'node:timers/promises';

import { attach, listFunctions, type Session } from '../src/index.ts';
import { KernelProbes } from './kernel.ts';
import { compileTarget, MeasuredTarget } from './programs.ts';
import { atLeast, atMost, median, Rows, type Row } from './rows.ts';

/** Calls in a burst that is recorded: less than a ring of 1 MiB holds, 32,768. */
const RECORDED_CALLS = 30_000;
/** One lap of the ring, so that its pages are there. */
const WARM_BURSTS = 2;
const BURSTS = 11;
const COUNTED_CALLS = 500_000;
const EMULATED_CALLS = 2000;
const STEPPED_CALLS = 300;
/** A perf record takes half a second to come and go. */
const MOST_PERF_ROUNDS = 3;
const PATIENCE_MILLISECONDS = 10_000;
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
  using kernel = KernelProbes.define([
    { event: 'push', file, offset: BigInt(work.offset) },
    { event: 'step', file, offset: BigInt(work.offset) + STEPPED_OFFSET },
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

/** The middle of some bursts, each run by `burst`. */
async function bursts(burst: () => Promise<number>): Promise<number> {
  for (let warm = 0; warm < WARM_BURSTS; warm++) await burst();
  const figures: number[] = [];
  for (let at = 0; at < BURSTS; at++) figures.push(await burst());
  return median(figures);
}

function bare(program: MeasuredTarget, threads: number, calls = COUNTED_CALLS): Promise<number> {
  return bursts(() => program.run('work', threads, calls));
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

/** Bursts that a ring holds, each read to its last event before the next one. */
async function ourRecord({ program, file }: Subject, threads: number): Promise<number> {
  const without = await bare(program, threads, RECORDED_CALLS);
  await using session = await attach(
    { pids: [program.pid] },
    { probes: [`work@${file} a=%di:u64 b=%si:u64`] },
  );
  const reader = new CountingReader(session);
  let due = 0;
  const cost = await bursts(async () => {
    const nanoseconds = await program.run('work', threads, RECORDED_CALLS);
    due += threads * RECORDED_CALLS;
    await reader.waitFor(due);
    return nanoseconds;
  });
  const summary = await session.stop();
  await reader.done;
  const [event] = summary.events;
  if (event?.recorded !== due || event.hits !== due || reader.count !== due) {
    throw new Error(`${due} hits were to be recorded, ${event?.recorded} of ${event?.hits} were`);
  }
  return cost - without;
}

async function ourCount({ program, file }: Subject, threads: number): Promise<number> {
  const without = await bare(program, threads);
  await using session = await attach(
    { pids: [program.pid] },
    { probes: [{ definition: `work@${file}`, action: 'count' }] },
  );
  const cost = await bursts(() => program.run('work', threads, COUNTED_CALLS));
  const { events } = await session.stop();
  const due = (BURSTS + WARM_BURSTS) * threads * COUNTED_CALLS;
  if (events[0]?.hits !== due) throw new Error(`${due} hits, ${events[0]?.hits} were counted`);
  return cost - without;
}

/** Reads a session's events as fast as they come. */
class CountingReader {
  count = 0;
  readonly done: Promise<void>;

  constructor(session: Session) {
    this.done = this.#read(session);
  }

  /** @throws Error when they don't come. */
  async waitFor(count: number): Promise<void> {
    const deadline = performance.now() + PATIENCE_MILLISECONDS;
    while (this.count < count) {
      if (performance.now() > deadline) throw new Error(`${this.count} of ${count} events came`);
      await sleep(1);
    }
  }

  async #read(session: Session): Promise<void> {
    for await (const batch of session.batches()) this.count += batch.count;
  }
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
