/** The time of an event, as a stub reads it. */

import type { EventClock } from '../../sys/clock.ts';
import type { Assembler } from '../../x64/assembler.ts';
import { mem } from '../../x64/operands.ts';

const SYS_CLOCK_GETTIME = 228;
const CLOCK_MONOTONIC = 1;
const NANOSECONDS = 1_000_000_000;

/**
 * Reads the clock into rax: the time stamp counter, or nanoseconds of CLOCK_MONOTONIC by a system call
 * of the target's own. Clobbers rdx, and rdi and r11 with the second.
 */
export function emitTime(code: Assembler, clock: EventClock): void {
  if (clock === 'counter') {
    code.rdtsc().shl('rdx', 32).or('rax', 'rdx');
    return;
  }
  // The call takes rcx and r11. Should it fail, the time is 0: the reader puts that first.
  code.push('rcx').push('rsi').mov('eax', 0).push('rax').push('rax');
  code.mov('edi', CLOCK_MONOTONIC).mov('rsi', 'rsp').mov('eax', SYS_CLOCK_GETTIME).syscall();
  code.pop('rax').imul('rax', 'rax', NANOSECONDS);
  code
    .add('rax', mem({ base: 'rsp' }))
    .pop('rdx')
    .pop('rsi')
    .pop('rcx');
}
