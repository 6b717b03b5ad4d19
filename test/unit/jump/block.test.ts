/** A control block that is read while another session changes it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { address, type Address } from '../../../src/base/brand.ts';
import { ControlBlock, type ReadMemory } from '../../../src/engines/jump/block.ts';
import type { CodeWrite } from '../../../src/engines/jump/writes.ts';
import { CONTROL_BYTES, CONTROL_NAME } from '../../../src/process/control.ts';
import type { SiteRow } from '../../../src/process/control-rows.ts';
import { asMapping, type MemoryMapping } from '../../../src/process/maps.ts';

const BLOCK = address(0x10_0000_0000n);
const ARENA = address(0x20_0000_0000n);
const TEXT = address(0x20_0001_0000n);
const ARENA_BYTES = 0x1_0000;
const path = `/memfd:${CONTROL_NAME}`;
const MAPS: readonly MemoryMapping[] = [
  { ...asMapping(BLOCK, CONTROL_BYTES), path, inode: 7n },
  { ...asMapping(ARENA, ARENA_BYTES), path, inode: 7n, executable: true },
];

function site(number: number): Omit<SiteRow, 'index'> {
  const stub = address(ARENA + BigInt(number * 64));
  return {
    state: 'live',
    method: 'jump',
    address: address(TEXT + BigInt(number * 16)),
    patchBytes: 5,
    prefixBytes: 0,
    via: undefined,
    stub,
    stubBytes: 64,
    displacedBytes: 5,
    displaced: address(stub + 32n),
    list: address(stub + 8n),
    epilogue: address(stub + 16n),
    redZone: 128,
    counter: undefined,
    isRaised: false,
    fileOffset: number * 16,
    deviceMajor: 1,
    deviceMinor: 1,
    inode: 9n,
  };
}

/** A process's block in memory. */
class Memory {
  readonly bytes = new Uint8Array(CONTROL_BYTES);

  write({ address: at, bytes }: CodeWrite): void {
    this.bytes.set(bytes, Number(at - BLOCK));
  }

  readonly read: ReadMemory = (from: Address, length: number) =>
    this.bytes.slice(Number(from - BLOCK), Number(from - BLOCK) + length);

  get block(): ControlBlock {
    return ControlBlock.read(MAPS, this.read);
  }
}

/** A block with some sites. */
function memoryWith(sites: number): Memory {
  const memory = new Memory();
  const block = ControlBlock.empty();
  block.address = BLOCK;
  block.addArena({ address: ARENA, bytes: ARENA_BYTES, isExact: false });
  for (let number = 0; number < sites; number++) block.addSite(site(number));
  for (const write of block.takeWrites()) memory.write(write);
  return memory;
}

const CHANGES: Readonly<Record<string, (block: ControlBlock) => void>> = {
  'a site is added': (block) => void block.addSite(site(3)),
  'a site is taken out': (block) => block.remove('sites', 2),
  'the last is taken out and another one comes': (block) => {
    block.remove('sites', 2);
    block.addSite(site(5));
  },
};

for (const [what, change] of Object.entries(CHANGES)) {
  test(`${what} while it is read: what was read is whole, or of another generation`, () => {
    // Before each of the reader's reads so many of the writes have been made; the others behind it.
    let cases = 0;
    for (let reading = 0, isDone = false; !isDone; reading++) {
      for (let before = 0, writes = Infinity; before <= writes; before++) {
        const memory = memoryWith(3);
        const other = memory.block;
        change(other);
        const made = other.takeWrites();
        writes = made.length;
        let reads = 0;
        const read: ReadMemory = (from, length) => {
          if (reads++ === reading) for (const write of made.slice(0, before)) memory.write(write);
          return memory.read(from, length);
        };
        const found = ControlBlock.read(MAPS, read);
        isDone = reads <= reading;
        if (isDone) break;
        for (const write of made.slice(before)) memory.write(write);
        cases++;
        const now = memory.block;
        if (found.generation !== now.generation) continue;
        assert.deepEqual(
          [...found.sites.values()],
          [...now.sites.values()],
          `${reading}, ${before}`,
        );
      }
    }
    assert.ok(cases >= 12, `${cases} cases`);
  });
}
