/** Targets under seccomp: probed if their filters let our calls through, refused by name if not. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { attach, TraplineError } from '../../src/index.ts';
import { feature, skipUnless } from '../harness/features.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { assertClean, snapshot } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';

async function start(...args: string[]): Promise<Target> {
  const path = compileFixture({ sources: ['sandboxed.c'], name: 'sandboxed' });
  const target = await startTarget(path, args);
  await target.waitForLine(/^ready/);
  return target;
}

const PROBE = 'sandboxed_step@sandboxed count=%di:u64';

test('a filter that lets everything through is read, and the process probed', async (t) => {
  if (skipUnless(t, 'gcc', 'root')) return;
  await using target = await start('allow');
  const before = await snapshot(target.pid);
  {
    await using session = await attach({ pids: [target.pid] }, { probes: [PROBE] });
    for await (const event of session) {
      assert.equal(event.event, 'probe_sandboxed:sandboxed_step');
      break;
    }
  }
  assertClean(before, await snapshot(target.pid), { ran: true });
});

test('a filter that kills for a call of stubs is refused by the name of the call', async (t) => {
  if (skipUnless(t, 'gcc', 'root')) return;
  for (const [name, number] of [
    ['process_vm_readv', 310],
    ['gettid', 186],
    ['memfd_create', 319],
  ] as const) {
    await using target = await start('kill', String(number));
    const before = await snapshot(target.pid);
    await assert.rejects(attach({ pids: [target.pid] }, { probes: [PROBE] }), (error: unknown) => {
      assert.ok(error instanceof TraplineError, String(error));
      assert.equal(error.code, 'not-permitted');
      assert.match(error.message, new RegExp(`does not let ${name} through`));
      return true;
    });
    assertClean(before, await snapshot(target.pid), { ran: true });
    assert.equal(target.running, true);
  }
});

// Root may read every filter: there is nothing to test then, and nothing to count as passed.
if (!feature('root').present) {
  test('whoever may not read the filter is told what would allow it', async (t) => {
    if (skipUnless(t, 'gcc')) return;
    await using target = await start('allow');
    await assert.rejects(attach({ pids: [target.pid] }, { probes: [PROBE] }), (error: unknown) => {
      assert.ok(error instanceof TraplineError, String(error));
      assert.equal(error.code, 'not-permitted');
      assert.match(error.hint ?? '', /root/);
      return true;
    });
  });
}
