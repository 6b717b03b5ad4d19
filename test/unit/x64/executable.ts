/** Code in memory of this very process: the processor is the oracle. A wrong byte ends the test run. */

import koffi from 'koffi';
import { address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { mem } from '../../../src/x64/operands.ts';
import { REGISTERS, type Register64 } from '../../../src/x64/registers.ts';

const libc = koffi.load('libc.so.6');
const mmap = libc.func(
  'void *mmap(void *at, size_t length, int prot, int flags, int fd, int64_t o)',
);
const mprotect = libc.func('int mprotect(void *at, size_t length, int protection)');
const dlsym = libc.func('void *dlsym(void *handle, const char *name)');
const callTwo = koffi.proto('uint64_t (uint64_t, uint64_t)');

/** Bytes at a fixed place that can be written and executed; kept until the process ends. */
export interface Region {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

/** Maps a region at exactly `at`, which no program of ours uses. */
export function mapRegion(at: bigint, length: number): Region {
  const region = tryMap(at, length);
  if (region === undefined) throw new Error(`no memory at 0x${at.toString(16)}`);
  return region;
}

/** Maps memory at exactly `at`, which no program of ours uses, that can be written and not executed. */
export function mapData(at: bigint, length: number): Uint8Array {
  const region = mapRegion(at, length);
  if (mprotect(at, length, 3) !== 0) throw new Error(`no data at 0x${at.toString(16)}`);
  return region.bytes;
}

function tryMap(at: bigint, length: number): Region | undefined {
  const flags = 0x2 | 0x20 | 0x100000; // MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
  // mmap returns a pointer, which the FFI hands out as a bigint
  const got = mmap(at, length, 7, flags, -1, 0) as bigint;
  return got === at ? { address: got, bytes: new Uint8Array(koffi.view(got, length)) } : undefined;
}

/** Maps a region somewhere within 2 GB of an address. */
export function mapNear(at: bigint, length: number): Region {
  const page = at - (at & 0xfffn);
  for (let distance = 1n << 24n; distance < 1n << 30n; distance += 1n << 24n) {
    for (const candidate of [page - distance, page + distance]) {
      const region = tryMap(candidate, length);
      if (region !== undefined) return region;
    }
  }
  throw new Error(`no memory near 0x${at.toString(16)}`);
}

/** Calls code with two integer arguments. */
export function callCode(at: bigint, first: bigint, second: bigint): bigint {
  // the prototype returns uint64_t, which comes as a number while it is small
  return BigInt(koffi.call(at, callTwo, first, second) as bigint | number);
}

/** Where a function of libc lies in this process. */
export function libcFunction(name: string): bigint {
  const at = dlsym(null, name) as bigint | null; // a pointer, or null
  if (at === null) throw new Error(`libc has no ${name}`);
  return at;
}

/** A view of memory of this process. */
export function viewMemory(at: bigint, length: number): Uint8Array {
  return new Uint8Array(koffi.view(at, length));
}

export const SAVED: readonly Register64[] = ['rbx', 'rbp', 'r12', 'r13', 'r14', 'r15'];
const others = REGISTERS.map((names) => names[8]).filter((register) => register !== 'rsp');

/** Words of a machine state: fifteen registers in encoding order without rsp, then the flags. */
export const STATE_WORDS = 16;

/**
 * A function (code, state) that calls `code` with the registers and flags in `state`, and writes
 * them back as `code` leaves them.
 */
export function assembleHarness(at: bigint): Uint8Array {
  const code = new Assembler(address(at));
  const state = code.label('state');
  const goal = code.label('goal');
  for (const register of SAVED) code.push(register);
  code.mov(mem({ target: goal }), 'rdi').mov(mem({ target: state }), 'rsi');
  code.push(mem({ base: 'rsi', displacement: 15 * 8 })).mov('rax', 'rsi');
  for (const [index, register] of others.entries()) {
    if (register !== 'rax') code.mov(register, mem({ base: 'rax', displacement: index * 8 }));
  }
  code
    .mov('rax', mem({ base: 'rax' }))
    .popfq()
    .call(mem({ target: goal }))
    .pushfq();
  code.push('rax').mov('rax', mem({ target: state }));
  for (const [index, register] of others.entries()) {
    if (register !== 'rax') code.mov(mem({ base: 'rax', displacement: index * 8 }), register);
  }
  code.pop('rcx').mov(mem({ base: 'rax' }), 'rcx');
  code
    .pop('rcx')
    .mov(mem({ base: 'rax', displacement: 15 * 8 }), 'rcx')
    .cld();
  for (const register of SAVED.toReversed()) code.pop(register);
  code.ret().align(8).bind(state).u64(0n).bind(goal).u64(0n);
  return code.finish();
}
