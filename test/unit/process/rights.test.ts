import assert from 'node:assert/strict';
import { chmodSync, chownSync, copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';

import { tid } from '../../../src/base/brand.ts';
import { pathFrom, rightToGain } from '../../../src/process/rights.ts';
import { feature, skipUnless } from '../../harness/features.ts';

const folder = mkdtempSync(join(tmpdir(), 'trapline-rights-'));
after(() => rmSync(folder, { recursive: true }));
const task = tid(process.pid);

/** A program that gives rights: root has them all, so another user's for it. */
function privileged(): { readonly path: string; readonly right: string } {
  if (!feature('root').present) return { path: '/usr/bin/passwd', right: 'set-user-ID 0' };
  const path = join(folder, 'privileged');
  copyFileSync('/bin/true', path);
  chownSync(path, 65534, 0);
  chmodSync(path, 0o4755);
  return { path, right: 'set-user-ID 65534' };
}

function script(interpreter: string, mode: number): string {
  const path = join(folder, `script-${mode.toString(8)}`);
  writeFileSync(path, `#! ${interpreter} -x\n`);
  chmodSync(path, mode);
  return path;
}

test('a set-user-ID program gives its owner’s rights, and so does a script that it interprets', (context) => {
  if (skipUnless(context, 'set-user-ID')) return;
  const { path, right } = privileged();
  assert.equal(rightToGain(path, task), right);
  assert.equal(rightToGain(script(path, 0o755), task), right);
});

test('the bits of a script give nothing, nor does what can’t be executed', () => {
  assert.equal(rightToGain('/bin/true', task), undefined);
  assert.equal(rightToGain(script('/bin/sh', 0o4755), task), undefined);
  assert.equal(rightToGain(script('/bin/sh', 0o644), task), undefined);
  assert.equal(rightToGain(folder, task), undefined);
  assert.equal(rightToGain(join(folder, 'absent'), task), undefined);
  assert.equal(rightToGain('', task), undefined);
});

test('a task’s paths are reached through its root, its own files through itself', () => {
  assert.equal(pathFrom(task, '/proc/9/cwd', '/bin/a'), `/proc/${task}/root/bin/a`);
  assert.equal(pathFrom(task, '/proc/9/cwd', './a'), '/proc/9/cwd/./a');
  assert.equal(pathFrom(task, '/proc/9/cwd', '/proc/self/exe'), `/proc/${task}/exe`);
});
