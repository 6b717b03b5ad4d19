/** Programs at work to which every function's probe comes and goes, again and again: they never notice. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { attach } from '../../src/index.ts';
import { isLong, skipUnless, type FeatureName } from '../harness/features.ts';
import { fixturePath, requireProgram } from '../harness/fixtures.ts';
import { assertClean, calmSnapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact } from './jump-support.ts';
import { inFolder, runPlain } from './real-support.ts';

/** How often probes come and go. */
const ROUNDS = isLong() ? 20 : 2;

/** A program that does the same work for each line that it is sent. */
interface Worker {
  readonly name: string;
  readonly needs: readonly FeatureName[];
  readonly program: () => string;
  readonly args: (folder: string) => readonly string[];
  /** Sent before any work, and the line that answers. */
  readonly first: string;
  readonly ready: string;
  /** What makes it work, and the line that ends what it says then. */
  readonly work: string;
  readonly done: string;
  readonly probes: readonly string[];
}

const QUERY =
  'with recursive n(i) as (select 1 union all select i + 1 from n where i < 3000) ' +
  "select sum(i), max(printf('%05d', i * 7919 % 1009)), count(distinct i % 17) from n where i % 3;";

const WORKERS: readonly Worker[] = [
  {
    name: 'TLS handshakes in python3',
    needs: ['openssl', 'python3-testsuite'],
    program: () => '/usr/bin/python3',
    args: (folder) => [fixturePath('handshake.py'), certificate(folder)],
    first: '2',
    ready: 'done',
    work: '2',
    done: 'done',
    probes: ['*@libssl', '*@libcrypto'],
  },
  {
    name: 'sqlite3',
    needs: ['sqlite3'],
    program: () => requireProgram('sqlite3'),
    args: () => ['-batch', ':memory:'],
    first: `${QUERY} select 'done';`,
    ready: 'done',
    work: `${QUERY} select 'done';`,
    done: 'done',
    probes: ['*@libsqlite3'],
  },
  {
    name: 'zsh',
    needs: ['zsh'],
    program: () => requireProgram('zsh'),
    args: () => ['-f'],
    first:
      'f() { (( $1 < 2 )) && { REPLY=$1; return }; local a; f $(( $1 - 1 )); a=$REPLY; f $(( $1 - 2 )); (( REPLY += a )) }; print done',
    ready: 'done',
    work: 'f 11; print $REPLY ${(j:,:)${(s::)PATH}} $(print in a child); print done',
    done: 'done',
    probes: ['*@zsh', '*@libc.so.6'],
  },
];

for (const worker of WORKERS) {
  test(`${worker.name}: probes of ${worker.probes.join(' ')} come and go`, async (context) => {
    if (skipUnless(context, 'unprivileged-ptrace', ...worker.needs)) return;
    await inFolder(async (folder) => {
      await using target = await startTarget(worker.program(), worker.args(folder));
      target.send(worker.first);
      await target.waitForLine(worker.ready, 60_000);
      const begin = target.lines.length;
      target.send(worker.work);
      await target.waitForLine(worker.done, 60_000);
      const answer = target.lines.slice(begin);
      const before = await calmSnapshot(target.pid);
      const [count, hits] = await duringWork(target, worker);
      assert.ok(hits > 1000, `${hits} hits`);
      assertClean(before, await calmSnapshot(target.pid), { ran: true });
      const said = target.lines.slice(begin + answer.length);
      assert.deepEqual(said, Array.from({ length: count }, () => answer).flat());
      assert.deepEqual(target.errors, []);
    });
  });
}

/** Probes come and go while a program works. @returns how often it has, and all hits */
async function duringWork(target: Target, worker: Worker): Promise<[count: number, hits: number]> {
  let hasEnded = false;
  const comingAndGoing = async (): Promise<number> => {
    let hits = 0;
    try {
      for (let round = 0; round < ROUNDS; round++) hits += await comeAndGo(target.pid, worker);
    } finally {
      hasEnded = true;
    }
    return hits;
  };
  // Both are waited for, the program first: where it has ended, that is the cause of what else fails.
  const [count, hits] = await Promise.allSettled([
    workOn(target, worker, () => hasEnded),
    comingAndGoing(),
  ]);
  if (count.status === 'rejected') throw count.reason;
  if (hits.status === 'rejected') throw hits.reason;
  return [count.value, hits.value];
}

/** Keeps a program at work. @returns how often */
async function workOn(target: Target, worker: Worker, hasEnded: () => boolean): Promise<number> {
  for (let count = 0; ; count++) {
    if (hasEnded()) return count;
    target.send(worker.work);
    await target.waitForLine(worker.done, 60_000);
  }
}

/** One session on a program that works. @returns its hits */
async function comeAndGo(pid: number, { probes }: Worker): Promise<number> {
  await using session = await attach(
    { pids: [pid] },
    { probes: probes.map((definition) => ({ definition, action: 'count' })) },
  );
  for (const { sites, definition } of session.probes) assert.ok(sites.length > 50, definition);
  const summary = await session.stop();
  assertExact(summary);
  return summary.events.reduce((sum, event) => sum + event.hits, 0);
}

/** A certificate and its key, in one file. */
function certificate(folder: string): string {
  const words = 'req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=localhost'.split(' ');
  const name = ['-addext', 'subjectAltName=DNS:localhost'];
  // Key and certificate, both to standard output.
  const { status, out, err } = runPlain(requireProgram('openssl'), [
    ...words,
    ...name,
    '-keyout',
    '-',
  ]);
  assert.equal(status, 0, err);
  const file = join(folder, 'certificate.pem');
  writeFileSync(file, out);
  return file;
}
