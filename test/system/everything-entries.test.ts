/**
 * Every function of real programs is probed while they work: they do and say what they do without, and what is
 * refused stays what it is.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isLong, skipUnless } from '../harness/features.ts';
import { countingAt, functionsOf, plansFor, spread } from './everything-places.ts';
import { refusalsOf, Stage, totalOf } from './everything-support.ts';
import { WORKLOADS } from './everything-workloads.ts';

/**
 * Functions with a name that may be refused, in a thousand: of python3, which lies so low that half of what puns lead
 * to is below it, some of three or four bytes.
 */
const REFUSED_NAMED = 6;
/** Functions that may be refused, in a thousand, those without a name included. */
const REFUSED_ALL = 3;
/** Functions without a name that are probed, one definition each: short form. */
const SOME_UNNAMED = 150;

for (const workload of WORKLOADS) {
  for (const { file, functions, isLong: needsLong = false } of workload.aims) {
    test(`${workload.name}: ${functions} functions of ${file}`, async (context) => {
      if (needsLong && !isLong()) return context.skip('long form only');
      if (skipUnless(context, ...workload.needs)) return;
      using stage = new Stage(workload);
      await (functions === 'named' ? probeNamed(stage, file) : probeAll(stage, file));
    });
  }
}

async function probeNamed(stage: Stage, name: string): Promise<void> {
  const probes = [{ definition: `*@'${stage.file(name)}'`, action: 'count' }] as const;
  const traced = stage.trace({ probes });
  // What an IFUNC chooses among are functions of their own: they are probed, whichever is chosen.
  const reasons = traced.refused.filter(({ reason }) => !reason.includes('IFUNC'));
  const refused = new Set(reasons.map((one) => one.name)).size;
  const all = traced.places.length + refused;
  assert.ok(refused * 1000 <= all * REFUSED_NAMED, refusalsOf(traced));
  assert.ok(totalOf(traced) > 100, `${totalOf(traced)} hits`);
}

async function probeAll(stage: Stage, name: string): Promise<void> {
  const file = stage.file(name);
  const functions = await functionsOf(file);
  const { accepted, refused } = plansFor(
    file,
    functions.map(({ offset }) => offset),
  );
  const reasons = refused.map(({ offset, reason }) => `0x${offset.toString(16)}: ${reason}`);
  assert.ok(refused.length * 1000 <= functions.length * REFUSED_ALL, reasons.join('\n'));
  const places = isLong() ? accepted : spread(accepted, SOME_UNNAMED);
  const traced = stage.trace({ probes: countingAt(file, places) });
  assert.ok(traced.refusedAtOnce * 1000 <= places.length * REFUSED_ALL + 1000, refusalsOf(traced));
  assert.equal(traced.places.length + traced.refused.length, places.length);
  assert.ok(totalOf(traced) > 10, `${totalOf(traced)} hits`);
}
