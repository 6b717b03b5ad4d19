/** The bell's thread: machine code, see {@link bellCode}, and the memory that it shares with us. */

import type { Address } from '../../base/brand.ts';
import { SegmentHeader } from '../../events/layout.ts';
import { Assembler } from '../../x64/assembler.ts';
import { mem, type Label, type Memory } from '../../x64/operands.ts';
import type { Register64 } from '../../x64/registers.ts';

/** The page that we and the thread have in common. */
export const BellPage = {
  /** u32: counts up, and is woken, whenever there is something new below. */
  number: 0,
  /** u32: the number up to which the thread has taken notice. It looks at no older table. */
  taken: 4,
  /** u32: not 0 when the thread is to end. */
  isEnding: 8,
  /** u32: where it writes a byte when something was announced or taken notice of. It closes that. */
  writer: 12,
  /** u64: the address of the table. */
  table: 16,
  /** The thread's name, 16 bytes. */
  name: 24,
  /** struct timespec: how long it sleeps after it has rung. */
  pause: 40,
  /** struct timespec: how long it sleeps where it can't wait for the words. */
  poll: 56,
  /** The byte that it writes. */
  message: 72,
} as const;

/**
 * The table: u64, the number of its entries, and then these, each a struct futex_waitv (include/uapi/linux/futex.h).
 * The first is the page's own number; the others are the announcements of sources.
 */
export const BellTable = {
  entries: 8,
  entryBytes: 24,
  /** u64: what the word held when it was looked at. */
  value: 0,
  /** u64 */
  address: 8,
  /** u32 */
  flags: 16,
} as const;

/** So many words can be waited for at once (FUTEX_WAITV_MAX). */
const MOST_WORDS = 128;
const PR_SET_NAME = 15;
const SystemCall = { write: 1, close: 3, nanosleep: 35, prctl: 157, futexWaitv: 449 } as const;
const Errno = { interrupted: -4, again: -11, brokenPipe: -32 } as const;

/** Those of the registers that a C function must keep (psABI, figure 3.4) that the code uses. */
const KEPT: readonly Register64[] = ['rbx', 'rbp', 'r12', 'r13'];
const HEARD_FROM_ANNOUNCED = SegmentHeader.heard - SegmentHeader.announced;

/** A field of the page. */
function page(displacement: number): Memory {
  return mem({ base: 'rbx', displacement, width: 4 });
}

/** A field of the table's entry that rdx leads to. */
function entry(displacement: number): Memory {
  return mem({ base: 'rdx', displacement, width: 8 });
}

/**
 * `void *(BellPage *)`. It waits until a word of the table changes, and takes notice: of an announcement it says in the
 * segment that it was heard, which has who announced it wait for longer, whatever our main thread does meanwhile; then it
 * writes a byte for that thread. It ends when it is told to, or nobody reads any more: a broken pipe.
 *
 * rbx: the page; rbp: the table; r12: the page's number; r13: whether to ring.
 */
export function bellCode(origin: Address): Uint8Array {
  const code = new Assembler(origin);
  const end = code.label('end');
  for (const register of KEPT) code.push(register);
  code.mov('rbx', 'rdi');
  code.mov('edi', PR_SET_NAME).lea('rsi', page(BellPage.name));
  code.mov('eax', SystemCall.prctl).syscall();
  const again = code.boundLabel('again');
  emitTakeNotice(code, end);
  emitLook(code);
  emitRing(code, end);
  emitWait(code, again);
  code.bind(end);
  code.mov('edi', page(BellPage.writer)).mov('eax', SystemCall.close).syscall();
  for (const register of KEPT.toReversed()) code.pop(register);
  return code.ret().finish();
}

/** The number first, then what it stands for: what comes in between has a number of its own. */
function emitTakeNotice(code: Assembler, end: Label): void {
  const known = code.label('known');
  code.mov('r12d', page(BellPage.number));
  code.cmp(page(BellPage.isEnding), 0).jcc('ne', end);
  code.mov('rbp', mem({ base: 'rbx', displacement: BellPage.table }));
  code.xor('r13d', 'r13d');
  code.cmp(page(BellPage.taken), 'r12d').jcc('e', known);
  code.mov(page(BellPage.taken), 'r12d').inc('r13d');
  code.bind(known);
}

/** Hears every source, and keeps what to wait for. */
function emitLook(code: Assembler): void {
  const looked = code.label('looked');
  const next = code.label('next');
  code.lea('rdx', mem({ base: 'rbp', displacement: BellTable.entries }));
  code.mov(entry(BellTable.value), 'r12');
  code.mov('ecx', mem({ base: 'rbp', width: 4 }));
  const each = code.boundLabel('each');
  code.dec('ecx').jcc('e', looked);
  code.add('rdx', BellTable.entryBytes);
  code.mov('rax', entry(BellTable.address));
  code.mov('esi', mem({ base: 'rax', width: 4 }));
  code.mov(mem({ base: 'rax', displacement: HEARD_FROM_ANNOUNCED, width: 4 }), 'esi');
  code.cmp(entry(BellTable.value), 'rsi').jcc('e', next);
  code.mov(entry(BellTable.value), 'rsi').inc('r13d');
  code.bind(next).jmp(each).bind(looked);
}

/** A target that announces on and on gets no more of us than a look after each pause. */
function emitRing(code: Assembler, end: Label): void {
  const silent = code.label('silent');
  code.test('r13d', 'r13d').jcc('e', silent);
  code.mov('edi', page(BellPage.writer)).lea('rsi', page(BellPage.message)).mov('edx', 1);
  code.mov('eax', SystemCall.write).syscall();
  // A pipe that is full says all that there is to say.
  code.cmp('rax', Errno.brokenPipe).jcc('e', end);
  emitSleep(code, BellPage.pause);
  code.bind(silent);
}

/** Blocks. Where the kernel can't wait for words, or not for so many, they are looked at again and again. */
function emitWait(code: Assembler, again: Label): void {
  const poll = code.label('poll');
  code.mov('esi', mem({ base: 'rbp', width: 4 }));
  code.cmp('esi', MOST_WORDS).jcc('a', poll);
  code.lea('rdi', mem({ base: 'rbp', displacement: BellTable.entries }));
  // No flags, and no end of it.
  code.xor('edx', 'edx').xor('r10d', 'r10d').xor('r8d', 'r8d');
  code.mov('eax', SystemCall.futexWaitv).syscall();
  code.test('rax', 'rax').jcc('ns', again);
  for (const errno of [Errno.again, Errno.interrupted]) code.cmp('rax', errno).jcc('e', again);
  code.bind(poll);
  emitSleep(code, BellPage.poll);
  code.jmp(again);
}

function emitSleep(code: Assembler, time: number): void {
  code.lea('rdi', page(time)).xor('esi', 'esi');
  code.mov('eax', SystemCall.nanosleep).syscall();
}
