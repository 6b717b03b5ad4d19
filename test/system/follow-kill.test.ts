/** Whoever follows is killed, at any of its calls: what it held runs on unharmed, and nothing of it stays behind. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

import { isLong } from '../harness/features.ts';
import { followedProgram } from './follow-support.ts';

const script = fileURLToPath(new URL('follow-tracer.js', import.meta.url));
const { program, probe } = followedProgram();
const PATIENCE = 60_000;
/** By this call, a command has been started. */
const LATEST_START = 200;
/** Another first call each day, so that days cover all. */
const FIRST = 1 + (Math.floor(Date.now() / 86_400_000) % 40);

function nextCall(call: number): number {
  return isLong() ? call + 1 : Math.ceil(call * 2.3 + 17);
}

interface Run {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What the command wrote, until nobody could write any more. */
  readonly out: string;
}

async function run(
  command: readonly string[],
  switches: Readonly<Record<string, string>>,
): Promise<Run> {
  const child = spawn(process.execPath, [script, probe, ...command], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...switches },
    timeout: PATIENCE,
  });
  let out = '';
  child.stdout.on('data', (bytes: Buffer) => (out += bytes.toString()));
  const late = setTimeout(
    () => child.stdout.destroy(new Error('somebody does not go on')),
    PATIENCE,
  );
  // Its output ends when all of its processes have ended, ours and the command's.
  const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null]; // Node's own
  clearTimeout(late);
  return { status, signal, out };
}

async function sweep(context: TestContext, command: readonly string[]): Promise<void> {
  const killed: number[] = [];
  for (let call = FIRST; ; call = nextCall(call)) {
    const { status, signal, out } = await run(command, { TRAPLINE_TEST_KILL_AFTER: String(call) });
    assert.ok(signal === 'SIGKILL' || status === 0, `killed after call ${call}: status ${status}`);
    // Nothing is written where it was killed before it had started the command.
    if (out !== '' || call > LATEST_START) {
      assert.match(out, /^ok \d+\n$/, `killed after call ${call}`);
    }
    if (signal !== 'SIGKILL') break;
    killed.push(call);
  }
  context.diagnostic(`killed after calls ${killed.join(' ')}`);
  assert.ok((killed.at(-1) ?? 0) > LATEST_START);
}

for (const words of [
  ['ways', '3'],
  ['storm', '24', '3'],
  ['thread-exec', '3'],
  ['signals', '40', '2'],
  ['stops', '10', '3'],
  ['threads', '100', '3'],
]) {
  test(`killed while it follows: ${words.join(' ')}`, async (context) => {
    await sweep(context, [program, ...words]);
  });
}
