import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isLong } from '../../harness/features.ts';
import { CRAFTED } from './crafted-blocks.ts';
import type { Report } from './displacement-child.ts';
import { withFolder } from './oracles.ts';

/** What less than everything was compared of, or nothing, and the share of all blocks that it may be. */
const BOUNDS: Record<'crafted' | 'entries' | 'windows' | 'random', Record<string, number>> = {
  crafted: {
    'compared but for what the processor or its clock say of themselves': 0.1,
    // From some of many states; none does from each.
    'a call that faults has pushed': 0.6,
  },
  entries: {
    'compared up to a system call': 0.002,
    // hlt, privileged instructions, pointers to what no memory of ours is
    'faults from each state': 0.01,
    'endless both times': 0.002,
    'a call that faults has pushed': 0.002,
  },
  windows: {
    'compared up to a system call': 0.01,
    'compared but for what the processor or its clock say of themselves': 0.001,
    'faults from each state': 0.05,
    'endless both times': 0.005,
    'a call that faults has pushed': 0.005,
    'refused: a call would return into the bytes that move': 0.01,
    'refused: a branch goes into an instruction that moves': 0.002,
    'refused: an instruction that always faults stands here, and its handler may look at where': 0.001,
  },
  random: {
    'compared up to a system call': 0.002,
    'compared but for what the processor or its clock say of themselves': 0.002,
    'faults from each state': 0.3,
    'endless both times': 0.005,
    'a call that faults has pushed': 0.005,
    'the code set the trap flag': 0.005,
    'refused: a breakpoint or software interrupt stands here': 0.06,
    'refused: a call through rsp': 0.001,
    'refused: a call would return into the bytes that move': 0.005,
    'refused: a branch goes into an instruction that moves': 0.005,
    'refused: a branch is out of reach': 0.005,
    'refused: a far call stands here': 0.005,
    'refused: an instruction that always faults stands here, and its handler may look at where': 0.002,
    'refused: an operand is out of reach': 0.02,
    'refused: an operand is relative to eip': 0.002,
    'refused: processors disagree on a branch with an operand-size prefix': 0.005,
  },
};

/** Runs displacement-child.ts; a crash names the block that it came from. */
function displace(seed: number, ...parts: readonly string[]): Report {
  const child = fileURLToPath(new URL('displacement-child.js', import.meta.url));
  return withFolder((folder) => {
    const progress = join(folder, 'progress');
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      [child, progress, `${seed}`, ...parts],
      { encoding: 'utf8', maxBuffer: 1 << 24 },
    );
    const end = `ended with ${signal ?? status} at: ${readFileSync(progress, 'utf8').trim()}`;
    assert.equal(status, 0, `${end}\n${stderr}`);
    // what displacement-child.ts writes
    return JSON.parse(stdout) as Report;
  });
}

function check(
  context: TestContext,
  part: keyof typeof BOUNDS,
  least: number,
  { verdicts, differences }: Report,
): void {
  assert.deepEqual(differences, []);
  const counts = verdicts[part] ?? {};
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  assert.ok(total >= least, `${total} blocks`);
  const less = new Map<string, number>();
  for (const [verdict, count] of Object.entries(counts)) {
    if (verdict === 'same') continue;
    for (const one of verdict.split('; ')) less.set(one, (less.get(one) ?? 0) + count);
  }
  context.diagnostic(`${part}: ${counts['same'] ?? 0} of ${total} the same`);
  for (const [verdict, count] of less) {
    context.diagnostic(`  ${count} ${verdict}`);
    const bound = Math.ceil(total * (BOUNDS[part][verdict] ?? 0));
    assert.ok(count <= bound, `${count} of ${total}: ${verdict}`);
  }
}

void test('blocks that were made to be hard do displaced what they do in place', (t) => {
  check(t, 'crafted', CRAFTED.length, displace(4, 'crafted'));
});

void test('the first instructions of every function of libc do displaced what they do in place', (t) => {
  check(t, 'entries', 3000, displace(1, 'entries'));
});

void test('so do the instructions at every place of functions of libc', (t) => {
  const [every, least] = isLong() ? [1, 250_000] : [100, 1500];
  check(t, 'windows', least, displace(2, `windows=${every}`));
});

void test('so do random instructions', (t) => {
  const blocks = isLong() ? 300_000 : 5000;
  check(t, 'random', blocks, displace(3, `random=${blocks}`));
});
