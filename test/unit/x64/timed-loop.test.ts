/** The loop that times code, executed. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { mem } from '../../../src/x64/operands.ts';
import { REGISTERS } from '../../../src/x64/registers.ts';
import { timedLoop } from '../../../src/x64/timed-loop.ts';
import { callCode, mapRegion } from './executable.ts';

const REGION = 0x2300_0000_0000n;
const [SITE, LOOP, TICKS] = [REGION, REGION + 0x400n, REGION + 0x1000n];
const HITS = 1000;

test('every register points at memory at each hit, and all hits are timed', () => {
  const { bytes } = mapRegion(REGION, 0x2000);
  // Counts hits in the word behind the ticks, and registers that point elsewhere in the next.
  const site = new Assembler(address(SITE));
  site.inc(mem({ base: 'rdi', displacement: 8, width: 8 }));
  for (const { 8: name } of REGISTERS) {
    if (name === 'rsp') continue;
    const right = site.label(name);
    site.cmp(name, 'rdi').jcc('e', right);
    site.inc(mem({ base: 'rdi', displacement: 16, width: 8 })).bind(right);
  }
  bytes.set(site.ret().finish());
  bytes.set(timedLoop(address(LOOP), address(SITE), HITS), Number(LOOP - REGION));
  callCode(LOOP, TICKS, 0n);
  const view = new DataView(bytes.buffer, bytes.byteOffset + Number(TICKS - REGION), 24);
  const [ticks, hits, elsewhere] = [0, 8, 16].map((at) => view.getBigUint64(at, true));
  assert.deepEqual({ hits, elsewhere }, { hits: BigInt(HITS), elsewhere: 0n });
  assert.ok(ticks !== undefined && ticks > 0n && ticks < 1n << 40n, `${ticks} ticks`);
});
