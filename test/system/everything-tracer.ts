/**
 * A session of its own on a command, whose output is nobody's but the command's. Arguments: a file with the
 * {@link Job} in JSON, and one where the {@link Traced} is written.
 */

import { readFileSync, writeFileSync } from 'node:fs';

import { spawn, TraplineError, type Session, type SpawnOptions } from '../../src/index.ts';
import { assertExact } from './jump-support.ts';

/** What is to be started, with which probes. */
export interface Job extends SpawnOptions {
  readonly command: readonly string[];
  /** Whether events are read only when the command has ended: rings that are full stay so. */
  readonly readsLate?: boolean;
}

/** A place that was probed, and its counts. */
export interface TracedPlace {
  readonly name: string;
  readonly offset: number;
  readonly hits: number;
  readonly recorded: number;
  /** For a full ring: the only reason that is none of a defect. */
  readonly missed: number;
}

/** What became of a {@link Job}; every sum is exact. */
export interface Traced {
  readonly places: readonly TracedPlace[];
  readonly refused: readonly { readonly name: string; readonly reason: string }[];
  /**
   * Of these, the definitions that one process refused: what it has no memory for is left out in the next, whose heap
   * lies elsewhere and refuses others.
   */
  readonly refusedAtOnce: number;
  /** Events that were delivered. */
  readonly events: number;
}

const [, , jobPath = '', resultPath = ''] = process.argv;
// As Stage.trace has written it.
const { command, readsLate = false, ...options } = JSON.parse(readFileSync(jobPath, 'utf8')) as Job;
const notPlaced: { name: string; reason: string }[] = [];
let refusedAtOnce = 0;
await using session = await begin();
const { probes } = session;
if (readsLate) await session.ended;
let events = 0;
for await (const batch of session.batches()) events += batch.count;
const [end] = await session.ended;
const summary = await session.stop();
assertExact(summary);
const accounts = new Map(summary.events.map((account) => [account.event, account]));
const places = probes
  .flatMap(({ sites }) => sites)
  .map(({ name, event, offset }): TracedPlace => {
    const account = accounts.get(event);
    if (account === undefined) throw new Error(`no counts of ${event}`);
    const { hits, recorded, missed } = account;
    return { name, offset, hits, recorded, missed: missed.ringFull };
  });
const refused = [...notPlaced, ...probes.flatMap((probe) => probe.refused)].map(
  ({ name, reason }) => ({ name, reason }),
);
writeFileSync(
  resultPath,
  JSON.stringify({ places, refused, refusedAtOnce, events } satisfies Traced),
);
// As a shell says it; signals are not expected and their names no numbers.
process.exitCode = end?.status?.code ?? 128;

/** Begins without the definitions that no method serves in this process: such a session does not begin. */
async function begin(): Promise<Session> {
  const left = [...(options.probes ?? [])];
  for (;;) {
    try {
      return await spawn(command, { ...options, probes: left });
    } catch (error) {
      if (!(error instanceof TraplineError) || error.code !== 'refused') throw error;
      const lines = error.render().split('\n');
      const named = left.filter((probe) =>
        lines.some((line) => line.trim().startsWith(`${textOf(probe)}:`)),
      );
      if (named.length === 0) throw error;
      // Not all of them are named.
      const [, count = '1'] = /: (\d+) of \d+ probes can't be made/.exec(error.message) ?? [];
      if (notPlaced.length === 0) refusedAtOnce = Number(count);
      for (const probe of named) {
        notPlaced.push({ name: textOf(probe), reason: error.render() });
        left.splice(left.indexOf(probe), 1);
      }
    }
  }
}

function textOf(probe: string | { readonly definition: string }): string {
  return typeof probe === 'string' ? probe : probe.definition;
}
