/** Code that times other code: measured is what runs in targets, in our own process. */

import type { Address } from '../base/brand.ts';
import { Assembler } from './assembler.ts';
import { mem } from './operands.ts';
import type { Register64 } from './registers.ts';

/** The registers that a C function must keep (psABI, figure 3.4); the loop points all others at memory. */
const KEPT: readonly Register64[] = ['rbx', 'rbp', 'r12', 'r13', 'r14', 'r15'];
const POINTERS: readonly Register64[] = [
  'rax',
  'rcx',
  'rdx',
  'rsi',
  'r8',
  'r9',
  'r10',
  'r11',
  ...KEPT,
];

/**
 * `void (u64 *ticks)`: calls `site` `hits` times and stores the ticks of the time stamp counter that all of it took.
 * @param origin where the caller will put the code
 * @param site code in reach of `origin` that returns with all registers as they were
 */
export function timedLoop(origin: Address, site: Address, hits: number): Uint8Array {
  const code = new Assembler(origin);
  for (const register of KEPT) code.push(register);
  code.push('rdi');
  code.rdtsc().shl('rdx', 32).or('rax', 'rdx').push('rax');
  code.mov('eax', hits).push('rax');
  // Programs follow pointers: let every register hold one that can be read.
  for (const register of POINTERS) code.mov(register, 'rdi');
  const again = code.boundLabel('again');
  code
    .call(site)
    .dec(mem({ base: 'rsp', width: 8 }))
    .jcc('ne', again);
  code.rdtsc().shl('rdx', 32).or('rax', 'rdx').pop('rcx').pop('rcx').sub('rax', 'rcx');
  code.pop('rdi').mov(mem({ base: 'rdi' }), 'rax');
  for (const register of KEPT.toReversed()) code.pop(register);
  return code.ret().finish();
}
