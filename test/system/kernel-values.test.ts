import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, FAULT, type TraceEvent } from '../../src/index.ts';
import { startTarget, type Target } from '../harness/target.ts';
import { assertExact, Reading } from './jump-support.ts';
import {
  ENGINES,
  leavingKernelClean,
  OwnFixture,
  skipEngine,
  type Engine,
} from './kernel-support.ts';

/** Makes rounds under probes of one engine. @returns all events, in order. */
async function eventsOf(
  engine: Engine,
  target: Target,
  probes: readonly string[],
  rounds: number,
): Promise<TraceEvent[]> {
  await using session = await attach({ pids: [target.pid] }, { engine, probes });
  const events: TraceEvent[] = [];
  const reading = new Reading(session, (event) => events.push(event.toEvent()));
  for (let round = 0; round < rounds; round++) {
    target.send('go');
    await target.waitForLine(/^(round|bad)/, 60_000);
  }
  const summary = await session.stop();
  await reading.done;
  assertExact(summary);
  return events;
}

/** What of an event is the same whichever engine saw it. */
function essence({ event, address, args, pid, tid, comm, late }: TraceEvent): unknown {
  return { event, address, args, pid, tid, comm, late };
}

test('both engines see the same events: registers, memory, texts, the stack', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['values.c'] });
  await using target = await fixture.start();
  const probes = [
    'taking@values a=%cx:u8 b=%cx:s8 c=%cx:x16 d=%cx:s16 e=%cx:u32 f=%cx:s32 g=%cx:u64 h=%cx:s64 ' +
      'i=$arg5:u8 j=%r8:u16 k=%r8:x32 l=$arg6:s64 m=%di:u64',
    'taking@values a=+0(%di):s8 b=+1(%di):u8 c=+2(%di):s16 d=+4(%di):s32 e=+8(%di):s64 g=+24(%di):u64 h=-8(%di):x64',
    'taking@values t=+0(%si):string c=$comm r=$stack0 s1=$stack1 s2=$stack2 sp=%sp m=+6(%si):string',
    'taking@values a=+0(%di):u8[4] b=+0(%di):s32[2] c=+0(%si):char[6] d=%cx:char e=%r8:b4@2/32 f=+0(%di):b8@8/16',
    'taking@values s=+0(+16(%di)):string i=\\42:u8 t=\\"hey" none=+0(+0(%cx)):u8 no=+4(+0(%cx)):string nil=+0(+0(%cx)):u8[2]',
    'taking@values d=%cx:s64 if d < 0 && COMM == "values"',
    'taking@values d=%cx:s64 if d > 0',
    'taking@values if CPU >= 0 && common_pid != 1',
    'p:my/name taking@values s=+0(%si):string if s ~ "caf*"',
    'flagged@values ip=%ip',
  ];
  await leavingKernelClean(target, 'kernel', async () => {
    // The first round has no return address yet that it could tell.
    const kernel = await eventsOf('kernel', target, probes, 3);
    const jump = await eventsOf('jump', target, probes, 3);
    assert.equal(kernel.length, 3 * (8 + 2));
    for (const event of new Set(kernel.map((one) => one.event))) {
      const of = (all: readonly TraceEvent[]): unknown =>
        all.filter((one) => one.event === event).map(essence);
      assert.deepEqual(of(kernel), of(jump), event);
    }
  });
});

test('texts behind good and bad pointers; a text of a page', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['bad-pointers.c'] });
  await using target = await fixture.start();
  await leavingKernelClean(target, 'kernel', async () => {
    const probes = ['take@bad-pointers p=%di:u64 s=+0(%di):string good=+0(%sp):u64'];
    const kernel = await eventsOf('kernel', target, probes, 1);
    const jump = await eventsOf('jump', target, probes, 1);
    assert.equal(kernel.length, 12);
    assert.ok(kernel.some(({ args }) => args['s'] === FAULT));
    assert.deepEqual(kernel.map(essence), jump.map(essence));
  });
});

test('%flags are the flags, at an instruction of any length', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['values.c'] });
  await using target = await fixture.start();
  await leavingKernelClean(target, 'kernel', async () => {
    // Behind the nop of five bytes, on a `pushfq`.
    const events = await eventsOf('kernel', target, ['flagged_middle+5@values f=%flags:u64'], 2);
    assert.equal(events.length, 4);
    events.forEach(({ args }, at) => {
      const flags = args['f'];
      assert.ok(typeof flags === 'bigint');
      // CF PF AF ZF SF OF, and the interrupt flag, which is always set here.
      assert.equal(flags & 0xad5n, at % 2 === 0 ? 0x200n : 0xad5n);
    });
  });
});

test('a text of almost a page is whole; a longer one is a fault, and nothing beside it', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['values.c'] });
  await using target = await fixture.start();
  await leavingKernelClean(target, 'kernel', async () => {
    // 10,000 bytes with the NUL.
    const probes = [
      'taking@values l=+5999(%dx):string n=%cx:s64',
      'taking@values l=+0(%dx):string n=%cx:s64',
    ];
    const events = await eventsOf('kernel', target, probes, 2);
    assert.equal(events.length, 4);
    for (const { args, event, comm } of events) {
      const isLonger = event.endsWith('_1');
      assert.equal(comm, 'values');
      assert.equal(args['n'], -2n);
      assert.deepEqual(args['l'], isLonger ? FAULT : 'l'.repeat(4000));
    }
  });
});

test('the times are CLOCK_MONOTONIC', async (t) => {
  if (skipEngine(t, 'kernel')) return;
  using fixture = new OwnFixture({ sources: ['values.c'] });
  await using target = await fixture.start();
  await leavingKernelClean(target, 'kernel', async () => {
    const before = process.hrtime.bigint();
    const events = await eventsOf('kernel', target, ['taking@values'], 5);
    const after = process.hrtime.bigint();
    let last = before;
    assert.equal(events.length, 5);
    for (const { ts, late } of events) {
      assert.ok(ts >= last && ts <= after, `${before} ${ts} ${after}`);
      assert.equal(late, false);
      last = ts;
    }
  });
});

for (const engine of ENGINES) {
  test(`${engine}: children keep their probes and are told apart`, async (t) => {
    if (skipEngine(t, engine)) return;
    const [depth, width, calls] = [2, 3, 20];
    using fixture = new OwnFixture({ sources: ['fork-tree.c'] });
    const words = [depth, width, calls].map(String);
    await using target = await startTarget(fixture.path, [...words, 'wait']);
    await target.waitForLine('ready');
    const probes = ['node_work@fork-tree level=%di:s64 n=%si:u64 pid=%dx:u32'];
    await using session = await attach({ pids: [target.pid] }, { engine, probes });
    const callsOf = new Map<number, number>();
    const wrong: string[] = [];
    const events = new Reading(session, (event) => {
      callsOf.set(event.pid, (callsOf.get(event.pid) ?? 0) + 1);
      const own = event.number(2);
      if (event.pid !== own || event.tid !== own)
        wrong.push(`${own} is shown as ${event.pid}/${event.tid}`);
      if (event.comm !== 'fork-tree') wrong.push(event.comm);
    });
    target.send('go');
    const processes = Number((await target.waitForLine(/^(ok|bad)/, 60_000)).split(' ')[1]);
    const summary = await session.stop();
    await events.done;
    assertExact(summary);
    assert.deepEqual(wrong, []);
    assert.equal(callsOf.size, processes);
    for (const [pid, count] of callsOf) assert.equal(count, calls, `process ${pid}`);
  });
}
