/** Functions whose faults are handled by where they happen: what may fault there is not moved. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

import { explain } from '../../src/index.ts';
import { skipUnless } from '../harness/features.ts';
import { compileFixture } from '../harness/fixtures.ts';
import { run } from './cli-support.ts';

function compiled(...flags: readonly string[]): string {
  return compileFixture({ sources: ['faults-caught.cc'], flags: ['-O1', ...flags] });
}

/** The instructions of a function, as definitions: those that can be probed, and those that can't, with the reasons. */
async function placesOf(
  name: string,
  path: string,
): Promise<{ readonly taken: string[]; readonly refused: Map<string, string> }> {
  const [whole] = await explain(`${name}@${path}`);
  assert.ok(whole !== undefined);
  const { start, end } = whole.function ?? assert.fail(`no ${name}`);
  const taken: string[] = [];
  const refused = new Map<string, string>();
  for (let offset: number | undefined = start; offset !== undefined && offset < end;) {
    const place = `${path}:0x${offset.toString(16)}`;
    const [explained] = await explain(place);
    assert.ok(explained !== undefined);
    if (explained.refused === undefined) taken.push(place);
    else refused.set(place, explained.refused);
    const at = explained.code.findIndex((one) => one.offset === offset);
    offset = explained.code[at + 1]?.offset;
  }
  return { taken, refused };
}

/** What a program prints is the same with all probes, and with every second one. */
async function assertUnchanged(
  path: string,
  out: string,
  places: readonly string[],
): Promise<void> {
  for (const skipped of [undefined, 0, 1]) {
    const chosen = places.filter((_, at) => at % 2 !== skipped);
    const traced = await run('trace', '--count', ...chosen, '--', path);
    assert.deepEqual([traced.status, traced.out], [0, out], chosen.join(' '));
  }
}

test('what a handler throws is caught, wherever the function that catches it is probed', async () => {
  const path = compiled('-fnon-call-exceptions');
  const plain = spawnSync(path, { encoding: 'utf8' });
  assert.deepEqual([plain.status, plain.stdout], [0, '100\n']);
  const { taken, refused } = await placesOf('caught', path);
  assert.match([...refused.values()].join('\n'), /may fault would be moved/);
  assert.ok(taken.length > 3, `${taken.length} places`);
  await assertUnchanged(path, plain.stdout, taken);
});

test('a panic of Go is recovered from, wherever its function is probed', async (context) => {
  if (skipUnless(context, 'go')) return;
  const path = compileFixture({ sources: ['faults-caught.go'], name: 'faults-caught-go' });
  const plain = spawnSync(path, { encoding: 'utf8' });
  assert.deepEqual([plain.status, plain.stdout], [0, '40\n']);
  const { taken, refused } = await placesOf('main.read', path);
  assert.match([...refused.values()].join('\n'), /may fault would be moved, and Go panics/);
  assert.ok(taken.length > 3, `${taken.length} places`);
  await assertUnchanged(path, plain.stdout, taken);
});

test('where only what is called may throw, what may fault is moved', async () => {
  const path = compiled();
  for (const name of ['caught', 'called']) {
    const { refused } = await placesOf(name, path);
    assert.doesNotMatch([...refused.values()].join('\n'), /may fault/);
  }
});
