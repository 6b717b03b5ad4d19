/**
 * Runs any piece of code on the processor and tells what it left behind, however it ended: every
 * place that control can go to holds a breakpoint or can't be executed, and a signal handler of our
 * own machine code takes the registers from the frame that the kernel made and leaves the code.
 *
 * It takes the signals of the process, so it belongs into a process that does nothing else.
 */

import koffi from 'koffi';
import { address } from '../../../src/base/brand.ts';
import { Assembler } from '../../../src/x64/assembler.ts';
import { mem, type Memory } from '../../../src/x64/operands.ts';
import { REGISTERS } from '../../../src/x64/registers.ts';
import { callCode, mapData, mapRegion, SAVED, type Region } from './executable.ts';
import type { Random } from '../../harness/random.ts';

const libc = koffi.load('libc.so.6');
const sigaction = libc.func('int sigaction(int number, const void *action, void *old)');
const sigaltstack = libc.func('int sigaltstack(const void *stack, void *old)');
const timerCreate = libc.func('int timer_create(int clock, const void *event, void *timer)');
const timerSettime = libc.func(
  'int timer_settime(void *timer, int flags, const void *value, void *old)',
);

/**
 * Below 2 GB, so that the code names its own data without a register, and at no round distance from the
 * arena: a stack pointer that code under test made of others must not get into the signal stack.
 */
const CONTROL = 0x70ab_c000;
const CONTROL_BYTES = 0x20000;
const At = {
  code: CONTROL,
  query: CONTROL + 0xf00,
  running: CONTROL + 0x1000,
  ticks: CONTROL + 0x1008,
  stack: CONTROL + 0x1010,
  fsBase: CONTROL + 0x1018,
  mxcsr: CONTROL + 0x1020,
  controlWord: CONTROL + 0x1028,
  state: CONTROL + 0x1100,
  end: CONTROL + 0x1200,
  vectors: CONTROL + 0x2000,
  image: CONTROL + 0x3000,
  signalStack: CONTROL + 0x4000,
} as const;

/**
 * Memory that the code may use. Below 4 GB, so that addresses of 32 bits are good too, and where a pointer plus
 * 2, 4 or 8 times another is not in this process's program or heap, cut to 32 bits or not.
 */
const ARENA = 0xf000_0000;
const ARENA_BYTES = 0x8000;
const FS_BASE = ARENA + 0x4000;
const GS_BASE = ARENA + 0x3000;

/** Words of a state: sixteen registers in encoding order, the flags, rip. */
export const WORDS = 18;
export const RSP = 4;
export const FLAGS = 16;
export const RIP = 17;

/** Words of an end: signal, its code, its address, and the kernel's sigcontext (uapi/asm/sigcontext.h). */
export const End = {
  signal: 0,
  code: 1,
  address: 2,
  rsp: 18,
  rip: 19,
  trap: 23,
  cr2: 25,
  words: 26,
} as const;
/** The area that XSAVE writes (Intel SDM volume 1, 13.4): as much of it as is for vector registers. */
const VECTOR_BYTES = 2752;
/** Bytes of its legacy part, and of its header. */
const LEGACY_BYTES = 512;
const HEADER_BYTES = 64;
/** State components: x87, xmm, high halves of ymm; k0 to k7, high halves of zmm0 to zmm15, zmm16 to zmm31. */
const COMPONENTS = 0xe7;
const REG = { rsp: 15, rip: 16, flags: 17 } as const;
const CONTEXT = { registers: 40, words: 23, vectors: 224 } as const;

const SIGNAL = { ill: 4, trap: 5, bus: 7, fpe: 8, segv: 11, vtalrm: 26 } as const;
const ARCH_PRCTL = 158;
const EXIT_GROUP = 231;
/** The exit status after a fault that no code under test made. */
const STRAY = 97;
const ARCH = { setGs: 0x1001, setFs: 0x1002, getFs: 0x1003 } as const;

const at = (place: number, width?: 4 | 8): Memory =>
  mem(width === undefined ? { displacement: place } : { displacement: place, width });

/** An instruction with one absolute operand: ModRM.rm 100, SIB without base and index. */
function withOperand(code: Assembler, opcode: readonly number[], reg: number, place: number): void {
  code.raw([
    ...opcode,
    (reg << 3) | 4,
    0x25,
    place & 255,
    (place >> 8) & 255,
    (place >> 16) & 255,
    place >>> 24,
  ]);
}

function archPrctl(code: Assembler, operation: number, value: number | Memory): void {
  code
    .mov('rdi', operation)
    .mov('rsi', typeof value === 'number' ? BigInt(value) : value)
    .mov('rax', ARCH_PRCTL)
    .syscall();
}

/** Where the processor puts state components, and which the kernel uses: a function (component or 0). */
function assembleQuery(): Uint8Array {
  const code = new Assembler(address(BigInt(At.query)));
  const place = code.label('place');
  code.push('rbx').mov('rax', 'rdi').cmp('rdi', 0).jcc('ne', place);
  // xgetbv: XCR0
  code.mov('rcx', 0).raw([0x0f, 0x01, 0xd0]).pop('rbx').ret();
  code.bind(place).mov('rcx', 'rdi').mov('rax', 13).raw([0x0f, 0xa2]); // cpuid
  // The offset above the size.
  code.mov('rcx', 'rax').mov('rax', 'rbx').shl('rax', 32).or('rax', 'rcx').pop('rbx').ret();
  return code.finish();
}

/** The way in, the signal handler and the way out; returns the handler's address. */
function assembleControl(): { readonly bytes: Uint8Array; readonly handler: bigint } {
  const code = new Assembler(address(BigInt(At.code)));
  const [exit, collect, stray, handler] = ['exit', 'collect', 'stray', 'handler'].map((name) =>
    code.label(name),
  );
  if (!exit || !collect || !stray || !handler) throw new Error('four labels were made');
  enter(code);
  code.bind(handler).cmp(at(At.running, 8), 0).jcc('e', stray);
  code.cmp('rdi', SIGNAL.vtalrm).jcc('ne', collect).inc(at(At.ticks, 8));
  code.cmp(at(At.ticks, 8), 2).jcc('ae', collect).ret();
  // Outside a run the timer is nothing, and anything else is our own fault: exit_group(STRAY).
  code.bind(stray).cmp('rdi', SIGNAL.vtalrm);
  const ours = code.label('ours');
  code.jcc('ne', ours).ret();
  code.bind(ours).mov('rdi', STRAY).mov('rax', EXIT_GROUP).syscall();
  code.bind(collect).mov(at(At.end), 'rdi');
  code.mov('rax', mem({ base: 'rsi', displacement: 8 })).mov(at(At.end + 8), 'rax');
  code.mov('rax', mem({ base: 'rsi', displacement: 16 })).mov(at(At.end + 16), 'rax');
  code.lea('rsi', mem({ base: 'rdx', displacement: CONTEXT.registers }));
  code
    .mov('rdi', At.end + 24)
    .mov('rcx', CONTEXT.words * 8)
    .repMovsb();
  code.mov('rsi', mem({ base: 'rdx', displacement: CONTEXT.vectors }));
  code.mov('rdi', At.vectors).mov('rcx', VECTOR_BYTES).repMovsb();
  const register = (index: number): Memory =>
    mem({ base: 'rdx', displacement: CONTEXT.registers + index * 8, width: 8 });
  code.lea('rax', mem({ target: exit })).mov(register(REG.rip), 'rax');
  code.mov('rax', at(At.stack)).mov(register(REG.rsp), 'rax').mov(register(REG.flags), 0x202).ret();
  // sigreturn leaves the flag NT as the code set it, and an iretq would fault.
  code.bind(exit).raw([0x68, 0x02, 0x02, 0, 0]).popfq(); // push 0x202
  code.mov(at(At.running, 8), 0).raw([0xdb, 0xe3]); // fninit
  withOperand(code, [0xd9], 5, At.controlWord); // fldcw
  withOperand(code, [0x0f, 0xae], 2, At.mxcsr); // ldmxcsr
  archPrctl(code, ARCH.setGs, 0);
  archPrctl(code, ARCH.setFs, at(At.fsBase));
  for (const name of SAVED.toReversed()) code.pop(name);
  code.ret();
  return { bytes: code.finish(), handler: code.addressOf(handler) };
}

function enter(code: Assembler): void {
  for (const name of SAVED) code.push(name);
  code.mov(at(At.stack), 'rsp');
  archPrctl(code, ARCH.getFs, At.fsBase);
  archPrctl(code, ARCH.setFs, FS_BASE);
  archPrctl(code, ARCH.setGs, GS_BASE);
  withOperand(code, [0x0f, 0xae], 3, At.mxcsr); // stmxcsr
  withOperand(code, [0xd9], 7, At.controlWord); // fnstcw
  code.mov('rax', COMPONENTS).mov('rdx', 0);
  withOperand(code, [0x0f, 0xae], 5, At.image); // xrstor
  code.mov(at(At.ticks, 8), 0).mov(at(At.running, 8), 1);
  code
    .raw([0x6a, 0x2b])
    .push(at(At.state + RSP * 8))
    .push(at(At.state + FLAGS * 8)); // push __USER_DS
  code.raw([0x6a, 0x33]).push(at(At.state + RIP * 8)); // push __USER_CS
  for (const { number, 8: name } of REGISTERS) {
    if (name !== 'rsp') code.mov(name, at(At.state + number * 8));
  }
  // It serializes, so bytes that were written under another address are seen (Intel SDM volume 3, 9.1.3).
  code.raw([0x48, 0xcf]); // iretq
}

/**
 * Words such as code meets: pointers into the arena, small numbers, anything. Bits 8 and 18 are clear
 * wherever they may come to be flags: single steps and alignment checks are not what is compared.
 */
export function fillWords(bytes: Uint8Array, random: Random): void {
  const words = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 3);
  for (let index = 0; index < words.length; index++) words[index] = randomWord(random) & ~0x40100n;
}

/** A word for a register or memory: half of them point into the middle of the arena. */
export function randomWord(random: Random): bigint {
  switch (random.below(8)) {
    case 0:
    case 1:
      return BigInt(random.below(256));
    case 2:
      return BigInt.asUintN(64, -BigInt(random.below(256)));
    case 3:
      return (BigInt(random.below(2 ** 32)) << 32n) | randomHalf(random);
    default:
      return arenaPointer(random);
  }
}

/** 32 bits that, as an address, are not in this process's program or heap. */
function randomHalf(random: Random): bigint {
  const half = random.below(2 ** 32);
  return BigInt(half % 2 === 0 ? (half | 0x8000_0000) >>> 0 : half & 0x3f_ffff);
}

/** An address in the middle of the arena. */
export function arenaPointer(random: Random): bigint {
  return BigInt(ARENA + 0x2000 + random.below(0x800) * 8);
}

/** A signal after each 50 ms of this thread's own time, to this thread, which is the process's first. */
function startTimer(): void {
  const event = Buffer.alloc(64);
  event.writeInt32LE(SIGNAL.vtalrm, 8);
  event.writeInt32LE(4, 12); // SIGEV_THREAD_ID
  event.writeInt32LE(process.pid, 16);
  const timer = Buffer.alloc(8);
  if (timerCreate(3, event, timer) !== 0) throw new Error('timer_create'); // CLOCK_THREAD_CPUTIME_ID
  const interval = Buffer.alloc(32);
  for (const offset of [8, 24]) interval.writeBigInt64LE(50_000_000n, offset);
  if (timerSettime(timer.readBigUInt64LE(), 0, interval, null) !== 0)
    throw new Error('timer_settime');
}

/** An address above all that {@link arenaPointer} gives. */
export function stackPointer(random: Random): bigint {
  return BigInt(ARENA + 0x7000 + random.below(0x80) * 8);
}

/** The processor, with memory that is the same at each start. */
export class Processor {
  readonly #control: Region;
  /** Each state component behind the legacy ones: its bit, and where it lies. */
  readonly #components: { readonly bit: number; readonly from: number; readonly to: number }[] = [];
  readonly #watched: { readonly bytes: Uint8Array; readonly pristine: Uint8Array }[] = [];
  /** What the code starts with: {@link WORDS} words. */
  readonly state: BigUint64Array;
  /** How the last run ended: {@link End}. */
  readonly end: BigUint64Array;
  /** The vector registers at the end. */
  readonly vectors: Uint8Array;

  constructor(random: Random) {
    this.#control = mapRegion(BigInt(CONTROL), CONTROL_BYTES);
    this.state = new BigUint64Array(this.#view(At.state, WORDS * 8).buffer, 0x1100, WORDS);
    this.end = new BigUint64Array(this.#control.bytes.buffer, 0x1200, End.words);
    this.vectors = this.#view(At.vectors, VECTOR_BYTES);
    this.#control.bytes.set(assembleQuery(), At.query - At.code);
    this.#findComponents();
    this.#fillImage(random);
    const { bytes, handler } = assembleControl();
    this.#control.bytes.set(bytes);
    this.#takeSignals(handler);
    const arena = mapData(BigInt(ARENA), ARENA_BYTES);
    fillWords(arena, random);
    this.watch(arena);
  }

  /** Memory that is put back to what it is now before each run, and that belongs to its result. */
  watch(bytes: Uint8Array): void {
    this.#watched.push({ bytes, pristine: bytes.slice() });
  }

  /** Runs from {@link state}. */
  run(): void {
    for (const { bytes, pristine } of this.#watched) bytes.set(pristine);
    callCode(BigInt(At.code), 0n, 0n);
    this.#normalize();
  }

  /** Whether the last run was ended by the timer. */
  get isEndless(): boolean {
    return this.end[End.signal] === BigInt(SIGNAL.vtalrm);
  }

  /** All watched memory as it is now. */
  memory(): Uint8Array[] {
    return this.#watched.map(({ bytes }) => bytes.slice());
  }

  /** Where watched memory differs from what {@link memory} gave: [region, offset]. */
  differs(memory: readonly Uint8Array[]): readonly [number, number] | undefined {
    for (const [region, { bytes }] of this.#watched.entries()) {
      const other = memory[region];
      if (other === undefined || Buffer.compare(bytes, other) === 0) continue;
      return [region, bytes.findIndex((byte, offset) => byte !== other[offset])];
    }
    return undefined;
  }

  #view(place: number, length: number): Uint8Array {
    const from = place - CONTROL;
    return this.#control.bytes.subarray(from, from + length);
  }

  #findComponents(): void {
    const enabled = Number(callCode(BigInt(At.query), 0n, 0n)) & COMPONENTS;
    for (let component = 2; component < 8; component++) {
      const bit = 1 << component;
      if ((enabled & bit) === 0) continue;
      const place = callCode(BigInt(At.query), BigInt(component), 0n);
      const from = Number(place >> 32n);
      const to = from + Number(place & 0xffff_ffffn);
      if (to > VECTOR_BYTES) throw new Error(`state component ${component} ends at ${to}`);
      this.#components.push({ bit, from, to });
    }
  }

  /** Registers that are not in their initial configuration, all of them valid numbers. */
  #fillImage(random: Random): void {
    const image = this.#view(At.image, VECTOR_BYTES);
    for (let offset = 0; offset < VECTOR_BYTES; offset++) image[offset] = random.below(256);
    const view = new DataView(image.buffer, image.byteOffset, VECTOR_BYTES);
    image.fill(0, 0, 32);
    view.setUint16(0, 0x37f, true); // FCW
    image[4] = 0xf0; // FTW: four registers in use
    view.setUint32(24, 0x1f80, true); // MXCSR
    // Ten bytes in sixteen each; 1.0 has the exponent 3fff and the integer bit.
    for (let from = 32; from < 160; from += 16) {
      image[from + 7] = 0x80 | (image[from + 7] ?? 0);
      view.setUint16(from + 8, 0x3fff, true);
      image.fill(0, from + 10, from + 16);
    }
    image.fill(0, 416, LEGACY_BYTES + HEADER_BYTES);
    const bits = this.#components.reduce((all, { bit }) => all | bit, 3);
    view.setUint32(LEGACY_BYTES, bits, true); // XSTATE_BV
  }

  #takeSignals(handler: bigint): void {
    const stack = Buffer.alloc(24);
    stack.writeBigUInt64LE(BigInt(At.signalStack), 0);
    stack.writeBigUInt64LE(BigInt(CONTROL + CONTROL_BYTES - At.signalStack), 16);
    const action = Buffer.alloc(152);
    action.writeBigUInt64LE(handler, 0);
    action.writeUInt32LE(0x4 | 0x0800_0000 | 0x4000_0000 | 0x1000_0000, 136); // SIGINFO ONSTACK NODEFER RESTART
    if (sigaltstack(stack, null) !== 0) throw new Error('sigaltstack');
    for (const number of Object.values(SIGNAL)) {
      if (sigaction(number, action, null) !== 0) throw new Error(`sigaction ${number}`);
    }
    startTimer();
  }

  /** What XSAVE leaves out because it is in its initial configuration is written as such. */
  #normalize(): void {
    const present = this.vectors[LEGACY_BYTES] ?? 0;
    if ((present & 1) === 0) this.vectors.fill(0, 0, 24).fill(0, 32, 160);
    if ((present & 2) === 0) this.vectors.fill(0, 160, 416);
    let end = LEGACY_BYTES + HEADER_BYTES;
    this.vectors.fill(0, 416, end);
    for (const { bit, from, to } of this.#components) {
      // What lies between is of components that nobody compares.
      if (from > end) this.vectors.fill(0, end, from);
      if ((present & bit) === 0) this.vectors.fill(0, from, to);
      end = Math.max(end, to);
    }
    this.vectors.fill(0, end);
    // si_code is an int, and the fault address is left from an earlier fault unless this was one (vector 14).
    this.end[End.code] = BigInt.asUintN(32, this.end[End.code] ?? 0n);
    if (this.end[End.trap] !== 14n) this.end[End.cr2] = 0n;
  }
}
