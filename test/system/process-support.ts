/** What the system tests of src/process share. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';

import { address, type Pid } from '../../src/base/brand.ts';
import { type BlobPlace } from '../../src/process/blob-place.ts';
import { readMaps } from '../../src/process/maps.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { tracedTasks } from '../harness/leaks.ts';
import { startTarget, type Target } from '../harness/target.ts';

/** Starts `process-blocked.c` and waits until every thread is on its way. */
export async function startBlocked(...args: string[]): Promise<Target> {
  const target = await startTarget(compileFixture({ sources: ['process-blocked.c'] }), args);
  await target.waitForLine('ready');
  return target;
}

/** Nobody traces it, and every thread of it gets ahead. */
export async function assertAlive(target: Target): Promise<void> {
  const words = target.lines.slice(-2).join('; ');
  assert.ok(target.running, `the target ended: ${words}`);
  assert.deepEqual(tracedTasks(target.pid), []);
  target.send('check');
  assert.equal(await target.waitForLine(/^(alive|stuck|bad)/, 40_000), 'alive');
}

/** It ends by itself and found nothing wrong. */
export async function assertEndsWell(target: Target): Promise<void> {
  target.send('quit');
  assert.equal(await target.waitForLine(/^(ok|bad)/), 'ok');
  assert.equal((await target.exited).status, 0);
}

/** The tail of the executable segment of a process's main program, as readelf tells it. */
export function blobPlaces(pid: Pid): BlobPlace[] {
  const path = readlinkSync(`/proc/${pid}/exe`);
  const { stdout } = spawnSync('readelf', ['-lW', path], { encoding: 'utf8' });
  const line = /LOAD\s+(0x\w+) (0x\w+) 0x\w+ (0x\w+) 0x\w+ R E/.exec(stdout);
  assert.ok(line, stdout);
  const [, offset = '', virtual = '', size = ''] = line;
  const fileEnd = Number(offset) + Number(size);
  const text = readMaps(pid).find((mapping) => mapping.executable && mapping.path === path);
  assert.ok(text);
  const bias = text.start - (BigInt(virtual) - (BigInt(virtual) % 4096n));
  const start = (bias + BigInt(virtual) + BigInt(size) + 15n) & ~15n;
  const skipped = Number(start - (bias + BigInt(virtual) + BigInt(size)));
  const original = new Uint8Array(4096 - Number(start % 4096n));
  original.set(
    readFileSync(path)
      .subarray(fileEnd + skipped)
      .subarray(0, original.byteLength),
  );
  return [{ address: address(start), original }];
}
