/**
 * Announcing: a task tells the session that it is here, and waits for the answer. Slow, and rare: no context is
 * needed, nothing is counted, and what a hit does depends on no ring.
 *
 * Nothing that the session does, or fails to do, holds the task for longer than {@link ANNOUNCEMENT_PATIENCE}, or, where
 * it has heard the announcement, ten times that: a session that is gone is not waited for, one that dies meanwhile until
 * the end of the turn, and one that was waited for in vain (it is suspended, or far behind) not again before it
 * has answered that announcement.
 */

import { address, type Address } from '../../base/brand.ts';
import { Announced, ANNOUNCED_BYTES, ANNOUNCEMENTS, SegmentHeader } from '../../events/layout.ts';
import type { Assembler } from '../../x64/assembler.ts';
import { mem, type Label, type Memory } from '../../x64/operands.ts';
import type { ProgramParts } from './emit-context.ts';
import { emitRestoreMore, emitSaveMore } from './frame.ts';
import { StubCall } from './runtime.ts';

/** For how long a task waits until the session has heard it, in nanoseconds. */
export const ANNOUNCEMENT_PATIENCE = 500_000_000;
/** For how much longer it waits for one that has: that is not suspended, but has much to do. */
const HEARD_PATIENCE = 4_500_000_000n;
/** After so many nanoseconds of waiting it looks whether the session lives. */
const TURN = 10_000_000;

/** futex(2), between processes: no FUTEX_PRIVATE_FLAG. */
const FUTEX_WAIT = 0;
const FUTEX_WAKE = 1;
const EVERYBODY = 0x7fff_ffff;
const CLOCK_MONOTONIC = 1;
const SECOND = 1_000_000_000;
/** struct timespec on the stack. */
const TIMESPEC_BYTES = 16;
/** From rsp to the frame, while an announcement is made: the timespec, and the registers pushed before. */
const TO_FRAME = TIMESPEC_BYTES + 3 * 8;

/**
 * Announces the task, and waits. Falls through, or goes to `leave`; changes no register but those of the stub's frame.
 *
 * Kept across calls: ebx the announcement's number, r12 when the wait ends.
 */
export function emitAnnouncement(code: Assembler, parts: ProgramParts, leave: Label): void {
  const { segment } = parts.session;
  const word = (offset: number): Address => address(segment + BigInt(offset));
  emitPassing(code, parts, leave);
  emitHeard(code, word, leave);
  emitSaveMore(code);
  code.push('r10').push('rbx').push('r12');
  code.lea('rsp', mem({ base: 'rsp', displacement: -TIMESPEC_BYTES }));
  emitAnnounce(code, parts, word);
  emitWait(code, parts, word);
  code.lea('rsp', mem({ base: 'rsp', displacement: TIMESPEC_BYTES }));
  code.pop('r12').pop('rbx').pop('r10');
  emitRestoreMore(code);
}

function emitPassing(code: Assembler, { program, site }: ProgramParts, leave: Label): void {
  if (program.passesWhile === undefined) return;
  code.mov('rax', address(site + program.passesWhile));
  code.cmp(mem({ base: 'rax', width: 4 }), 0).jcc('ne', leave, 'near');
}

/** Where more are served than were announced, nobody listens: before the session is there, and when it is about to go. */
function emitHeard(code: Assembler, word: (offset: number) => Address, leave: Label): void {
  code.mov('rdx', word(SegmentHeader.announced)).mov('eax', mem({ base: 'rdx', width: 4 }));
  code.sub('eax', mem({ base: 'rdx', displacement: SERVED_FROM_ANNOUNCED, width: 4 }));
  code.jcc('s', leave, 'near');
}

/** Takes a number, says who has it, and wakes the session. */
function emitAnnounce(
  code: Assembler,
  { consumer }: ProgramParts,
  word: (offset: number) => Address,
): void {
  code.mov('eax', StubCall.getpid).syscall().mov('edi', 'eax');
  code.mov('eax', StubCall.gettid).syscall().mov('esi', 'eax');
  code.mov('rdx', word(SegmentHeader.announced)).mov('ebx', 1);
  code.lock().xadd(mem({ base: 'rdx', width: 4 }), 'ebx');
  code.mov('eax', 'ebx').and('eax', ANNOUNCEMENTS - 1);
  code.shl('eax', Math.log2(ANNOUNCED_BYTES));
  code.mov('rdx', word(SegmentHeader.announcements)).add('rdx', 'rax');
  code.inc('ebx');
  code.mov(entry(Announced.pid), 'edi').mov(entry(Announced.tid), 'esi');
  code.mov(entry(Announced.consumer), consumer);
  code.lea('rax', mem({ base: 'rsp', displacement: TO_FRAME }));
  code.mov(mem({ base: 'rdx', displacement: Announced.frame }), 'rax');
  code.mov(entry(Announced.number), 'ebx');
  code.mov('rdi', word(SegmentHeader.announced)).mov('esi', FUTEX_WAKE).mov('edx', EVERYBODY);
  code.mov('eax', StubCall.futex).syscall();
}

/** A number of the announcement that rdx leads to. */
function entry(displacement: number): Memory {
  return mem({ base: 'rdx', displacement, width: 4 });
}

/** Waits until the announcement is served, unless an earlier one was in vain and still is not. */
function emitWait(
  code: Assembler,
  { session }: ProgramParts,
  word: (offset: number) => Address,
): void {
  const again = code.label('again');
  const done = code.label('done');
  const hopeless = code.label('hopeless');
  code.mov('rdi', word(SegmentHeader.served)).mov('eax', mem({ base: 'rdi', width: 4 }));
  code.sub('eax', mem({ base: 'rdi', displacement: UNSERVED_FROM_SERVED, width: 4 }));
  code.jcc('s', done, 'near');
  emitTime(code);
  code.lea('r12', mem({ base: 'rax', displacement: ANNOUNCEMENT_PATIENCE }));
  code.bind(again);
  code.mov('rcx', session.liveness);
  code.test(mem({ base: 'rcx', displacement: 3, width: 1 }), 0x40).jcc('ne', done, 'near');
  code.mov('rdi', word(SegmentHeader.served)).mov('edx', mem({ base: 'rdi', width: 4 }));
  code.mov('eax', 'edx').sub('eax', 'ebx').jcc('ns', done, 'near');
  code.mov(mem({ base: 'rsp', width: 8 }), 0);
  code.mov(mem({ base: 'rsp', displacement: 8, width: 8 }), TURN);
  code.mov('r10', 'rsp').mov('esi', FUTEX_WAIT);
  code.mov('eax', StubCall.futex).syscall();
  // A clock, not turns: signals end them early, as often as they come, and a stop makes them longer.
  emitTime(code);
  code.cmp('rax', 'r12').jcc('b', again, 'near');
  code.mov('rdi', word(SegmentHeader.heard)).mov('ecx', mem({ base: 'rdi', width: 4 }));
  code.sub('ecx', 'ebx').jcc('s', hopeless, 'near');
  code.mov('rcx', HEARD_PATIENCE).add('rcx', 'r12');
  code.cmp('rax', 'rcx').jcc('b', again, 'near');
  code.bind(hopeless);
  code.mov('rdi', word(SegmentHeader.unserved)).mov(mem({ base: 'rdi', width: 4 }), 'ebx');
  code.bind(done);
}

const SERVED_FROM_ANNOUNCED = SegmentHeader.served - SegmentHeader.announced;
const UNSERVED_FROM_SERVED = SegmentHeader.unserved - SegmentHeader.served;

/** The time of the clock into rax, in nanoseconds. Clobbers rcx, rdi, rsi, r11, and the timespec. */
function emitTime(code: Assembler): void {
  code.mov('edi', CLOCK_MONOTONIC).mov('rsi', 'rsp');
  code.mov('eax', StubCall.clockGettime).syscall();
  code.imul('rax', mem({ base: 'rsp', width: 8 }), SECOND);
  code.add('rax', mem({ base: 'rsp', displacement: 8, width: 8 }));
}
