/**
 * A session's slow path in a target: finds or claims the context of the running task when the cache
 * has no entry for it. Reached by call from programs; clobbers what the stub's frame has saved.
 */

import { address, type Address } from '../../base/brand.ts';
import { wholePages } from '../../base/page.ts';
import {
  ContextHeader,
  SegmentHeader,
  TID_UNKNOWN,
  type SegmentLayout,
} from '../../events/layout.ts';
import { Assembler } from '../../x64/assembler.ts';
import { mem, type Label } from '../../x64/operands.ts';

/** Where a session's memory lies in a target. */
export interface SessionAddresses {
  readonly liveness: Address;
  readonly segment: Address;
  readonly cache: Address;
  readonly runtime: Address;
}

/** System calls that stubs make, by their numbers on x86-64 (arch/x86/entry/syscalls/syscall_64.tbl). */
export const StubCall = {
  getpid: 39,
  prctl: 157,
  gettid: 186,
  futex: 202,
  clockGettime: 228,
  processVmReadv: 310,
} as const;
/** prctl(2): the calling task's name, 16 bytes. */
export const PR_GET_NAME = 16;

/**
 * One entry of the context cache. All threads of a process share it without locks, so an entry may
 * be a mixture of two: it is believed only if `fs:[tidOffset]`, read by the running task itself, is the
 * context's owner.
 */
export const CacheEntry = { fsBase: 0, context: 8, tidOffset: 16, bytes: 32 } as const;
/** Entries that a hash can select. */
export const CACHE_SLOTS = 1024;
/** Entries tried from the selected one on; as many stand behind the last slot. */
const CACHE_WAYS = 8;
/** u32 behind the entries: the number of this address space, 0 before it took one; a forked child's is wiped like the rest. */
const SPACE_NUMBER = (CACHE_SLOTS + CACHE_WAYS) * CacheEntry.bytes;
/** Bytes of the cache, whole pages. */
export const CACHE_BYTES: number = wholePages(SPACE_NUMBER + 4);

/**
 * Puts the address of the cache slot for the fs base in rax into rcx. Clobbers rdx. Stacks of threads
 * lie at distances of their size and a guard page: the page number spreads them well by itself.
 */
export function emitCacheSlot(code: Assembler, cache: Address): void {
  const entryShift = Math.log2(CacheEntry.bytes);
  code.mov('edx', 'eax').shr('edx', 12 - entryShift);
  code.and('edx', (CACHE_SLOTS - 1) * CacheEntry.bytes);
  code.mov('rcx', cache).add('rcx', 'rdx');
}

/**
 * The slow path. In: rax the fs base, or 0. Out: rcx the context's address, or 0 if none is left, and
 * then edx the task's id. Clobbers rax, rdx and the flags; keeps everything else, on 72 bytes of stack.
 *
 * A signal may interrupt it anywhere and run it again on the same task: the inner run then claims
 * a second context, since the outer one's is not complete before its pid is written. Both are right.
 */
export function emitRuntime(
  origin: Address,
  session: Omit<SessionAddresses, 'runtime'>,
  layout: SegmentLayout,
): Uint8Array {
  const code = new Assembler(origin);
  const work = code.label('work');
  code.push('rsi').push('rdi').push('r8').push('r11').call(work);
  emitForgetCall(code);
  code.pop('r11').pop('r8').pop('rdi').pop('rsi').ret();
  code.bind(work);
  const ask = code.label('ask');
  emitCacheSlot(code, session.cache);
  code.mov('rdi', 'rcx');
  emitWays(code, ask);
  code.bind(ask);
  // r8: fs base, rdi: cache slot, edx: tid, esi: pid
  code.mov('r8', 'rax');
  code.mov('eax', StubCall.gettid).syscall().mov('edx', 'eax');
  code.mov('eax', StubCall.getpid).syscall().mov('esi', 'eax');
  const found = code.label('found');
  emitSpaceNumber(code, session);
  emitFindOwn(code, session.segment, layout, found);
  emitClaim(code, session, layout, found);
  code.bind(found);
  emitRemember(code, session.segment);
  return code.finish();
}

/**
 * Wipes the return address of a call that has returned. In an uninitialised part of a later frame it would
 * look, to the scan before code is freed, as if somebody were still to return there: for as long as
 * a task sleeps in that frame.
 */
export function emitForgetCall(code: Assembler): void {
  code.mov(mem({ base: 'rsp', displacement: -8, width: 8 }), 0);
}

/** Tries the entries behind the first; falls to `ask` when none is the task's own. */
function emitWays(code: Assembler, ask: Label): void {
  const again = code.label('again');
  const next = code.label('next');
  code.test('rax', 'rax').jcc('e', ask);
  code.mov('r8d', CACHE_WAYS).mov('r11', 'rdi');
  code.bind(again);
  code.cmp(mem({ base: 'r11' }), 'rax').jcc('ne', next);
  code.mov('rcx', mem({ base: 'r11', displacement: CacheEntry.context }));
  code.mov('rdx', mem({ base: 'r11', displacement: CacheEntry.tidOffset }));
  code.mov('edx', mem({ segment: 'fs', base: 'rdx' }));
  code.cmp('edx', mem({ base: 'rcx', displacement: ContextHeader.tid })).jcc('ne', next);
  code.ret();
  code.bind(next);
  code.add('r11', CacheEntry.bytes).dec('r8').jcc('ne', again);
}

/** Runs a body on each context in turn, in rcx; it may jump to `next`, or out. Clobbers r11. */
function emitEachContext(
  code: Assembler,
  segment: Address,
  layout: SegmentLayout,
  emitBody: (next: Label) => void,
): void {
  const again = code.label('again');
  const next = code.label('next');
  code.mov('rcx', address(segment + BigInt(layout.contextsOffset)));
  code.mov('r11d', layout.contextCount);
  code.bind(again);
  emitBody(next);
  code.bind(next);
  code.add('rcx', layout.contextStride).dec('r11').jcc('ne', again);
}

/** Puts the number of this address space into eax; takes one at the first call in it. Clobbers rcx and r11. */
function emitSpaceNumber(
  code: Assembler,
  { cache, segment }: Pick<SessionAddresses, 'cache' | 'segment'>,
): void {
  const have = code.label('have');
  const number = mem({ base: 'rcx', width: 4 });
  code.mov('rcx', address(cache + BigInt(SPACE_NUMBER))).mov('eax', number);
  code.test('eax', 'eax').jcc('ne', have);
  code.mov('r11', address(segment + BigInt(SegmentHeader.spaces))).mov('eax', 1);
  code.lock().xadd(mem({ base: 'r11' }), 'eax');
  code.lea('r11', mem({ base: 'rax', displacement: 1 })).xor('eax', 'eax');
  // Another task of this space, or a handler on this one, may have been first.
  code.lock().cmpxchg(number, 'r11d').jcc('ne', have).mov('eax', 'r11d');
  code.bind(have);
}

/** Looks for a context that edx:esi (tid, pid) of the space eax owns already; jumps to `found` with it in rcx. */
function emitFindOwn(code: Assembler, segment: Address, layout: SegmentLayout, found: Label): void {
  emitEachContext(code, segment, layout, (next) => {
    code.cmp(mem({ base: 'rcx', displacement: ContextHeader.tid }), 'edx').jcc('ne', next);
    // Children that were put into pid namespaces of their own may have the same ids.
    code.cmp(mem({ base: 'rcx', displacement: ContextHeader.space }), 'eax').jcc('ne', next);
    code.cmp(mem({ base: 'rcx', displacement: ContextHeader.pid }), 'esi').jcc('e', found);
  });
}

/** Claims a free context for edx:esi; returns 0 if there is none, else goes on to `found`. */
function emitClaim(
  code: Assembler,
  { cache, segment }: Pick<SessionAddresses, 'cache' | 'segment'>,
  layout: SegmentLayout,
  found: Label,
): void {
  const begun = code.label('begun');
  // First of all: a signal handler that never returns may leave a context claimed, but not uncounted.
  code.mov('rax', address(segment + BigInt(SegmentHeader.claimed)));
  code.lock().inc(mem({ base: 'rax', width: 8 }));
  emitEachContext(code, segment, layout, (next) => {
    code.mov('eax', mem({ base: 'rcx', displacement: ContextHeader.tid }));
    code.test('eax', 'eax').jcc('ne', next);
    code.lock().cmpxchg(mem({ base: 'rcx', displacement: ContextHeader.tid }), 'edx');
    code.jcc('ne', next);
    // A context that nobody has had is all zeros. A signal's handler that hits now has its own: this one has no
    // process yet.
    code.cmp(mem({ base: 'rcx', displacement: ContextHeader.head, width: 8 }), 0).jcc('ne', begun);
    code.mov('eax', layout.ringBytes);
    code.mov(mem({ base: 'rcx', displacement: ContextHeader.tail }), 'rax');
    code.mov(mem({ base: 'rcx', displacement: ContextHeader.head }), 'rax');
    code.bind(begun);
    // prctl returns in rax and clobbers rcx and r11; rdi and rsi carry its arguments.
    code.push('rdi').push('rsi').push('rcx').push('rdx');
    code.mov('edi', PR_GET_NAME);
    code.lea('rsi', mem({ base: 'rcx', displacement: ContextHeader.comm }));
    code.mov('eax', StubCall.prctl).syscall();
    code.pop('rdx').pop('rcx').pop('rsi').pop('rdi');
    code.mov('rax', address(cache + BigInt(SPACE_NUMBER))).mov('eax', mem({ base: 'rax' }));
    code.mov(mem({ base: 'rcx', displacement: ContextHeader.space }), 'eax');
    code.mov(mem({ base: 'rcx', displacement: ContextHeader.pid }), 'esi');
    code.mov(mem({ base: 'rcx', displacement: ContextHeader.ready, width: 4 }), 1);
    code.jmp(found);
  });
  code.xor('ecx', 'ecx').ret();
}

/** Enters rcx into the cache, if the runtime's thread id is known and is the kernel's; returns. */
function emitRemember(code: Assembler, segment: Address): void {
  const done = code.label('done');
  code.test('r8', 'r8').jcc('e', done);
  code.mov('rax', address(segment + BigInt(SegmentHeader.tidOffset)));
  code.movsx('rax', mem({ base: 'rax', width: 4 }));
  code.cmp('eax', TID_UNKNOWN | 0).jcc('e', done);
  code.cmp(mem({ segment: 'fs', base: 'rax' }), 'edx').jcc('ne', done);
  // The first entry that is free or has this key: a hit finds only the very first one without a call. If
  // all are taken, one by thread id, so that two tasks with one slot don't take turns.
  const again = code.label('again');
  const store = code.label('store');
  code.mov('r11', 'rdi').mov('esi', CACHE_WAYS);
  code.bind(again);
  code.cmp(mem({ base: 'r11', width: 8 }), 0).jcc('e', store);
  code.cmp(mem({ base: 'r11' }), 'r8').jcc('e', store);
  code.add('r11', CacheEntry.bytes).dec('esi').jcc('ne', again);
  code.and('edx', CACHE_WAYS - 1).imul('edx', 'edx', CacheEntry.bytes);
  code.lea('r11', mem({ base: 'rdi', index: 'rdx' }));
  code.bind(store);
  // The key is written last and cleared first: a signal in between finds no entry, never half of one.
  code.mov(mem({ base: 'r11', width: 8 }), 0);
  code.mov(mem({ base: 'r11', displacement: CacheEntry.context }), 'rcx');
  code.mov(mem({ base: 'r11', displacement: CacheEntry.tidOffset }), 'rax');
  code.mov(mem({ base: 'r11', displacement: CacheEntry.fsBase }), 'r8');
  code.bind(done);
  code.ret();
}
