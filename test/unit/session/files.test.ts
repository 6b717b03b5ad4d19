/** Files that targets map are read once, and again when the same number means another file. */

import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

import { pid } from '../../../src/base/brand.ts';
import { findMapping, readMaps } from '../../../src/process/maps.ts';
import { FileCache } from '../../../src/session/files/files.ts';
import { mapMemory, Protection } from '../../../src/sys/mapping.ts';

test('a file that was written over is read again, any other is not', () => {
  const folder = mkdtempSync(join(tmpdir(), 'trapline-files-'));
  try {
    const path = join(folder, 'program');
    copyFileSync('/bin/ls', path);
    const fd = openSync(path, 'r');
    using memory = mapMemory(4096, { fd, protection: Protection.read });
    closeSync(fd);
    const own = pid(process.pid);
    const mapping = findMapping(readMaps(own), memory.address);
    assert.equal(mapping?.path, path);
    const files = new FileCache();
    const first = files.open(own, mapping);
    assert.equal(files.open(own, mapping), first);
    // The same inode and size: when it was written tells.
    const changed = readFileSync(path);
    changed[changed.length - 1] = (changed.at(-1) ?? 0) ^ 1;
    writeFileSync(path, changed);
    utimesSync(path, 1000, 1000);
    const second = files.open(own, mapping);
    assert.notEqual(second, first);
    assert.ok(changed.equals(second.elf.bytes));
    assert.equal(files.open(own, mapping), second);
    // Gone: what was read is what the process still has.
    rmSync(path);
    assert.equal(files.open(own, mapping), second);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
