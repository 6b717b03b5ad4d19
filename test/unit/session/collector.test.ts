import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { ContextHeader, layoutSegment } from '../../../src/events/layout.ts';
import { formatSegment } from '../../../src/events/segment.ts';
import { layoutOf, type Program } from '../../../src/probe/program.ts';
import type { ConsumerHandle } from '../../../src/session/protocol.ts';
import { Collector } from '../../../src/session/reading/collector.ts';
import { readClockPair } from '../../../src/sys/clock.ts';
import { mapMemory } from '../../../src/sys/mapping.ts';
import { TaskWriter } from '../events/writer.ts';

const SHAPE = { contextCount: 1, consumerCapacity: 8, ringBytes: 4096 };
const PROGRAM: Program = { arguments: [], filter: undefined, action: 'record' };
const CONSUMER: ConsumerHandle = {
  source: 7,
  consumer: 3,
  probe: 1,
  event: 'probe:early',
  definition: 'early@file',
  layout: layoutOf(PROGRAM),
  address: address(0x1000),
  program: PROGRAM,
};

test('a source has the consumers that were told of before it', () => {
  using memory = mapMemory(layoutSegment(SHAPE).totalBytes);
  const layout = formatSegment(memory.view, SHAPE);
  const collector = new Collector('jump');
  // Nothing else of a probe is looked at.
  const reply = { probe: {} } as Pick<Parameters<Collector['add']>[0], 'probe'>;
  collector.add({ ...reply, sources: [], consumers: [CONSUMER] });
  const segment = { kind: 'segment', pid: process.pid, samePidNamespace: true } as const;
  const handle = { ...segment, source: 7, address: memory.address, shape: SHAPE };
  collector.add({ ...reply, sources: [handle], consumers: [] });

  const task = new TaskWriter(memory.view, layout, 0);
  task.claim(process.pid, process.pid, 'node');
  assert.ok(task.record(CONSUMER.layout, CONSUMER.consumer, 0, readClockPair().tsc, []));
  task.count(CONSUMER.consumer, 'hits');

  const events = Array.from(collector.flush(), ({ event }) => event);
  assert.deepEqual(events, ['probe:early']);
  const [account] = collector.accounts(true);
  assert.equal(account?.consumer.event, 'probe:early');
  assert.equal(account.account.hits, 1);
});

/** No process has this number: PID_MAX_LIMIT is 2^22. */
const NOBODY = 1 << 22;

test('where nobody polls, dead tasks give their contexts back all the same', () => {
  using memory = mapMemory(layoutSegment(SHAPE).totalBytes);
  const layout = formatSegment(memory.view, SHAPE);
  const collector = new Collector('jump');
  // Nothing else of a probe is looked at.
  const reply = { probe: {} } as Pick<Parameters<Collector['add']>[0], 'probe'>;
  const program = { ...PROGRAM, action: 'count' } as const; // the literal
  const segment = { kind: 'segment', pid: process.pid, samePidNamespace: true } as const;
  const handle = { ...segment, source: 7, address: memory.address, shape: SHAPE };
  collector.add({ ...reply, sources: [handle], consumers: [{ ...CONSUMER, program }] });
  assert.ok(!collector.search());

  const task = new TaskWriter(memory.view, layout, 0);
  const header = new Uint32Array(memory.view, layout.contextsOffset, ContextHeader.comm / 4);
  task.claim(process.pid, process.pid, 'node');
  task.count(CONSUMER.consumer, 'aggregated');
  assert.ok(collector.search());
  assert.equal(header[ContextHeader.tid / 4], process.pid, 'a task that lives keeps its own');
  collector.releaseDeadTasks();
  assert.equal(header[ContextHeader.tid / 4], process.pid);

  task.claim(NOBODY, NOBODY, 'gone');
  assert.ok(collector.isScarce);
  collector.releaseDeadTasks();
  assert.equal(header[ContextHeader.tid / 4], 0);
  assert.ok(!collector.search());
  const [account] = collector.accounts(true);
  assert.equal(account?.account.aggregated, 1);
});
