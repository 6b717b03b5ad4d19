/**
 * Every function of real programs is hit as often as the kernel's own uprobes count it, in runs of their own. What
 * differs between two runs of the kernel is the program's own business, and is little.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isLong, skipUnless } from '../harness/features.ts';
import { hitsOf, Stage } from './everything-support.ts';
import {
  embeddedAlone,
  encrypt,
  gunzip,
  gzip,
  pythonAlone,
  sqlite,
  sqliteBrief,
  zshAlone,
  type Workload,
} from './everything-workloads.ts';

/** Functions whose counts may differ between two runs of the kernel, in a thousand of those that are hit. */
const UNSTEADY = 50;

/** Further runs of ours where counts depend on addresses: what differs between them is none of the engines'. */
const MORE_RUNS = 5;

/** A program, a file of it, and which of its functions; short form, the kernel takes 5 µs and more a hit. */
type Case = readonly [workload: Workload, file: string, functions: string];

const SHORT: readonly Case[] = [
  [sqliteBrief, 'libsqlite3', 'sqlite3[ACFORW]*'],
  [zshAlone, 'program', '[c-f]*'],
];
const LONG: readonly Case[] = [
  [sqlite, 'libsqlite3', '*'],
  [sqlite, 'libc.so', '*'],
  [zshAlone, 'program', '*'],
  [zshAlone, 'libc.so', '*'],
  [gzip, 'libc.so', '*'],
  [gunzip, 'libc.so', '*'],
  [encrypt, 'libcrypto', '*'],
  [encrypt, 'libc.so', '*'],
  [pythonAlone, 'program', '*'],
  [embeddedAlone, 'libpython3', '*'],
];

for (const [workload, file, functions] of [...SHORT, ...LONG]) {
  test(`${workload.name}: hits of ${functions} of ${file} as the kernel counts them`, (context) => {
    if (functions === '*' && !isLong()) return context.skip('long form only');
    if (skipUnless(context, 'root', 'tracefs', ...workload.needs)) return;
    using stage = new Stage(workload);
    const probes = [{ definition: `${functions}@'${stage.file(file)}'`, action: 'count' }] as const;
    const once = hitsOf(stage.trace({ engine: 'kernel', probes }));
    const twice = hitsOf(stage.trace({ engine: 'kernel', probes }));
    const ours = hitsOf(stage.trace({ probes }));
    const more = Array.from({ length: workload.dependsOnAddresses === true ? MORE_RUNS : 0 }, () =>
      hitsOf(stage.trace({ probes })),
    );
    const steady = [...once].filter(
      ([offset, hits]) =>
        twice.get(offset) === hits && more.every((one) => one.get(offset) === ours.get(offset)),
    );
    const reached = [...once.values()].filter((hits) => hits > 0).length;
    assert.ok(reached > 20, String(reached));
    assert.ok(
      (once.size - steady.length) * 1000 <= reached * UNSTEADY,
      'the kernel counts the same',
    );
    const wrong = steady.filter(([offset, hits]) => (ours.get(offset) ?? hits) !== hits);
    assert.deepEqual(
      wrong.map(([offset, hits]) => `0x${offset.toString(16)}: ${ours.get(offset)}, not ${hits}`),
      [],
    );
    const compared = steady.filter(([offset, hits]) => hits > 0 && ours.has(offset)).length;
    assert.ok(compared * 10 > reached * 9, `${compared} of ${reached}`);
  });
}
