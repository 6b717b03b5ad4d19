/** Sessions of our own on fixtures: what the tests of the jump engine share. */

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { isExact } from '../../src/events/account.ts';
import type { EventView, Session, Summary, EventSummary } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { assertClean, calmSnapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';

/** The program's own counts, by function. */
export type Counts = Readonly<Record<string, number>>;

/** The object at the end of a fixture's line. */
export function countsOf(line: string): Counts {
  // The fixture's own words: its header says what they are.
  return JSON.parse(line.slice(line.indexOf('{'))) as Counts;
}

/** A number that must be there. */
export function countOf(counts: Counts, name: string): number {
  const count = counts[name];
  assert.ok(count !== undefined, `the fixture does not count ${name}`);
  return count;
}

/** Starts self-check. Without `pace` its threads never sleep. */
export async function startSelfCheck(
  threads: number,
  { paused = true, pace = 0 }: { paused?: boolean; pace?: number } = {},
): Promise<Target> {
  const path = compileFixture({ sources: ['self-check.c'] });
  const target = await startTarget(path, [
    String(threads),
    String(pace),
    ...(paused ? ['paused'] : []),
  ]);
  await target.waitForLine('ready', 60_000);
  return target;
}

/** Lets every thread of self-check make so many rounds. @returns all calls since its start. */
export async function step(target: Target, rounds: number): Promise<Counts> {
  target.send(`step ${rounds}`);
  return countsOf(await target.waitForLine(/^(stepped|bad)/, 120_000));
}

/** What was called between two counts. */
export function difference(before: Counts, after: Counts): Counts {
  return Object.fromEntries(
    Object.entries(after).map(([name, count]) => [name, count - (before[name] ?? 0)]),
  );
}

/** Reads a session to its end in the background. */
export class Reading {
  readonly done: Promise<void>;
  /** Events by name. */
  readonly counts: Map<string, number> = new Map();
  total = 0;

  constructor(session: Session, onEvent: (event: EventView) => void = () => {}) {
    this.done = this.#run(session, onEvent);
    // Whoever awaits `done` gets the error; until then it is not unhandled.
    this.done.catch(() => {});
  }

  count(event: string): number {
    return this.counts.get(event) ?? 0;
  }

  async #run(session: Session, onEvent: (event: EventView) => void): Promise<void> {
    for await (const batch of session.batches()) {
      batch.forEach((event) => {
        this.counts.set(event.event, (this.counts.get(event.event) ?? 0) + 1);
        this.total++;
        onEvent(event);
      });
    }
  }
}

/** The counts of an event, which must be in the summary. */
export function eventOf(summary: Summary, name: string): EventSummary {
  const event = summary.events.find((one) => one.event === name || one.event.endsWith(`:${name}`));
  assert.ok(
    event !== undefined,
    `no ${name} among ${summary.events.map((one) => one.event).join(' ')}`,
  );
  return event;
}

/** Every event's sum is exact, and nothing was damaged or left behind. */
export function assertExact(summary: Summary): void {
  for (const event of summary.events) {
    assert.ok(isExact(event), `not exact: ${JSON.stringify(event)}`);
  }
  assert.equal(summary.loss.corrupt, 0);
  assert.equal(summary.loss.overrun, 0);
  assert.deepEqual(summary.kept, []);
}

/** Runs `work`, then asserts that the target and we are as before, and that the target says `ok`. */
export async function leavingClean<T>(
  target: Target,
  work: () => Promise<T>,
  quit: () => void = () => target.send('quit'),
): Promise<T> {
  const before = await calmSnapshot(target.pid);
  const result = await work();
  assertClean(before, await calmSnapshot(target.pid), { ran: true });
  quit();
  const end = await target.waitForLine(/^(ok|bad)/, 60_000);
  assert.match(end, /^ok/);
  return result;
}

/** Waits until `condition` holds. @throws AssertionError after `timeout` milliseconds. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeout = 60_000,
): Promise<void> {
  const deadline = Date.now() + timeout;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `${what} did not happen within ${timeout} ms`);
    await sleep(2);
  }
}
