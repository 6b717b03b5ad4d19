import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address, fileOffset } from '../../../src/base/brand.ts';
import { refusedLater } from '../../../src/session/probes/refusals.ts';
import type { ProbedSite } from '../../../src/session/types.ts';

const PUN = 'pun: no memory can be had where it would lead';
const definition = '*@libc.so.6';

function siteIn(pid: number): ProbedSite {
  return {
    pid,
    event: 'probe_libc:read',
    name: 'read',
    file: '/lib/libc.so.6',
    offset: fileOffset(0x1000),
    address: address(0x7f0000001000n),
    method: 'jump',
    displacedBytes: 5,
  };
}

function refusedIn(pid: number, name: string, reason: string) {
  return { pid, name, file: '/lib/libc.so.6', reason };
}

test('a process that lacks some places of a probe is said to lack those, once for each reason', () => {
  const told = new Set<string>();
  const tell = (pid: number, ...refused: [name: string, reason: string][]): string[] => {
    const all = refused.map(([name, reason]) => refusedIn(pid, name, reason));
    return refusedLater({ definition, sites: [siteIn(pid), siteIn(pid)] }, all, told);
  };
  assert.deepEqual(tell(7, ['a', PUN], ['b', PUN]), [
    `*@libc.so.6 lacks 2 of 4 places in process 7: 2 × ${PUN} (a)`,
  ]);
  assert.deepEqual(tell(8, ['a', PUN], ['c', PUN]), []);
  assert.deepEqual(tell(9, ['a', PUN], ['d', 'a branch leads to 0x123']), [
    '*@libc.so.6 lacks 1 of 4 places in process 9: a branch leads to 0x123',
  ]);
  assert.deepEqual(tell(10, ['d', 'a branch leads to 0x456']), []);
});

test('a process that has nothing of a probe is told of, whatever was told of others', () => {
  const told = new Set([PUN]);
  for (const pid of [7, 8]) {
    assert.deepEqual(
      refusedLater({ definition, sites: [siteIn(1)] }, [refusedIn(pid, 'a', PUN)], told),
      [`*@libc.so.6 is not in process ${pid}: ${PUN}`],
    );
  }
});
