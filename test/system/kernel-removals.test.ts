/** Removals that say a place and arguments: the kernel's own `uprobe_events` and a file of probes, side by side. */

import assert from 'node:assert/strict';
import { appendFileSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

import { skipUnless } from '../harness/features.ts';
import { parseProbes } from '../../src/index.ts';
import { listDefinition, parseDefinition } from '../../src/probe/definition.ts';
import { OwnFixture } from './kernel-support.ts';

const COMMANDS = '/sys/kernel/tracing/uprobe_events';
const GROUP = `trapline_removals_${process.pid}`;

/** @returns what of some lines the kernel has left after a removal, as it lists it; undefined where it refuses that */
function leftByKernel(lines: readonly string[], removal: string): string[] | undefined {
  for (const line of lines) appendFileSync(COMMANDS, `${line}\n`);
  try {
    appendFileSync(COMMANDS, `${removal}\n`);
    return heldInKernel();
  } catch {
    return undefined;
  } finally {
    if (heldInKernel().length > 0) appendFileSync(COMMANDS, `-:${GROUP}/\n`);
  }
}

function heldInKernel(): string[] {
  const lines = readFileSync(COMMANDS, 'utf8').split('\n');
  return lines.filter((line) => line.startsWith(`p:${GROUP}/`)).toSorted();
}

function leftByUs(lines: readonly string[], removal: string): string[] | undefined {
  try {
    const left = parseProbes([...lines, removal].join('\n'), 'list');
    return left.map(({ definition }) => listDefinition(parseDefinition(definition))).toSorted();
  } catch {
    return undefined;
  }
}

test('a removal takes what the kernel takes', (t) => {
  if (skipUnless(t, 'root', 'tracefs')) return;
  using fixture = new OwnFixture({ sources: ['kinds.c'] });
  const { path } = fixture;
  const lines = [
    `p:${GROUP}/b ${path}:0x1000 %di a=+8(%si):u32`,
    `p:${GROUP}/b ${path}:0x1010 %di a=+8(%si):u32`,
    `p:${GROUP}/c ${path}:0x1000 %di`,
    `p:${GROUP}/d ${path}:0x1020(0x2000) %di:s16`,
  ];
  const place = `${path}:0x0000000000001000`;
  const cases = [
    '',
    place,
    `${path}:0x1000`,
    path,
    `  ${place}   arg1=%di`,
    `${place} %di`,
    `${place} a=+8(%si):u32`,
    `${place} arg1=%di a=+8(%si):u32`,
    `${place} arg1=%di a=+8(%si)`,
    `${place} arg1=%di a=+8(%si):u32 z=%di`,
    `${path}:0x0000000000001020`,
    `${path}:0x0000000000001020(0x2000)`,
    `${path}:0x0000000000001020(0x2000) arg1=%di:s16`,
  ];
  let taken = 0;
  for (const event of ['b', 'c', 'd', 'none', '']) {
    for (const behind of cases) {
      const removal = `-:${GROUP}/${event} ${behind}`.trimEnd();
      const theirs = leftByKernel(lines, removal);
      assert.deepEqual(leftByUs(lines, removal), theirs, removal);
      if (theirs !== undefined) taken++;
    }
  }
  assert.ok(taken > 10, String(taken));
});
