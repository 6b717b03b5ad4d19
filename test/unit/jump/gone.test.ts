/** Places whose text has gone, as mappings show it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { isPlaceThere, type MappedPlace } from '../../../src/engines/jump/gone.ts';
import { parseMaps } from '../../../src/process/maps.ts';

const PLACE: MappedPlace = {
  address: address(0x7f00_0000_1140n),
  fileOffset: 0x1140,
  deviceMajor: 0xfe,
  deviceMinor: 1,
  inode: 42n,
};

/** What a line of maps makes of the place. */
const CASES: readonly [line: string, isThere: boolean, why: string][] = [
  ['7f0000001000-7f0000002000 r-xp 00001000 fe:01 42 /lib', true, 'as it was'],
  ['7f0000000000-7f0000004000 r-xp 00000000 fe:01 42 /lib', true, 'joined with its neighbours'],
  ['7f0000001000-7f0000002000 ---p 00001000 fe:01 42 /lib', true, 'not executable at the moment'],
  ['7f0000001000-7f0000002000 r-xp 00002000 fe:01 42 /lib', false, 'other bytes of the same file'],
  ['7f0000001000-7f0000002000 r-xp 00001000 fe:02 42 /lib', false, 'the same number elsewhere'],
  ['7f0000001000-7f0000002000 r-xp 00001000 fe:01 43 /lib', false, 'another file'],
  ['7f0000001000-7f0000002000 rw-p 00000000 00:00 0 ', false, 'no file'],
  ['7f0000002000-7f0000003000 r-xp 00001000 fe:01 42 /lib', false, 'moved'],
];

for (const [line, isThere, why] of CASES) {
  test(`a place is ${isThere ? 'there' : 'gone'}: ${why}`, () => {
    assert.equal(isPlaceThere(parseMaps(`${line}\n`), PLACE), isThere);
  });
}
