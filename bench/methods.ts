/** What a hit costs by each method, beside the plain jump's: one function for each that no cheaper one serves. */

import { pid as brandPid } from '../src/base/brand.ts';
import { ControlBlock } from '../src/engines/jump/block.ts';
import { MemoryReader, readProcessMaps } from '../src/engines/jump/spaces.ts';
import type { ProbedSite, Session } from '../src/index.ts';
import { countCost, RECORDED_CALLS, sessionCost, type SessionBurst } from './bursts.ts';
import { atMost, Rows, type Row } from './rows.ts';
import { compileMethods, MeasuredTarget, type MethodFunction } from './targets.ts';

/** How a function of methods.S has to be probed. */
interface Subject {
  readonly name: string;
  readonly what: MethodFunction;
  readonly method: ProbedSite['method'];
  /** Whether its jump leads to another one, which leads to the stub. */
  readonly isLedOn?: boolean;
}

const PLAIN: Subject = { name: 'jump over one', what: 'method_jump', method: 'jump' };

const OTHERS: readonly Subject[] = [
  { name: 'nop', what: 'method_nop', method: 'nop' },
  { name: 'jump over several', what: 'method_jump_several', method: 'jump' },
  { name: 'short jump', what: 'method_short_jump', method: 'short-jump', isLedOn: true },
  { name: 'pun', what: 'method_pun', method: 'pun' },
  { name: 'pun by a springboard', what: 'method_springboard', method: 'pun', isLedOn: true },
];

/** Of the plain jump's cost. */
const MOST_OF_PLAIN = 1.3;

/** Measures methods in one thread. */
export async function measureMethods(rounds: number): Promise<Row[]> {
  const file = compileMethods();
  await using program = await MeasuredTarget.start(file);
  const records = new Rows('Methods, record of two arguments');
  const counts = new Rows('Methods, count');
  for (let round = 0; round < rounds; round++) {
    await compare(records, (subject) => {
      const probe = `${subject.what}@${file} a=%di:u64 b=%si:u64`;
      const burst = { ...burstOf(program, subject), calls: RECORDED_CALLS, isRecorded: true };
      return sessionCost({ ...burst, probe });
    });
    await compare(counts, (subject) => {
      return countCost({ ...burstOf(program, subject), definition: `${subject.what}@${file}` });
    });
  }
  return [...records.finish(), ...counts.finish()];
}

async function compare(rows: Rows, measure: (subject: Subject) => Promise<number>): Promise<void> {
  const plain = await measure(PLAIN);
  rows.add(PLAIN.name, 'ns', plain);
  for (const subject of OTHERS) {
    const cost = await measure(subject);
    rows.add(subject.name, 'ns', cost);
    rows.add(`… ${subject.name} / ${PLAIN.name}`, '×', cost / plain, atMost(MOST_OF_PLAIN));
  }
}

function burstOf(
  program: MeasuredTarget,
  subject: Subject,
): Pick<SessionBurst, 'program' | 'what' | 'threads'> & Required<Pick<SessionBurst, 'inspect'>> {
  const { what } = subject;
  return { program, what, threads: 1, inspect: (session) => inspect(session, subject) };
}

/** @throws Error if the function is probed in another way than it is to be. */
function inspect(session: Session, { what, method, isLedOn = false }: Subject): void {
  const [site, ...more] = session.probes.flatMap(({ sites }) => sites);
  if (site?.method !== method || more.length > 0) {
    throw new Error(`${what} was to be probed by one ${method}, and is by ${site?.method}`);
  }
  const pid = brandPid(site.pid);
  using reader = new MemoryReader(pid);
  const block = ControlBlock.read(readProcessMaps(pid), reader.read);
  const row = [...block.sites.values()].find(({ address }) => address === site.address);
  if (row === undefined || (row.via !== undefined) !== isLedOn) {
    throw new Error(`the jump of ${what} was ${isLedOn ? '' : 'not '}to lead to another one`);
  }
}
