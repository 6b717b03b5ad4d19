/** `status`: probes, their consumers, and what each place has seen, of several sessions. */

import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { test } from 'node:test';

import { attach, status, type HeldSession, type ProcessStatus } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { selfCheck } from './cli-support.ts';
import {
  countOf,
  difference,
  eventOf,
  leavingClean,
  startSelfCheck,
  step,
  until,
} from './jump-support.ts';
import { startSession } from './kill-support.ts';

async function held(pid: number): Promise<ProcessStatus> {
  const [found] = await status([pid]);
  return found ?? assert.fail('the process is there');
}

/** The programs of each place, by their sessions' definitions. */
function hitsBy(found: ProcessStatus): Record<string, number | undefined> {
  const owners = new Map(found.sessions.map(({ tracer, owner }) => [tracer, owner]));
  const programs = found.sites.flatMap(({ name, programs: some }) =>
    some.map(({ tracer, probe, hits }) => {
      const known = owners.get(tracer)?.probes.find(({ id }) => id === probe);
      return [`${name}: ${known?.definition} ${known?.action}`, hits] as const;
    }),
  );
  return Object.fromEntries(programs);
}

function probesOf(session: HeldSession | undefined): unknown {
  return session?.owner?.probes.map(({ definition, listing, filter }) => [
    definition,
    listing,
    filter,
  ]);
}

test('probes, consumers, hits and costs of two sessions, and whose they are', async () => {
  const path = selfCheck();
  const group = `probe_${basename(path).replaceAll(/\W+/g, '_')}`;
  await using target = await startSelfCheck(2);
  await leavingClean(target, async () => {
    await using one = await attach(
      { pids: [target.pid] },
      {
        probes: [
          { definition: `work_step@${path} a=%di:s64`, filter: ['a < 0', 'common_pid != 1'] },
          { definition: `leaf@${path}`, action: 'count' },
        ],
      },
    );
    await using two = await attach(
      { pids: [target.pid] },
      { probes: [`work_step@${path} %ax`, { definition: `work_step@${path}`, action: 'count' }] },
    );
    const before = await step(target, 1);
    const counts = difference(before, await step(target, 40));
    await until('both sessions tell of themselves, with what they cost', async () => {
      const { sessions } = await held(target.pid);
      const probes = sessions.flatMap(({ owner }) => owner?.probes ?? []);
      return probes.length === 4 && probes.every((probe) => probe.costNanoseconds !== undefined);
    });
    const found = await held(target.pid);
    assert.deepEqual(found.sessions.map(probesOf), [
      [
        [
          `work_step@${path} a=%di:s64`,
          `p:${group}/work_step work_step@${path} a=%di:s64`,
          '(a < 0) && (common_pid != 1)',
        ],
        [`leaf@${path}`, `p:${group}/leaf leaf@${path}`, undefined],
      ],
      [
        [`work_step@${path} %ax`, `p:${group}/work_step work_step@${path} arg1=%ax`, undefined],
        // What its event is called, since the other one has the name.
        [`work_step@${path}`, `p:${group}/work_step_1 work_step@${path}`, undefined],
      ],
    ]);
    assert.deepEqual(
      two.probes.map(({ listing, sites }) => [listing.split(' ')[0], sites[0]?.event]),
      ['work_step', 'work_step_1'].map((name) => [`p:${group}/${name}`, `${group}:${name}`]),
    );
    for (const { alive, owner } of found.sessions) {
      assert.ok(alive);
      assert.equal(owner?.pid, process.pid);
      assert.match(owner.command, /status\.test/);
    }
    const [first, second] = await Promise.all([one.summary(), two.summary()]);
    const worked = eventOf(second, 'work_step_1').hits;
    assert.ok(worked >= countOf(counts, 'work_step'));
    assert.deepEqual(hitsBy(found), {
      [`work_step: work_step@${path} a=%di:s64 record`]: eventOf(first, 'work_step').hits,
      [`leaf: leaf@${path} count`]: eventOf(first, 'leaf').hits,
      [`work_step: work_step@${path} %ax record`]: eventOf(second, 'work_step').hits,
      [`work_step: work_step@${path} count`]: worked,
    });
    await one.stop();
    const rest = await held(target.pid);
    assert.deepEqual(hitsBy(rest), {
      [`work_step: work_step@${path} %ax record`]: worked,
      [`work_step: work_step@${path} count`]: worked,
    });
    await two.stop();
  });
});

test('what a dead session has counted is still told, and nobody owns it', async () => {
  const program = compileFixture({ sources: ['self-check.c'] });
  await using target = await startSelfCheck(1);
  await using session = await startSession(target, `work_step@${program}`);
  await step(target, 10);
  const [before] = (await held(target.pid)).sites;
  session.kill('SIGKILL');
  await session.waitForEnd(30_000);
  const { sessions, sites } = await held(target.pid);
  assert.deepEqual(
    sessions.map(({ alive, owner }) => [alive, owner]),
    [[false, undefined]],
  );
  assert.ok((sites[0]?.programs[0]?.hits ?? 0) > 0);
  assert.deepEqual(sites, [before]);
});
