import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { attach, explain, TraplineError } from '../../src/index.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { leavingClean, run, selfCheck, startSelfCheck } from './cli-support.ts';

test('what is explained is what is done, and nothing is touched', async () => {
  await using target = await startSelfCheck(true);
  await leavingClean(target, async () => {
    const definition = 'work_step@self-check';
    const [before] = await explain(definition, { pid: target.pid });
    assert.ok(before?.method !== undefined);
    assert.equal(before.isThere, false);
    assert.equal(before.pid, target.pid);
    await using session = await attach({ pids: [target.pid] }, { probes: [definition] });
    const site = session.probes[0]?.sites[0];
    assert.deepEqual(
      [site?.method, site?.offset, site?.address, site?.displacedBytes],
      [before.method, before.offset, before.processAddress, before.displacedBytes],
    );
    const [during] = await explain(definition, { pid: target.pid });
    assert.equal(during?.isThere, true);
    assert.equal(during.method, before.method);
    await session.stop();
  });
});

test('a file alone: instructions are objdump’s bytes, the stub is shown when asked for', async () => {
  const path = selfCheck();
  const [one] = await explain(`work_step@${path} a=%di`, { stub: true });
  assert.ok(one?.method !== undefined && one.offset !== undefined);
  assert.equal(one.pid, undefined);
  const file = readFileSync(path);
  for (const { offset, bytes } of one.code) {
    assert.equal(file.subarray(offset, offset + bytes.length / 2).toString('hex'), bytes);
  }
  assert.ok(one.code.some(({ offset, isDisplaced }) => offset === one.offset && isDisplaced));
  assert.ok(one.costNanoseconds !== undefined && one.costNanoseconds.record > 0);
  const names = one.stub?.map(({ name }) => name) ?? [];
  assert.deepEqual([...names].toSorted(), ['program', 'runtime', 'stub']);
  assert.ok(one.stub?.every(({ lines }) => lines.every(({ text }) => text !== '(bad)')));
});

test('the command: a status for each, JSON, and the nearest where a place is refused', async () => {
  const path = selfCheck();
  const good = await run('explain', '--json', `work_step@${path}`, `leaf@${path}`);
  assert.equal(good.status, 0, good.err);
  const lines = good.out.trimEnd().split('\n');
  const methods = lines.map((line): unknown => Reflect.get(Object(JSON.parse(line)), 'method'));
  assert.equal(methods.length, 2);
  assert.ok(methods.every((method) => typeof method === 'string'));
  const [place] = await explain(`work_step@${path}`);
  const [first, second] = place?.code.filter(({ offset }) => offset >= (place.offset ?? 0)) ?? [];
  assert.ok(first !== undefined && second !== undefined && first.bytes.length > 2);
  const middle = `${path}:0x${(first.offset + 1).toString(16)}`;
  const bad = await run('explain', middle);
  assert.equal(bad.status, 1);
  assert.match(bad.out, /refused {2}it is not the start of an instruction/);
  assert.ok(bad.out.includes(`${path}:0x${first.offset.toString(16)}`), bad.out);
  const wrong = await run('explain', '-p', '1,2', middle);
  assert.equal(wrong.status, 2);
});

test('a place that only a trap could serve says so', async () => {
  const path = compileFixture({ sources: ['trapping.c'] });
  const [one] = await explain(`trapping@${path}`);
  assert.equal(one?.method, undefined);
  assert.match(one?.refused ?? '', /only a trap could serve there$/);
  await assert.rejects(
    async () => explain('no_such_function@self-check', { pid: process.pid }),
    (error) => error instanceof TraplineError && error.code === 'no-file',
  );
});
