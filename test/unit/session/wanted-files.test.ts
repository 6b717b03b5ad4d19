/** Thousands of probes may name one file: it is looked for once. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { parseDefinition } from '../../../src/probe/definition.ts';
import { readMaps } from '../../../src/process/maps.ts';
import { filesNamed } from '../../../src/session/files/file-names.ts';
import { FileCache } from '../../../src/session/files/files.ts';
import { WantedFiles } from '../../../src/session/walks/wanted-file.ts';
import { ownPid } from '../../../src/sys/signals.ts';

test('locations in one file share what was found of it, others do not', () => {
  const wanted = new WantedFiles(new FileCache());
  const of = (definition: string): unknown => wanted.of(parseDefinition(definition).location);
  const one = of('malloc@/no/such/file');
  assert.equal(of('p:a/b /no/such/file:0x1234'), one);
  assert.equal(of('free*@/no/such/file'), one);
  assert.notEqual(of('malloc@/no/such/other'), one);
  assert.notEqual(of('1:0x1000'), of('1:0x2000'));
});

test('what a name means among mappings is worked out once for one reading of them', () => {
  const files = new FileCache();
  const maps = readMaps(ownPid());
  const found = filesNamed(ownPid(), maps, 'libc.so.6', files);
  assert.equal(found.length, 1);
  assert.equal(filesNamed(ownPid(), maps, 'libc.so.6', files), found);
  const again = filesNamed(ownPid(), readMaps(ownPid()), 'libc.so.6', files);
  assert.notEqual(again, found);
  assert.deepEqual(again, found);
  // Each mapping of it is found once, however many ask.
  const file = new WantedFiles(files).of(parseDefinition('malloc@libc.so.6').location);
  const process = { pid: ownPid(), maps };
  assert.equal(file.mappingsIn(process), file.mappingsIn(process));
  assert.ok(file.mappingsIn(process).length > 0);
});
