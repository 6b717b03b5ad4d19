/** Compiles a program to the machine code of one site: the back end of the jump engine. */

import { address, type Address } from '../../base/brand.ts';
import { TraplineError, unreachable } from '../../base/errors.ts';
import {
  CONSUMER_COUNTER_BYTES,
  ConsumerCounter,
  ContextHeader,
  PAGE_BYTES,
  RecordHeader,
  SHARED_COUNTER_BYTES,
  SharedCounter,
  type RecordLayout,
  type SegmentLayout,
} from '../../events/layout.ts';
import type { Fetch, Program, ProgramFilter, RegisterName } from '../../probe/program.ts';
import { Assembler } from '../../x64/assembler.ts';
import { mem, type Label, type Memory } from '../../x64/operands.ts';
import type { Register64 } from '../../x64/registers.ts';
import { emitAccesses } from './access.ts';
import { emitRestoreMore, emitSaveMore, flagsSlot, FRAME_BYTES, savedSlot } from './frame.ts';
import { CacheEntry, emitCacheSlot, emitForgetCall, type SessionAddresses } from './runtime.ts';

/** What the processor and the machine's clock allow a stub to use. */
export interface StubFeatures {
  /** RDPID (CPUID.7.0:ECX[22]); without it the segment limit tells the processor. */
  readonly rdpid: boolean;
  /**
   * How the fs base is found. `memory`: by a load from `fs:[0]`, where the psABI's TLS variant II keeps
   * it (glibc, musl); 3 ns less than `rdfsbase`, whose late result delays every store that depends on
   * it. `register`: by `rdfsbase`, wherever a task may run without such a word: before the runtime
   * has set up its first thread, in Go, without libc.
   */
  readonly threadPointer: 'memory' | 'register';
}

/** Everything that the code of one consumer at one site depends on. */
export interface ProgramParts {
  readonly program: Program;
  readonly record: RecordLayout;
  readonly origin: Address;
  /** Where the site is: the value of `rip`. */
  readonly site: Address;
  readonly redZone: number;
  readonly session: SessionAddresses;
  readonly segment: SegmentLayout;
  /** The consumer's index in the segment. */
  readonly consumer: number;
  /** The next program, or the site's epilogue. */
  readonly next: Address;
  readonly features: StubFeatures;
}

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

/** What the parts of a program share while it is written. */
export interface EmitContext {
  readonly code: Assembler;
  readonly parts: ProgramParts;
  /** Loads a value as it was at the hit. */
  load(destination: Register64, fetch: Fetch): void;
}

class ProgramEmitter implements EmitContext {
  readonly code: Assembler;
  readonly parts: ProgramParts;
  readonly #leave: Label;
  /** Code that is rarely run, written behind the program. */
  readonly #cold: (() => void)[] = [];

  constructor(code: Assembler, parts: ProgramParts) {
    this.code = code;
    this.parts = parts;
    this.#leave = code.label('leave');
  }

  emit(): ProgramCode {
    const { code, parts } = this;
    const next = code.label('next');
    this.#liveness();
    this.#context();
    const { filter, action } = parts.program;
    if (action === 'record') this.#count(ConsumerCounter.hits);
    if (filter !== undefined) this.#filter(filter);
    if (action === 'count') this.#count(ConsumerCounter.aggregated);
    else this.#record();
    code.bind(this.#leave).jmp(mem({ target: next }));
    for (const emitCold of this.#cold) emitCold();
    code.align(8).bind(next).u64(parts.next);
    return { bytes: code.finish(), next: code.addressOf(next) };
  }

  load(destination: Register64, fetch: Fetch): void {
    switch (fetch.kind) {
      case 'register':
        this.#loadRegister(destination, fetch.register);
        return;
      case 'load':
      case 'stack':
      case 'comm':
        throw new TraplineError({
          code: 'unsupported',
          message: 'a dereference inside a dereference cannot be fetched by this version',
          hint: 'Fetch the pointer itself, or one level of it.',
        });
      default:
        unreachable(fetch);
    }
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
      // 0 before the runtime is set up: it would equal an empty entry's key.
      code.rdfsbase('rax').test('rax', 'rax').jcc('e', miss, 'near');
    }
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
      this.#countShared(SharedCounter.noContext);
      code.jmp(this.#leave, 'near');
    });
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

  #filter(filter: ProgramFilter): void {
    const { code } = this;
    const passed = code.label('passed');
    code.mov('eax', mem({ base: 'rcx', displacement: ContextHeader.tid }));
    for (const tid of filter.tids) code.cmp('eax', tid).jcc('e', passed, 'near');
    this.#count(ConsumerCounter.filtered);
    if (this.parts.program.action === 'count') this.#count(ConsumerCounter.hits);
    code.jmp(this.#leave, 'near');
    code.bind(passed);
  }

  #record(): void {
    const { code, parts } = this;
    emitSaveMore(code);
    this.#reserve(parts.record.maxBytes);
    code.rdtsc().shl('rdx', 32).or('rax', 'rdx');
    code.mov(mem({ base: 'rsi', displacement: RecordHeader.clock }), 'rax');
    this.#fields();
    if (parts.record.sizeOffset !== undefined) emitAccesses(this);
    this.#commit();
    emitRestoreMore(code);
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

  #fields(): void {
    const { code, parts } = this;
    parts.program.arguments.forEach((argument, index) => {
      const field = parts.record.fields[index];
      if (field === undefined || argument.fetch.kind !== 'register') return;
      const slot = mem({ base: 'rsi', displacement: field.offset });
      if (argument.type.endsWith('64')) {
        const live = liveRegister(argument.fetch.register);
        if (live === undefined) this.load('rax', argument.fetch);
        code.mov(slot, live ?? 'rax');
        return;
      }
      this.load('rax', argument.fetch);
      if (argument.type.endsWith('16')) code.movzx('eax', 'ax');
      else if (argument.type.endsWith('32')) code.mov('eax', 'eax');
      else code.movzx('eax', 'al');
      code.mov(slot, 'rax');
    });
  }

  #loadRegister(destination: Register64, register: RegisterName): void {
    const { code, parts } = this;
    if (register === 'rip') {
      code.mov(destination, parts.site);
    } else if (register === 'rsp') {
      code.lea(destination, mem({ base: 'rsp', displacement: FRAME_BYTES + parts.redZone }));
    } else if (register === 'flags') {
      this.#loadFlags(destination);
    } else {
      code.mov(destination, savedSlot(register) ?? register);
    }
  }

  /** The flags as pushfq would have given them: the six arithmetic ones are the saved ones. */
  #loadFlags(destination: Register64): void {
    const { code } = this;
    code.pushfq().pop(destination).and(destination, ~ARITHMETIC_FLAGS);
    code.mov('rdi', flagsSlot()).mov('rdx', 'rdi').shr('rdi', 8);
    code
      .and('edi', ARITHMETIC_FLAGS & 0xff)
      .and('edx', 1)
      .shl('edx', 11);
    code.or(destination, 'rdi').or(destination, 'rdx');
  }

  /** One store of eight bytes, the last one of the record. */
  #commit(): void {
    const { code, parts } = this;
    code.shr('r8', 3).mov('r8d', 'r8d');
    if (parts.features.rdpid) code.rdpid('rax');
    else code.mov('eax', CPU_NODE_SELECTOR).lsl('eax', 'eax').and('eax', 0xfff);
    code.shl('eax', 16).or('eax', parts.consumer).shl('rax', 32).or('rax', 'r8');
    code.mov(mem({ base: 'rsi', displacement: RecordHeader.stamp }), 'rax');
  }
}

/** CF, PF, AF, ZF, SF, OF. */
const ARITHMETIC_FLAGS = 0x8d5;
/** __CPUNODE_SEG of arch/x86/include/asm/segment.h: its limit's low 12 bits are the processor. */
const CPU_NODE_SELECTOR = 0x7b;

/** A register that no prologue saves and no program changes is stored as it is. */
function liveRegister(register: RegisterName): Register64 | undefined {
  if (register === 'rip' || register === 'rsp' || register === 'flags') return undefined;
  return savedSlot(register) === undefined ? register : undefined;
}
