import assert from 'node:assert/strict';
import { test } from 'node:test';

import { placeColumns } from '../../../src/probe/place-columns.ts';

test('where the file and the offset stand in a definition', () => {
  const cases: readonly (readonly [string, string, string, string])[] = [
    ['zfree@/bin/zsh %di', 'zfree', '/bin', '/bin'],
    ['zfree+0x8@/bin/zsh', 'zfree', '/bin', '0x8'],
    ["f@'/no such'", 'f', '/no', '/no'],
    ['memcpy@GLIBC_2.14@libc.so.6', 'memcpy', 'libc', 'libc'],
    ['/bin/zsh:0x1000(0x20)', '/bin', '/bin', '0x1000'],
    ['p:g/e /a:b@c:0x10 %di', '/a:b', '/a:b', '0x10'],
    ['  1234:0x55d0', '1234', '1234', '0x55d0'],
    ['fe:01:77:0x55d0', 'fe:', 'fe:', '0x55d0'],
  ];
  for (const [text, place, file, offset] of cases) {
    const [first, second, third] = [place, file, offset].map((part) => text.indexOf(part));
    assert.deepEqual(placeColumns(text), { place: first, file: second, offset: third }, text);
  }
});
