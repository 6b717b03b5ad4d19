import assert from 'node:assert/strict';
import { realpathSync } from 'node:fs';
import { test } from 'node:test';

import { pid as brandPid } from '../../../src/base/brand.ts';
import { parseCgroup, readProcessFacts } from '../../../src/session/targets/process-facts.ts';

test('our own process', () => {
  const facts = readProcessFacts(brandPid(process.pid));
  assert.ok(facts !== undefined);
  assert.equal(facts.pid, process.pid);
  assert.equal(facts.ancestors[0], process.ppid);
  assert.equal(facts.executable, realpathSync(process.execPath));
  assert.equal(facts.uid, process.getuid?.());
  assert.ok(facts.comm.length > 0);
});

test('a process that is not there', () => {
  assert.equal(readProcessFacts(brandPid(4_194_303)), undefined);
});

test('the control group is that of the unified hierarchy, else of the first', () => {
  const hybrid = '12:cpu,cpuacct:/old\n1:name=systemd:/a\n0::/user.slice/a:b\n';
  assert.equal(parseCgroup(hybrid), '/user.slice/a:b');
  assert.equal(parseCgroup('3:memory:/docker/1\n2:pids:/docker/2\n'), '/docker/1');
  assert.equal(parseCgroup(''), '');
});
