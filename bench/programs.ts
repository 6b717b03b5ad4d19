/** What fetching and filtering cost at a hit: ours, the kernel's, LTTng-UST's, gdb's fast tracepoints'. */

import { listFunctions } from '../src/index.ts';
import {
  bare,
  bursts,
  COUNTED_CALLS,
  EMULATED_CALLS,
  RECORDED_CALLS,
  sessionCost,
} from './bursts.ts';
import { GdbTarget } from './gdb.ts';
import { KernelProbes } from './kernel.ts';
import { LttngProgram } from './lttng.ts';
import { atMost, Rows, type Row } from './rows.ts';
import { compileTarget, MeasuredTarget, type MeasuredFunction } from './targets.ts';

/** Calls in a burst that reads memory by a system call; their records fit a ring of 1 MiB. */
const READING_CALLS = 2000;

/** One program, given to each tool that can have it. */
interface Subject {
  readonly name: string;
  /** The event's name in the kernel. */
  readonly event: string;
  readonly what: MeasuredFunction;
  /** In the kernel's language. */
  readonly arguments: string;
  readonly filter?: string;
  /** The filter refuses all. */
  readonly isRefused?: true;
  /** In a burst of ours. */
  readonly calls: number;
  /** What LTTng and gdb have too; gdb's condition. */
  readonly peers?: { readonly condition?: string };
}

const TWO = 'a=%di:u64 b=%si:u64';

const ALL_REGISTERS = '%ax %bx %cx %dx %si %di %bp %sp %r8 %r9 %r10 %r11 %r12 %r13 %r14 %r15';

/** gdb's words for the filters. */
const FALSE_CONDITION = '$rsi == 8';
const TRUE_CONDITION = '$rsi == 7';

/** The second argument of work() is 7, or a pointer to `subject` of target.c. */
const SUBJECTS: readonly Subject[] = [
  {
    name: 'record of two arguments',
    event: 'two',
    what: 'work',
    arguments: TWO,
    calls: RECORDED_CALLS,
    peers: {},
  },
  {
    name: 'false filter',
    event: 'refused',
    what: 'work',
    arguments: TWO,
    filter: 'b == 8',
    isRefused: true,
    calls: COUNTED_CALLS,
    peers: { condition: FALSE_CONDITION },
  },
  {
    name: 'true filter',
    event: 'passed',
    what: 'work',
    arguments: TWO,
    filter: 'b == 7',
    calls: RECORDED_CALLS,
    peers: { condition: TRUE_CONDITION },
  },
  {
    name: 'one dereference',
    event: 'dereference',
    what: 'pointed',
    arguments: 'a=+0(%si):u64',
    calls: READING_CALLS,
  },
  {
    name: 'four dereferences',
    event: 'dereferences',
    what: 'pointed',
    arguments: 'a=+0(%si):u64 b=+64(%si):u64 c=+128(%si):u64 d=+192(%si):u64',
    calls: READING_CALLS,
  },
  {
    name: 'string of 8 bytes',
    event: 'eight',
    what: 'pointed',
    arguments: 'text=+256(%si):string',
    calls: READING_CALLS,
  },
  {
    name: 'string of 200 bytes',
    event: 'two_hundred',
    what: 'pointed',
    arguments: 'text=+272(%si):string',
    calls: READING_CALLS,
  },
  {
    name: '16 arguments',
    event: 'sixteen',
    what: 'work',
    arguments: ALL_REGISTERS,
    // A record takes 144 bytes.
    calls: 7000,
  },
];

/** The programs that are probed, each by its tool. */
interface Tools {
  readonly file: string;
  readonly program: MeasuredTarget;
  readonly kernel: KernelProbes | undefined;
  readonly lttng: LttngProgram | undefined;
  /** By their conditions. */
  readonly gdb: ReadonlyMap<string | undefined, GdbTarget | undefined>;
}

/** Measures programs in one thread. */
export async function measurePrograms(rounds: number): Promise<Row[]> {
  const file = compileTarget();
  const [work] = (await listFunctions(file, { glob: 'work' })).functions;
  if (work === undefined) throw new Error(`${file} has no function work`);
  const offset = BigInt(work.offset);
  await using program = await MeasuredTarget.start(file);
  using kernel = KernelProbes.define(SUBJECTS.map((subject) => ({ ...subject, file, offset })));
  await using lttng = await LttngProgram.prepare();
  await using always = await GdbTarget.start(undefined);
  await using never = await GdbTarget.start(FALSE_CONDITION);
  await using passing = await GdbTarget.start(TRUE_CONDITION);
  const gdb = new Map([
    [undefined, always],
    [FALSE_CONDITION, never],
    [TRUE_CONDITION, passing],
  ]);
  const tools = { file, program, kernel, lttng, gdb };
  const rows = new Rows('Programs, one thread');
  for (let round = 0; round < rounds; round++) {
    rows.add('a call without a probe', 'ns', await bare(program, 1));
    for (const subject of SUBJECTS) await measureRound(tools, subject, rows);
  }
  await always?.verify(true);
  await never?.verify(false);
  await passing?.verify(true);
  return rows.finish();
}

async function measureRound(tools: Tools, subject: Subject, rows: Rows): Promise<void> {
  const { name, isRefused, peers } = subject;
  const goal = isRefused === true ? atMost(2) : undefined;
  rows.add(`${name}, Trapline`, 'ns', await ourCost(tools, subject), goal);
  const others = {
    'kernel uprobe': await kernelCost(tools, subject),
    'LTTng-UST': peers && (await tools.lttng?.cost(subject.filter)),
    'gdb fast tracepoint': peers && (await tools.gdb.get(peers.condition)?.cost()),
  };
  for (const [tool, cost] of Object.entries(others)) {
    if (cost !== undefined) rows.add(`${name}, ${tool}`, 'ns', cost);
  }
}

function ourCost({ program, file }: Tools, subject: Subject): Promise<number> {
  const { what, calls, filter, isRefused, arguments: fetched } = subject;
  const condition = filter === undefined ? '' : ` if ${filter}`;
  const probe = `work@${file} ${fetched}${condition}`;
  return sessionCost({ program, what, threads: 1, calls, probe, isRecorded: isRefused !== true });
}

async function kernelCost(
  { program, kernel }: Tools,
  { event, what }: Subject,
): Promise<number | undefined> {
  if (kernel === undefined) return undefined;
  const without = await bare(program, 1);
  kernel.enable(event);
  try {
    return (await bursts(() => program.run(what, 1, EMULATED_CALLS))) - without;
  } finally {
    kernel.disable(event);
  }
}
