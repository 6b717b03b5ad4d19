/**
 * Every instruction of functions that real programs execute is probed, all at once, while they work.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { refuseInstruction } from '../../src/engines/kernel/instruction.ts';
import type { ListedFunction } from '../../src/index.ts';
import { isLong, skipUnless } from '../harness/features.ts';
import { countingAt, functionsOf, instructionsOf, plansFor, spread } from './everything-places.ts';
import { hitsOf, Stage } from './everything-support.ts';
import { encrypt, gzip, pythonAlone, sqlite, zshAlone } from './everything-workloads.ts';

/** Instructions that may be refused, in a thousand: most where a program lies so low that puns would lead below it. */
const REFUSED = 30;
/** Definitions of one session: of a function all, as a rule. */
const PLACES_OF_A_RUN = 8000;
/** Places that are compared with the kernel's counts; it takes 30 ms to let go of each. */
const COMPARED = isLong() ? 300 : 30;
/** In bytes: larger functions are for the long form. */
const SHORT_FUNCTION = 600;

/** Runs of each engine where counts depend on addresses: what is the same in all of them does not. */
const ROUNDS = 5;
/** The kernel makes a call of this nop, which is refused. */
const NOP5 = '0f1f440000';

for (const [workload, file, few, many] of [
  [sqlite, 'libsqlite3', 40, 300],
  [zshAlone, 'program', 20, 200],
  [gzip, 'libc.so', 0, 100],
  [encrypt, 'libcrypto', 0, 200],
  [pythonAlone, 'program', 0, 100],
] as const) {
  test(`${workload.name}: every instruction of functions of ${file}`, async (context) => {
    const count = isLong() ? many : few;
    if (count === 0) return context.skip('long form only');
    if (skipUnless(context, ...workload.needs)) return;
    using stage = new Stage(workload);
    const path = stage.file(file);
    const entries = hitsOf(
      stage.trace({ probes: [{ definition: `*@'${path}'`, action: 'count' }] }),
    );
    const chosen = spread(
      (await functionsOf(path)).filter((one) => isWanted(one, entries)),
      count,
    );
    const offsets = instructionsOf(path, chosen);
    const { accepted, refused } = plansFor(path, offsets);
    const hits = new Map<number, number>();
    const reasons = refused.map(({ reason }) => reason);
    for (let at = 0; at < accepted.length; at += PLACES_OF_A_RUN) {
      const places = accepted.slice(at, at + PLACES_OF_A_RUN);
      const traced = stage.trace({ probes: countingAt(path, places) });
      for (const one of hitsOf(traced)) hits.set(...one);
      reasons.push(...traced.refused.map(({ reason }) => reason));
    }
    assert.equal(hits.size + reasons.length, offsets.length);
    context.diagnostic(`${reasons.length} of ${offsets.length} refused`);
    assert.ok(reasons.length * 1000 <= offsets.length * REFUSED, reasons.join('\n'));
    // The functions at work are the same: as often as in the first run.
    const again = chosen.filter(({ offset }) => hits.has(offset));
    const differing = again.filter(({ offset }) => hits.get(offset) !== entries.get(offset));
    assert.deepEqual(
      differing.map(({ name }) => name),
      [],
    );
    // Which way string functions take depends on where in a page their arguments lie, in each run elsewhere.
    const isSteady = file !== 'libc.so';
    if (!isSteady) return;
    await context.test('as often as the kernel counts them', (t) => {
      if (!skipUnless(t, 'root', 'tracefs')) compareWithKernel(stage, path, hits);
    });
  });
}

/** Those that were executed. */
function isWanted(one: ListedFunction, entries: ReadonlyMap<number, number>): boolean {
  return (entries.get(one.offset) ?? 0) > 0 && (isLong() || one.size <= SHORT_FUNCTION);
}

function compareWithKernel(stage: Stage, path: string, hits: ReadonlyMap<number, number>): void {
  const code = readFileSync(path);
  const possible = [...hits].flatMap(([offset, count]) => {
    const bytes = code.subarray(offset, offset + 15);
    const isNop = bytes.toString('hex').startsWith(NOP5);
    return count > 0 && !isNop && refuseInstruction(bytes) === undefined ? [{ offset }] : [];
  });
  const places = spread(possible, COMPARED);
  const probes = countingAt(path, places);
  const rounds = stage.workload.dependsOnAddresses === true ? ROUNDS : 1;
  const counted = Array.from({ length: rounds }, () =>
    hitsOf(stage.trace({ engine: 'kernel', probes })),
  );
  const ours = Array.from({ length: rounds - 1 }, () => hitsOf(stage.trace({ probes })));
  const [first = new Map<number, number>()] = counted;
  assert.equal(first.size, places.length);
  const isSteady = (offset: number): boolean =>
    counted.every((one) => one.get(offset) === first.get(offset)) &&
    ours.every((one) => one.get(offset) === hits.get(offset));
  const steady = [...first].filter(([offset]) => isSteady(offset));
  assert.ok(steady.length * 10 >= first.size * 8, `${steady.length} of ${first.size}`);
  for (const [offset, count] of steady) {
    assert.equal(hits.get(offset), count, `0x${offset.toString(16)}`);
  }
}
