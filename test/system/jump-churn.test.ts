import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { attach, type AddedProbe, type ProbeRequest, type Session } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import type { Target } from '../harness/target.ts';
import {
  assertExact,
  countOf,
  countsOf,
  difference,
  eventOf,
  leavingClean,
  Reading,
  startSelfCheck,
  step,
} from './jump-support.ts';

/** What may come and go, in turns: entries, a place in the middle of a leaf, and hot libc functions. */
const CHANGING = [
  'work_step@self-check first=%di:u64',
  'recurse@self-check',
  'red_zone_middle@self-check',
  'bare_target@self-check flags=%flags sp=%sp',
  'text_length@self-check text=+0(%di):string',
  'malloc@libc.so.6 size=%di:u64',
  'free@libc.so.6',
] as const;

/** Everything that could grow with each probe that comes and goes. */
interface Footprint {
  readonly mappings: number;
  readonly targetDescriptors: number;
  readonly ownDescriptors: number;
  readonly ownKilobytes: number;
}

function footprint(target: Target): Footprint {
  const status = readFileSync('/proc/self/status', 'utf8');
  return {
    mappings: readFileSync(`/proc/${target.pid}/maps`, 'utf8').split('\n').filter(isOurs).length,
    targetDescriptors: readdirSync(`/proc/${target.pid}/fd`).length,
    ownDescriptors: readdirSync('/proc/self/fd').length,
    ownKilobytes: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]),
  };
}

function isOurs(line: string): boolean {
  return line.includes('/memfd:trapline-');
}

/** What every round calls often is recorded now and then only: reading that takes a whole processor. */
function isRecorded(definition: string, done: number): boolean {
  const isHot = definition.startsWith('work_step') || definition.startsWith('recurse');
  return done % (isHot ? 55 : 5) === 0;
}

interface Extent {
  readonly changes: number;
  readonly fewest: number;
  readonly milliseconds: number;
}

/**
 * Adds and removes probes until there were `changes` of them, or the time is up and there were
 * `fewest`, however long those take. @returns how many.
 */
async function change(
  session: Session,
  { changes, fewest, milliseconds }: Extent,
  each: (done: number) => void,
): Promise<number> {
  const deadline = Date.now() + milliseconds;
  const inside: AddedProbe[] = [];
  let done = 0;
  while (done < changes && (done < fewest || Date.now() < deadline)) {
    const definition = CHANGING[done % CHANGING.length] ?? CHANGING[0];
    const request: ProbeRequest = {
      definition,
      action: isRecorded(definition, done) ? 'record' : 'count',
    };
    inside.push(await session.add(request));
    // Some overlap on one site, so that lists have several programs.
    if (inside.length > CHANGING.length + 2) {
      const [oldest] = inside.splice(done % inside.length, 1);
      if (oldest !== undefined) await session.remove(oldest);
    }
    each(++done);
  }
  for (const probe of inside) await session.remove(probe);
  return done;
}

test(
  '8 threads in a busy loop while probes come and go',
  { timeout: 1_200_000 },
  async (context) => {
    const extent = {
      changes: 10_000,
      fewest: isLong() ? 10_000 : 200,
      milliseconds: 15_000,
    };
    await using target = await startSelfCheck(8);
    await leavingClean(target, async () => {
      const start = await step(target, 1);
      await using session = await attach(
        { pids: [target.pid] },
        {
          probes: [
            { definition: 'leaf@self-check', action: 'count' },
            'switch_step@self-check first=%di:u64',
          ],
          ringBytes: 1 << 20,
        },
      );
      const events = new Reading(session);
      target.send('run');
      await target.waitForLine('running');
      const footprints: Footprint[] = [];
      const done = await change(session, extent, (count) => {
        if (count % 50 === 0) footprints.push(footprint(target));
      });
      target.send('pause');
      const paused = countsOf(await target.waitForLine(/^(paused|bad)/, 60_000));
      const summary = await session.stop();
      await events.done;
      assertExact(summary);
      const calls = difference(start, paused);
      for (const name of ['leaf', 'switch_step']) {
        assert.equal(eventOf(summary, name).hits, countOf(calls, name), name);
      }
      for (const { event, recorded } of summary.events) {
        assert.equal(events.count(event), recorded, event);
      }
      context.diagnostic(`${done} probes came and went, ${events.total} events`);
      context.diagnostic(footprints.map((one) => one.ownKilobytes).join(' '));
      assertSteady(footprints);
    });
  },
);

/** Compares the second quarter with the last. */
function assertSteady(footprints: readonly Footprint[]): void {
  const early = footprints[footprints.length >> 2];
  const late = footprints.at(-1);
  assert.ok(early !== undefined && late !== undefined);
  assert.equal(late.mappings, early.mappings);
  assert.equal(late.targetDescriptors, early.targetDescriptors);
  assert.equal(late.ownDescriptors, early.ownDescriptors);
  assert.ok(
    late.ownKilobytes < early.ownKilobytes + 50_000,
    `our memory went from ${early.ownKilobytes} to ${late.ownKilobytes} KiB`,
  );
}
