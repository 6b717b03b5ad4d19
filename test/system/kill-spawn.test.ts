import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { test } from 'node:test';

import { clean } from '../../src/index.ts';
import { isLong } from '../harness/features.ts';
import { selfCheck } from './cli-support.ts';
import { assertNothingHeld, firstCall, tracerScript } from './kill-support.ts';

/** Of the calls of one session, so many are skipped between two kills outside of the long form. */
const STRIDE = 71;
const PATIENCE = 60_000;

/** The lines that a command writes, one after another. */
class Lines {
  readonly #iterator: AsyncIterator<string>;
  readonly #reader: Interface;

  constructor(child: ChildProcess) {
    assert.ok(child.stdout !== null);
    this.#reader = createInterface({ input: child.stdout });
    this.#iterator = this.#reader[Symbol.asyncIterator]();
  }

  /** The next one that matches; undefined at the end. */
  async next(pattern: RegExp): Promise<string | undefined> {
    const signal = AbortSignal.timeout(PATIENCE);
    const late = once(signal, 'abort').then(() => assert.fail(`${String(pattern)} never came`));
    for (;;) {
      const { done, value } = await Promise.race([this.#iterator.next(), late]);
      if (done === true) return undefined;
      if (pattern.test(value)) return value;
    }
  }
}

/** Ends a command that a failed test leaves. */
class Guard implements Disposable {
  pid = 0;

  [Symbol.dispose](): void {
    if (this.pid === 0) return;
    try {
      process.kill(this.pid, 'SIGKILL');
    } catch {
      // it has ended, as it should
    }
  }
}

/**
 * Traces a command that is killed after call k. Whether or not the tracer got so far, the command begins,
 * goes on and ends well.
 * @returns whether the tracer was killed.
 */
async function runOnce(call: number): Promise<boolean> {
  const child = spawn(process.execPath, [tracerScript, 'spawn', selfCheck(), '2', '500'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, TRAPLINE_TEST_KILL_AFTER: String(call) },
  });
  const ended = once(child, 'exit');
  const lines = new Lines(child);
  using guard = new Guard();
  const ready = await lines.next(/^(ready|bad)/);
  guard.pid = Number(/^ready (\d+)$/.exec(ready ?? '')?.[1] ?? 0);
  const [status, signal] = (await ended) as [number | null, NodeJS.Signals | null]; // Node's own
  assert.ok(signal === 'SIGKILL' || status === 0, `the tracer ended: ${signal ?? status}`);
  if (ready === undefined) {
    // Killed before there was a command.
    assert.equal(signal, 'SIGKILL');
    return true;
  }
  const { pid } = guard;
  const [report] = await clean([pid]);
  assert.deepEqual(report?.kept, []);
  assertNothingHeld(pid);
  // By a signal: Node closes a child's standard input when the child ends.
  process.kill(pid, 'SIGTERM');
  assert.match((await lines.next(/^(ok|bad)/)) ?? 'nothing', /^ok/);
  assert.equal(await lines.next(/./), undefined);
  return signal === 'SIGKILL';
}

test('a command goes on and ends well, whenever its tracer is killed', async (context) => {
  let from = firstCall(STRIDE);
  const stride = isLong() ? 1 : STRIDE;
  let killed = 0;
  for (let call = from; ; call += stride) {
    const wasKilled = await runOnce(call).catch((error: unknown) => {
      throw new Error(`killed after call ${call}: ${String(error)}`, { cause: error });
    });
    if (!wasKilled) break;
    killed++;
    from = call;
  }
  context.diagnostic(`every ${stride}th call: killed ${killed}, last after ${from}`);
  assert.ok(killed > 0 && from >= 300, `the last after call ${from}`);
});
