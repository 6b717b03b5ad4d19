/** Task filters under following: they are asked when a program begins, and of a child when they could tell it from its parent. */

import assert from 'node:assert/strict';
import { basename } from 'node:path';
import { test } from 'node:test';

import {
  attach,
  spawn,
  type ProcessFacts,
  type Session,
  type TaskFilter,
} from '../../src/index.ts';
import { withholdsRights } from '../../src/process/rights.ts';
import { startTarget } from '../harness/target.ts';
import { countFollowed, EVENT, followedAlone, followedProgram } from './follow-support.ts';
import { assertExact, eventOf } from './jump-support.ts';
import { assertNothingHeld } from './kill-support.ts';
import { countOf } from './real-support.ts';

const { program, probe } = followedProgram();

async function runFollowed(
  command: readonly string[],
  tasks: TaskFilter,
  more: readonly string[] = [],
): Promise<Session> {
  const session = await spawn(command, {
    probes: [{ definition: probe, action: 'count', tasks }, ...more],
  });
  await session.ended;
  return session;
}

async function hitsOf(session: Session, event: string = EVENT): Promise<number> {
  const summary = await session.stop();
  assertExact(summary);
  return summary.events.some((one) => one.event === event) ? eventOf(summary, event).hits : 0;
}

test('a filter chooses among the programs that a command executes, the first one included', async () => {
  const script = `${program} hit 3; ${program} storm 20 2 >/dev/null; exec ${program} hit 4`;
  for (const [tasks, expected] of [
    [{ comm: basename(program) }, 47],
    [{ executable: program }, 47],
    [{ comm: 'sh' }, 0],
    [{ accepts: ({ comm }: ProcessFacts) => comm !== 'sh' }, 47],
  ] as const) {
    await using session = await runFollowed(['sh', '-c', script], tasks);
    assert.equal(await hitsOf(session), expected);
  }
});

test('the command line has the same filters', () => {
  const command = ['sh', '-c', `${program} hit 3; sh -c '${program} hit 4; true'`];
  const all = countFollowed(probe, command, { words: ['--comm', basename(program)] });
  assert.equal(all.status, 0, all.err);
  assert.equal(countOf(all, EVENT), 7);
  const refused = countFollowed(probe, command, { words: ['--no-follow', '--comm', 'x'] });
  assert.equal(refused.status, 2);
});

test('a child that does not pass loses what it has inherited, before it runs; its parent keeps it', async () => {
  // Python forks without anything else between: the children call, and wait.
  const script = `
import ctypes, os, sys
lib = ctypes.CDLL(sys.argv[1])
def calls(n):
    for i in range(n): lib.followed_hit(i)
for n in (3, 4):
    child = os.fork()
    if child == 0:
        if n == 3: print('holds', 'memfd:trapline' in open('/proc/self/maps').read(), flush=True)
        calls(n)
        if n == 4:
            grand = os.fork()
            if grand == 0:
                calls(100)
                os._exit(0)
            os.waitpid(grand, 0)
        os._exit(0)
    os.waitpid(child, 0)
calls(50)
`;
  const library = probe.slice(probe.indexOf('@') + 1);
  const seen = new Set<number>();
  const target = await startTarget('/usr/bin/python3', [
    '-c',
    `import ctypes, sys\nctypes.CDLL(sys.argv[1])\nprint('ready', flush=True)\ninput()${script}print('done', flush=True)\ninput()`,
    library,
  ]);
  await using guarded = target;
  await guarded.waitForLine('ready');
  const accepts = ({ pid }: ProcessFacts): boolean => {
    seen.add(pid);
    return pid === guarded.pid;
  };
  await using session = await attach(
    { pids: [guarded.pid] },
    { probes: [{ definition: probe, action: 'count', tasks: { accepts } }], follow: true },
  );
  guarded.send('go');
  // Nothing at all is left, but where it has to tell of programs that would lose their rights.
  assert.equal(
    await guarded.waitForLine(/^holds/, 60_000),
    withholdsRights() ? 'holds True' : 'holds False',
  );
  await guarded.waitForLine('done', 60_000);
  assert.ok(seen.size >= 3);
  assert.equal(await hitsOf(session), 50);
  assertNothingHeld(guarded.pid);
});

test('one probe of two: a child keeps the other', async () => {
  const alone = followedAlone('-no-pie');
  const first = { definition: `followed_hit@${alone}`, action: 'count' as const };
  let parent = 0;
  const tasks: TaskFilter = {
    accepts: ({ pid }) => {
      parent ||= pid;
      return pid === parent;
    },
  };
  await using session = await spawn([alone, 'storm', '9', '5'], {
    probes: [
      { ...first, tasks },
      { ...first, definition: `p:other ${first.definition}` },
    ],
  });
  await session.ended;
  const summary = await session.stop();
  assertExact(summary);
  const hits = Object.fromEntries(
    summary.events.map(({ event, hits: count }) => [event.replace(/^.*:/, ''), count]),
  );
  assert.deepEqual(hits, { followed_hit: 0, other: 45 });
});
