/** Ends: of sessions, while followed programs start up, which know nothing of it; of programs, by what a probe does. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Signal } from '../../src/sys/signals.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { run } from './cli-support.ts';

/** Programs that start all the time, each of which says what it should, and ends as it should. */
const PIPES = `
i=0
while [ $i -lt 60 ]; do
  i=$((i+1))
  r=$(/bin/echo x$i | /bin/cat; echo "\${PIPESTATUS[@]}")
  [ "$r" = "x$i
0 0" ] || echo "$i: $r"
done
exit 9
`;

const PROBES = ['malloc@libc.so.6', 'free@libc.so.6'];

test('its last event is the first of a program that has not started up', async () => {
  for (let round = 0; round < 3; round++) {
    const script = 'sleep 0.01; exit 9';
    const { status, err } = await run('trace', '-n', '1', ...PROBES, '--', 'sh', '-c', script);
    assert.equal(status, 9, err);
    assert.doesNotMatch(err, /kept/);
  }
});

test('its time is over while programs start and end', async () => {
  for (const milliseconds of [240, 280, 320, 360, 400]) {
    const words = ['--duration', `${milliseconds}ms`, '--count', ...PROBES];
    const { status, out, err } = await run('trace', ...words, '--', 'bash', '-c', PIPES);
    assert.deepEqual([status, out], [9, ''], err);
    assert.doesNotMatch(err, /kept|error while loading/);
  }
});

test('a program that a probe kills, by a filter of system calls that came later, is spoken of', async () => {
  const program = compileFixture({ sources: ['late-filter.c'] });
  const plain = await run('trace', `work@${program} number=%di:s64`, '--', program);
  assert.equal(plain.status, 3, plain.err);
  assert.doesNotMatch(plain.err, /SIGSYS/);
  const reading = await run('trace', `work@${program} text=+0(%si):string`, '--', program);
  assert.equal(reading.status, 128 + Signal.systemCall, reading.err);
  assert.match(reading.out, /text="first"/);
  assert.match(reading.err, /process \d+ was ended by SIGSYS: a filter .* process_vm_readv/);
});
