/** Compiles a program to the machine code of one site: the back end of the jump engine. */

import { address, type Address } from '../../base/brand.ts';
import { PAGE_BYTES } from '../../base/page.ts';
import {
  CONSUMER_COUNTER_BYTES,
  ConsumerCounter,
  ContextHeader,
  RECORD_HEADER_BYTES,
  RecordHeader,
  SHARED_COUNTER_BYTES,
  SharedCounter,
  VOID_EVENT,
} from '../../events/layout.ts';
import type { Fetch } from '../../probe/program.ts';
import { Assembler } from '../../x64/assembler.ts';
import { mem, type Label, type Memory } from '../../x64/operands.ts';
import type { Register64 } from '../../x64/registers.ts';
import { emitFaultMaskReset, emitGroup, emitInteger, emitTaskName, inRecord } from './access.ts';
import { emitAnnouncement } from './announce-code.ts';
import { emitLoad, emitLoadArgument, liveRegister } from './fetch-code.ts';
import type { EmitContext, ProgramParts } from './emit-context.ts';
import { emitFilter, splitFilter, type SplitFilter } from './filter-code.ts';
import { emitRestoreMore, emitSaveMore } from './frame.ts';
import { isMemory, ReadPlan } from './reads.ts';
import { CacheEntry, emitCacheSlot, emitForgetCall } from './runtime.ts';
import { emitTime } from './time-code.ts';
import { emitConstantTexts, emitShrink, emitStrings } from './texts.ts';

/** A program's code, to be written at its origin. */
export interface ProgramCode {
  readonly bytes: Uint8Array;
  /** The 8-byte word that holds the next program's address. */
  readonly next: Address;
}

/**
 * Compiles a program. Registers while it records: rcx the context, rsi the record, r8 its position, rax
 * rdx rdi r11 scratch; all others are the program under test's.
 * @throws TraplineError `unsupported` for a fetch that the jump engine can't do.
 */
export function compileProgram(parts: ProgramParts): ProgramCode {
  const code = new Assembler(parts.origin);
  const emitter = new ProgramEmitter(code, parts);
  return emitter.emit();
}

class ProgramEmitter implements EmitContext {
  readonly code: Assembler;
  readonly parts: ProgramParts;
  hasSavedMore = false;
  readonly #filter: SplitFilter;
  readonly #leave: Label;
  /** Code that is rarely run, written behind the program. */
  readonly #cold: (() => void)[] = [];

  constructor(code: Assembler, parts: ProgramParts) {
    this.code = code;
    this.parts = parts;
    this.#filter = splitFilter(parts.program.filter);
    this.#leave = code.label('leave');
  }

  emit(): ProgramCode {
    const { code, parts } = this;
    const next = code.label('next');
    this.#liveness();
    if (parts.program.action === 'announce') emitAnnouncement(code, parts, this.#leave);
    else this.#hit();
    code.bind(this.#leave).jmp(mem({ target: next }));
    for (const emitCold of this.#cold) emitCold();
    code.align(8).bind(next).u64(parts.next);
    return { bytes: code.finish(), next: code.addressOf(next) };
  }

  #hit(): void {
    this.#context();
    this.#early();
    if (this.#needsRing) this.#reserving();
    else this.#count(ConsumerCounter.aggregated);
  }

  get #needsRing(): boolean {
    return this.parts.program.action === 'record' || this.#filter.late !== undefined;
  }

  load(destination: Register64, fetch: Fetch): void {
    emitLoad(this, destination, fetch);
  }

  emitProcessor(): void {
    const { code, parts } = this;
    if (parts.features.rdpid) code.rdpid('rax').and('eax', 0xfff);
    else code.mov('eax', CPU_NODE_SELECTOR).lsl('eax', 'eax').and('eax', 0xfff);
  }

  /** One load: bit 30 of the word is FUTEX_OWNER_DIED, set by the kernel or at the session's end. */
  #liveness(): void {
    const { code, parts } = this;
    const gone = code.label('gone');
    code.mov('rcx', parts.session.liveness);
    code.test(mem({ base: 'rcx', displacement: 3, width: 1 }), 0x40).jcc('ne', gone, 'near');
    this.#cold.push(() => {
      code.bind(gone);
      this.#countShared(SharedCounter.tracerGone);
      code.jmp(this.#leave, 'near');
    });
  }

  /** Finds the task's context, in rcx. */
  #context(): void {
    const { code, parts } = this;
    const miss = code.label('miss');
    const have = code.label('have');
    if (parts.features.threadPointer === 'memory') {
      code.mov('rax', mem({ segment: 'fs', displacement: 0 }));
    } else {
      code.rdfsbase('rax');
    }
    // 0 before the runtime is set up, and where a task was made with other memory for its thread pointer than the
    // runtime's: it would equal an empty entry's key.
    code.test('rax', 'rax').jcc('e', miss, 'near');
    emitCacheSlot(code, parts.session.cache);
    code.cmp(mem({ base: 'rcx', displacement: CacheEntry.fsBase }), 'rax').jcc('ne', miss, 'near');
    code.mov('rdx', mem({ base: 'rcx', displacement: CacheEntry.tidOffset }));
    code.mov('rcx', mem({ base: 'rcx', displacement: CacheEntry.context }));
    // Read through fs, not from the entry: an entry mixed from two threads' is found out here.
    code.mov('edx', mem({ segment: 'fs', base: 'rdx' }));
    code.cmp('edx', mem({ base: 'rcx', displacement: ContextHeader.tid })).jcc('ne', miss, 'near');
    code.bind(have);
    this.#cold.push(() => {
      code.bind(miss);
      code.mov('rcx', parts.session.runtime).call('rcx');
      emitForgetCall(code);
      code.test('rcx', 'rcx').jcc('ne', have, 'near');
      this.#withoutContext();
    });
  }

  /** No context was left for the task, whose id is in edx. Counting needs none; what needs a ring is lost. */
  #withoutContext(): void {
    const { code } = this;
    const refused = code.label('refused');
    this.#filterWithoutContext(refused);
    this.#countShared(this.#needsRing ? SharedCounter.noContext : SharedCounter.aggregated);
    code.jmp(this.#leave, 'near');
    if (this.#filter.early.length === 0) return;
    code.bind(refused);
    this.#countShared(SharedCounter.filtered);
    code.jmp(this.#leave, 'near');
  }

  /** The early part again, which asks a context for nothing but the task's id: the stack stands for one. */
  #filterWithoutContext(refused: Label): void {
    const { code } = this;
    const { early } = this.#filter;
    if (early.length === 0) return;
    // Signals leave alone what is so little below the stack's end; a load pushes one word.
    const below = -16;
    code.mov(mem({ base: 'rsp', displacement: below }), 'edx');
    code.lea('rcx', mem({ base: 'rsp', displacement: below - ContextHeader.tid }));
    // Written last, run before anything more is saved.
    const { hasSavedMore } = this;
    this.hasSavedMore = false;
    for (const filter of early) emitFilter(this, filter, refused, false);
    this.hasSavedMore = hasSavedMore;
  }

  #counter(which: number): Memory {
    const at = PAGE_BYTES + this.parts.consumer * CONSUMER_COUNTER_BYTES + which;
    return mem({ base: 'rcx', displacement: at, width: 8 });
  }

  /** Unlocked: the counter belongs to this task, and one instruction is atomic against its signals. */
  #count(which: number): void {
    this.code.inc(this.#counter(which));
  }

  #countShared(which: number): void {
    const { code, parts } = this;
    const at = PAGE_BYTES + parts.consumer * SHARED_COUNTER_BYTES + which;
    code.mov('rcx', address(parts.session.segment + BigInt(at)));
    code.lock().inc(mem({ base: 'rcx', width: 8 }));
  }

  /** What of the filter needs no memory: nothing is saved or counted before it. */
  #early(): void {
    const { code } = this;
    if (this.#filter.early.length === 0) return;
    const refused = code.label('refused');
    for (const filter of this.#filter.early) emitFilter(this, filter, refused, false);
    this.#cold.push(() => {
      code.bind(refused);
      this.#count(ConsumerCounter.filtered);
      code.jmp(this.#leave, 'near');
    });
  }

  /** A record, or a count whose filter reads memory: both need bytes of the ring. */
  #reserving(): void {
    const { code, parts } = this;
    const { program, record } = parts;
    const plan = new ReadPlan(program, record, this.#filter.late);
    this.#count(ConsumerCounter.hits);
    emitSaveMore(code);
    this.hasSavedMore = true;
    this.#reserve(record.maxBytes);
    this.#late(plan);
    if (program.action === 'count') {
      this.#giveBack(ConsumerCounter.aggregated);
    } else {
      emitTime(code, parts.features.clock);
      code.mov(mem({ base: 'rsi', displacement: RecordHeader.clock }), 'rax');
      this.#fields();
      if (record.sizeOffset !== undefined) this.#memory(plan);
      this.#commit(parts.consumer);
    }
    emitRestoreMore(code);
  }

  /** What of the filter reads memory. */
  #late(plan: ReadPlan): void {
    const { code } = this;
    const { late } = this.#filter;
    if (late === undefined) return;
    const refused = code.label('refused');
    for (const group of plan.filterGroups) emitGroup(this, group, plan.spare);
    if (plan.filterName !== undefined) emitTaskName(this, plan.filterName);
    emitFilter(this, late, refused, false, plan);
    this.#cold.push(() => {
      code.bind(refused);
      this.#giveBack(ConsumerCounter.filtered);
      emitRestoreMore(code);
      code.jmp(this.#leave, 'near');
    });
  }

  /**
   * Gives all that was reserved back; where a nested hit has reserved behind it, commits it as no record. The
   * hit is counted under another name.
   */
  #giveBack(counter: number): void {
    const { code, parts } = this;
    const { maxBytes } = parts.record;
    const given = code.label('given');
    code.lea('rax', mem({ base: 'r8', displacement: maxBytes }));
    code.cmpxchg(mem({ base: 'rcx', displacement: ContextHeader.head, width: 8 }), 'r8');
    code.jcc('e', given);
    code.mov(inRecord(RECORD_HEADER_BYTES, 8), maxBytes);
    this.#commit(VOID_EVENT);
    code.bind(given);
    this.#count(counter);
    code.dec(this.#counter(ConsumerCounter.hits));
  }

  /** Everything between the plain fields and the commit of a record of variable size. */
  #memory(plan: ReadPlan): void {
    emitFaultMaskReset(this);
    for (const group of plan.recordGroups) emitGroup(this, group, plan.spare);
    for (const place of plan.integers) emitInteger(this, place);
    emitConstantTexts(this, plan.texts);
    emitStrings(this, plan.texts);
    emitShrink(this);
  }

  /** Reserves `bytes` in the ring: rsi the record, or counts the loss and leaves. */
  #reserve(bytes: number): void {
    const { code, parts } = this;
    const { segment } = parts;
    const again = code.label('again');
    const full = code.label('full');
    const head = mem({ base: 'rcx', displacement: ContextHeader.head, width: 8 });
    code.mov('rax', head);
    code.bind(again);
    code.lea('rdi', mem({ base: 'rax', displacement: bytes })).mov('rsi', 'rdi');
    code.sub('rsi', mem({ base: 'rcx', displacement: ContextHeader.tail }));
    code.cmp('rsi', segment.ringBytes).jcc('a', full, 'near');
    // Not locked: only this task and its own signal handlers reserve here.
    code.cmpxchg(head, 'rdi').jcc('ne', again);
    code.mov('esi', 'eax').and('esi', segment.ringBytes - 1);
    code.lea('rsi', mem({ base: 'rcx', index: 'rsi', displacement: segment.ringOffset }));
    this.#cold.push(() => {
      code.bind(full);
      this.#count(ConsumerCounter.ringFull);
      emitRestoreMore(code);
      code.jmp(this.#leave, 'near');
    });
    // The position survives in r8: the commit's stamp and the shrinking of the record need it.
    code.mov('r8', 'rax');
  }

  /** What is no memory and no text. */
  #fields(): void {
    const { code, parts } = this;
    parts.program.arguments.forEach((argument, index) => {
      const field = parts.record.fields[index];
      const { fetch, type, bits } = argument;
      if (field === undefined || type === 'string' || isMemory(fetch)) return;
      const slot = mem({ base: 'rsi', displacement: field.offset });
      const isWhole = bits === undefined && (type.endsWith('64') || type === 'symbol');
      const live = isWhole ? liveRegister(this, fetch) : undefined;
      if (live === undefined) emitLoadArgument(this, argument);
      code.mov(slot, live ?? 'rax');
    });
  }

  /** One store of eight bytes, the last one of the record. */
  #commit(event: number): void {
    const { code, parts } = this;
    code.shr('r8', 3).mov('r8d', 'r8d');
    if (parts.features.rdpid) code.rdpid('rax');
    else code.mov('eax', CPU_NODE_SELECTOR).lsl('eax', 'eax').and('eax', 0xfff);
    code.shl('eax', 16).or('eax', event).shl('rax', 32).or('rax', 'r8');
    code.mov(mem({ base: 'rsi', displacement: RecordHeader.stamp }), 'rax');
  }
}

/** __CPUNODE_SEG of arch/x86/include/asm/segment.h: its limit's low 12 bits are the processor. */
const CPU_NODE_SELECTOR = 0x7b;
