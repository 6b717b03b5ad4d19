/** Programs that come to instructions in ways that are hard to see: probed wherever it is allowed, they do what they did. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { fileOffset } from '../../src/base/brand.ts';
import { Planner } from '../../src/engines/jump/planner.ts';
import { ElfFile } from '../../src/symbols/elf.ts';
import { SymbolTable } from '../../src/symbols/symbol-table.ts';
import { compileFixture, type FixtureOptions } from '../harness/fixtures.ts';
import { run } from './cli-support.ts';

/** The places of some functions at which a jump of five bytes would be written: the others touch nobody's bytes. */
function jumpsIn(path: string, named: string, names: readonly string[]): number[] {
  const planner = new Planner(ElfFile.open(readFileSync(path), path));
  const symbols = SymbolTable.of(ElfFile.open(readFileSync(named), named), {
    demangle: () => undefined,
  });
  const places = names.flatMap((name) => {
    const [symbol] = symbols.find(name);
    return planner.boundaries(symbol?.offset ?? assert.fail(name));
  });
  // Without names, one function may have another in it.
  const each = [...new Set(places)].map((place) => fileOffset(place));
  return planner.plan(each).flatMap((plan) => {
    const isJump = plan.kind === 'plan' && ['jump', 'nop'].includes(plan.ways[0]?.method ?? '');
    return isJump ? [plan.offset] : [];
  });
}

/**
 * Probes all such places, then every second and every third: what a neighbour covers is written in one of them.
 * @param strip whether the program is to have no names
 */
async function assertUnharmed(
  options: FixtureOptions,
  names: readonly string[],
  strip = false,
): Promise<void> {
  const named = compileFixture(options);
  const flags = [...(options.flags ?? []), '-s'];
  const path = strip ? compileFixture({ ...options, flags }) : named;
  const meant = execFileSync(path).toString();
  const places = jumpsIn(path, named, names);
  assert.ok(places.length > 3, 'there is something to probe');
  const folder = mkdtempSync(join(tmpdir(), 'trapline-landings-'));
  try {
    for (const step of [1, 2, 3]) {
      const list = join(folder, `${step}.probes`);
      const some = places.filter((_, nth) => nth % step === step - 1);
      const lines = some.map((at) => `p:at_${at.toString(16)} ${path}:0x${at.toString(16)}\n`);
      writeFileSync(list, lines.join(''));
      const { status, out, err } = await run('trace', '--count', '--probes', list, '--', path);
      assert.deepEqual([status, out], [0, meant], err);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}

for (const how of ['thunk', 'thunk-inline']) {
  for (const level of ['-O1', '-O2']) {
    test(`computed gotos that go through retpolines: ${how}, ${level}`, async () => {
      const flags = [level, `-mindirect-branch=${how}`];
      await assertUnharmed({ sources: ['computed.c'], flags }, ['run']);
    });
  }
}

test('a computed goto whose table has an entry that leads nowhere', async () => {
  await assertUnharmed({ sources: ['computed.c'], flags: ['-O2', '-DHOLE=0x7fffffff,'] }, ['run']);
});

for (const strip of [false, true]) {
  const what = strip ? 'without names' : 'with names';
  test(`parts of functions that tables alone lead into, or out of, ${what}`, async () => {
    const flags = ['-nostdlib', '-static-pie', '-fPIE'];
    const names = ['f', 'f.cold', 'g', 'g.cold', 'h', 'h.cold', 'outer', 'inner'];
    await assertUnharmed({ sources: ['cold.S'], flags }, names, strip);
  });
}
